//! The matrix-vector kernel.

use cubecl::prelude::*;
use half::f16;

use super::MatvecConfig;
use crate::kernels::activation::{activate, silu};
use crate::kernels::bits;
use crate::kernels::product::Element;

/// Cube dimensions are `(lanes, splits, groups)`; group `CUBE_POS · groups + UNIT_POS_Z` computes its outputs for every row.
///
/// `chunks` are the vectors of a weight row, `rows` the outputs (half the weight's rows where gated).
#[cube(launch_unchecked)]
pub(super) fn matvec<W: Size, V: Size>(
    weight: &Array<Vector<u32, W>>,
    x: &Array<Vector<f32, V>>,
    norm: &ComptimeOption<Array<Vector<f32, V>>>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<f32>,
    rows: u32,
    chunks: u32,
    inverse_columns: f32,
    epsilon: f32,
    #[comptime] config: MatvecConfig,
) {
    let shape = comptime!(config.shape);
    let rows = rows as usize;
    let chunks = chunks as usize;
    let group = CUBE_POS * shape.groups + UNIT_POS_Z as usize;
    let first = group * comptime!(config.outputs_per_group());

    let mut starts = Sequence::<usize>::new();
    #[unroll]
    for output in 0..shape.outputs {
        let row = weight_row(first, output, rows, config);
        starts.push(row * chunks);
    }
    let mut sums = Array::<f32>::new(comptime!(config.sums()));
    #[unroll]
    for i in 0..comptime!(config.sums()) {
        sums[i] = 0.0f32;
    }

    let stride = comptime!(config.shape.lanes * config.shape.splits);
    let unit = (UNIT_POS_Y as usize) * shape.lanes + UNIT_POS_X as usize;
    let blocks = chunks / comptime!(config.shape.lanes * config.shape.splits * config.shape.unroll);
    for block in 0..blocks {
        let chunk = block * comptime!(config.shape.lanes * config.shape.splits * config.shape.unroll) + unit;
        accumulate::<W, V>(weight, x, norm, &starts, &mut sums, chunk, chunks, shape.unroll, config);
    }
    let mut chunk = blocks * comptime!(config.shape.lanes * config.shape.splits * config.shape.unroll) + unit;
    while chunk < chunks {
        accumulate::<W, V>(weight, x, norm, &starts, &mut sums, chunk, chunks, 1usize, config);
        chunk += stride;
    }

    // The parts of every group's sums, one after another.
    let parts = comptime!(config.parts());
    let count = comptime!(config.sums());
    let mut shared = SharedMemory::<f32>::new(comptime!(config.shape.groups * config.sums() * config.parts()));
    let base = (UNIT_POS_Z as usize) * comptime!(config.sums() * config.parts());
    if comptime!(shape.planes) {
        #[unroll]
        for i in 0..count {
            let sum = plane_sum(sums[i]);
            if UNIT_POS_X == 0 {
                shared[base + i * parts + UNIT_POS_Y as usize] = sum;
            }
        }
    } else {
        #[unroll]
        for i in 0..count {
            shared[base + i * parts + unit] = sums[i];
        }
    }
    sync_cube();

    let per_group = comptime!(config.outputs_per_group());
    let mut item = unit;
    while item < comptime!(config.tokens * config.outputs_per_group()) {
        let token = item / per_group;
        let output = item % per_group;
        let row = first + output;
        if row < rows {
            let start = base + token * comptime!(config.sums() / config.tokens * config.parts());
            let mut scale = 1.0f32;
            if comptime!(config.norm) {
                let square = total(&shared, start + comptime!(config.shape.outputs * config.parts()), parts);
                scale = 1.0f32 / (square * inverse_columns + epsilon).sqrt();
            }
            let sums = start + output * comptime!(config.shape.outputs / config.outputs_per_group() * config.parts());
            let mut value = if comptime!(config.gated) {
                let gate = biased(total(&shared, sums, parts) * scale, bias, row);
                silu(gate) * biased(total(&shared, sums + parts, parts) * scale, bias, rows + row)
            } else {
                activate(
                    biased(total(&shared, sums, parts) * scale, bias, row),
                    config.activation,
                )
            };
            #[comptime]
            match residual {
                ComptimeOption::Some(residual) => {
                    value += residual[token * rows + row];
                }
                ComptimeOption::None => {}
            }
            out[token * rows + row] = value;
        }
        item += stride;
    }
}

/// The weight row of a group's output; beyond the end the last, whose result is dropped.
#[cube]
pub(crate) fn weight_row(
    first: usize,
    #[comptime] output: usize,
    rows: usize,
    #[comptime] config: MatvecConfig,
) -> usize {
    if comptime!(config.gated) {
        min(first + comptime!(output / 2), rows - 1) + comptime!(output % 2) * rows
    } else {
        min(first + output, rows - 1)
    }
}

/// Adds the products of `unroll` chunks of every output with every row.
#[cube]
fn accumulate<W: Size, V: Size>(
    weight: &Array<Vector<u32, W>>,
    x: &Array<Vector<f32, V>>,
    norm: &ComptimeOption<Array<Vector<f32, V>>>,
    starts: &Sequence<usize>,
    sums: &mut Array<f32>,
    chunk: usize,
    chunks: usize,
    #[comptime] unroll: usize,
    #[comptime] config: MatvecConfig,
) {
    let outputs = comptime!(config.shape.outputs);
    let stride = comptime!(config.shape.lanes * config.shape.splits);
    let vectors = comptime!(config.x_vectors());
    let mut loaded = Sequence::<Vector<u32, W>>::new();
    #[unroll]
    for step in 0..unroll {
        #[unroll]
        for output in 0..outputs {
            loaded.push(weight[*starts.index(output) + chunk + step * stride]);
        }
    }
    #[unroll]
    for step in 0..unroll {
        let at = chunk + step * stride;
        #[unroll]
        for part in 0..vectors {
            let mut values = Sequence::<Vector<f32, V>>::new();
            #[unroll]
            for output in 0..outputs {
                values.push(widen::<W, V>(
                    *loaded.index(comptime!(step * outputs + output)),
                    part,
                    config.element,
                ));
            }
            #[unroll]
            for token in 0..config.tokens {
                let first = comptime!(token * (config.sums() / config.tokens));
                let mut vector = x[(token * chunks + at) * vectors + part];
                #[comptime]
                match norm {
                    ComptimeOption::Some(norm) => {
                        #[unroll]
                        for i in 0..V::value() {
                            sums[comptime!(first + outputs)] =
                                fma(vector[i], vector[i], sums[comptime!(first + outputs)]);
                        }
                        vector *= norm[at * vectors + part];
                    }
                    ComptimeOption::None => {}
                }
                #[unroll]
                for output in 0..outputs {
                    let values = *values.index(output);
                    #[unroll]
                    for i in 0..V::value() {
                        sums[comptime!(first + output)] = fma(vector[i], values[i], sums[comptime!(first + output)]);
                    }
                }
            }
        }
    }
}

/// The `part`-th vector of values in a chunk of words.
#[cube]
fn widen<W: Size, V: Size>(
    words: Vector<u32, W>,
    #[comptime] part: usize,
    #[comptime] element: Element,
) -> Vector<f32, V> {
    let size = V::value();
    let mut values = Vector::<f32, V>::empty();
    #[unroll]
    for i in 0..size {
        let index = comptime!(part * size + i);
        match comptime!(element) {
            Element::F32 => values[i] = f32::reinterpret(words[index]),
            Element::F16 => {
                let pair = Vector::<f16, Const<2>>::reinterpret(words[comptime!(index / 2)]);
                values[i] = f32::cast_from(pair[comptime!(index % 2)]);
            }
            Element::Bf16 => {
                let word = words[comptime!(index / 2)];
                if comptime!(index % 2 == 0) {
                    values[i] = bits::low(word);
                } else {
                    values[i] = bits::high(word);
                }
            }
            // These have a kernel of their own.
            Element::Int8 => {}
            Element::Int4 => {}
        }
    }
    values
}

/// A value with its row's bias, where there is one.
#[cube]
pub(crate) fn biased(value: f32, bias: &ComptimeOption<Array<f32>>, row: usize) -> f32 {
    let mut sum = value;
    #[comptime]
    match bias {
        ComptimeOption::Some(bias) => {
            sum += bias[row];
        }
        ComptimeOption::None => {}
    }
    sum
}

/// The sum of a value's parts.
#[cube]
pub(crate) fn total(shared: &SharedMemory<f32>, start: usize, #[comptime] parts: usize) -> f32 {
    let mut sum = 0.0f32;
    for part in 0..parts {
        sum += shared[start + part];
    }
    sum
}
