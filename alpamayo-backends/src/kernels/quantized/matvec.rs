//! Products of a few rows: codes are streamed from memory once and widened in registers.
//!
//! As the kernel for floats, a group of units split over the columns computes a few outputs of all rows. A unit reads a chunk, four
//! words with codes of four blocks, and sums each word's products before it multiplies them by the word's step.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::codes::{Quad, run, step};
use super::{integer, row};
use crate::instances::KernelRuntime;
use crate::kernels::activation::{activate, silu};
use crate::kernels::matvec::kernel::{biased, total, weight_row};
use crate::kernels::matvec::{MatvecConfig, MatvecShape};
use crate::kernels::product::Product;
use crate::kernels::tensors::{array, cubes, empty, extents, plane_size, vector};
use crate::layers::Quantization;

/// Everything that a compiled product depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuantizedMatvecConfig {
    /// The cut, rows and what is fused, as for floats.
    pub matvec: MatvecConfig,
    /// The scheme.
    pub quantization: Quantization,
    /// Whether rows end before their last group does.
    pub padded: bool,
}

/// The product of `x` `[tokens, in]`, f32, at most [`MAX_TOKENS`](crate::kernels::matvec::MAX_TOKENS) of them.
pub fn matvec<R: KernelRuntime>(x: &CubeTensor<R>, product: &Product<R>, quantization: Quantization) -> CubeTensor<R> {
    if integer::takes(extents(x).0, product) {
        return integer::integer(x, product, quantization);
    }
    let tokens = extents(x).0;
    if let Some(shape) = row::choose(&x.client, tokens, product, quantization) {
        return row::row_with(x, product, quantization, shape);
    }
    let shape = choose(&x.client, tokens, product, quantization);
    matvec_with(x, product, quantization, shape)
}

/// The cut for the device and the product's extents: where planes add up, what was fastest on an H100 for 4096 → 24,576, and through
/// Vulkan on an H200 for one row of four bits, whose codes are an eighth of what is read of `x` for one output.
pub fn choose<R: CubeRuntime>(
    client: &ComputeClient<R>,
    tokens: usize,
    product: &Product<R>,
    quantization: Quantization,
) -> MatvecShape {
    let is_one_of_four_bits = tokens == 1 && quantization == Quantization::Int4;
    // A gated output is made of two.
    let outputs = if tokens == 1 && !product.gated && !is_one_of_four_bits {
        1
    } else {
        2
    };
    match plane_size(client) {
        Some(lanes) => {
            let chunks = quantization.code_words(product.weight.columns) / Quantization::BLOCKS;
            let splits = if tokens <= 4 && chunks >= 2 * lanes { 2 } else { 1 };
            MatvecShape {
                outputs,
                unroll: if chunks >= 2 * lanes * splits && !is_one_of_four_bits {
                    2
                } else {
                    1
                },
                splits,
                groups: 8 / splits,
                lanes,
                planes: true,
            }
        }
        None => {
            const BYTES: usize = 16 << 10;
            let sums = tokens * (outputs + usize::from(product.norm.is_some()));
            MatvecShape {
                outputs,
                unroll: 1,
                splits: 1,
                groups: (BYTES / (4 * sums * 32)).clamp(1, 8),
                lanes: 32,
                planes: false,
            }
        }
    }
}

/// As [`matvec`] in a given cut.
pub fn matvec_with<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    quantization: Quantization,
    shape: MatvecShape,
) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let weight = &product.weight;
    let rows = product.out_features();
    let out = empty(x, tokens, rows, DType::F32);
    let x_vector = vector(columns);
    let config = QuantizedMatvecConfig {
        matvec: MatvecConfig {
            words: Quantization::BLOCKS,
            x_vector,
            ..MatvecConfig::new(shape, tokens, product)
        },
        quantization,
        padded: !columns.is_multiple_of(Quantization::GROUP),
    };
    let norm = product.norm.as_ref();
    let dims = CubeDim::new_3d(shape.lanes as u32, shape.splits as u32, shape.groups as u32);
    let groups = rows.div_ceil(config.matvec.outputs_per_group());
    // SAFETY: every index is clamped to the weight's rows or checked against the row's chunks and columns.
    unsafe {
        quantized_matvec::launch_unchecked::<R>(
            &x.client,
            cubes(groups.div_ceil(shape.groups)),
            dims,
            Quantization::BLOCKS,
            x_vector,
            array(&weight.values),
            array(x),
            norm.map(|(norm, _)| array(norm)).into(),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            array(&out),
            rows as u32,
            columns as u32,
            (weight.words() / Quantization::BLOCKS) as u32,
            norm.map_or(0.0, |(_, epsilon)| *epsilon as f32),
            config,
        );
    }
    out
}

/// Cube dimensions are `(lanes, splits, groups)`; group `CUBE_POS · groups + UNIT_POS_Z` computes its outputs for every row.
///
/// `rows` are the outputs (half the weight's rows where gated), `row_vectors` the vectors of a weight row.
#[cube(launch_unchecked)]
fn quantized_matvec<W: Size, V: Size>(
    weight: &Array<Vector<u32, W>>,
    x: &Array<Vector<f32, V>>,
    norm: &ComptimeOption<Array<Vector<f32, V>>>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<f32>,
    rows: u32,
    columns: u32,
    row_vectors: u32,
    epsilon: f32,
    #[comptime] config: QuantizedMatvecConfig,
) {
    let matvec = comptime!(config.matvec);
    let shape = comptime!(config.matvec.shape);
    let rows = rows as usize;
    let columns = columns as usize;
    let chunks = (columns + comptime!(Quantization::GROUP - 1)) / comptime!(Quantization::GROUP)
        * comptime!(config.quantization.chunks());
    let group = CUBE_POS * shape.groups + UNIT_POS_Z as usize;
    let first = group * comptime!(config.matvec.outputs_per_group());

    let mut starts = Sequence::<usize>::new();
    #[unroll]
    for output in 0..shape.outputs {
        starts.push(weight_row(first, output, rows, matvec) * row_vectors as usize);
    }
    let mut sums = Array::<f32>::new(comptime!(config.matvec.sums()));
    #[unroll]
    for i in 0..comptime!(config.matvec.sums()) {
        sums[i] = 0.0f32;
    }
    let stride = comptime!(config.matvec.shape.lanes * config.matvec.shape.splits);
    let unit = (UNIT_POS_Y as usize) * shape.lanes + UNIT_POS_X as usize;
    let blocks =
        chunks / comptime!(config.matvec.shape.lanes * config.matvec.shape.splits * config.matvec.shape.unroll);
    for block in 0..blocks {
        let chunk = block
            * comptime!(config.matvec.shape.lanes * config.matvec.shape.splits * config.matvec.shape.unroll)
            + unit;
        accumulate::<W, V>(
            weight,
            x,
            norm,
            &starts,
            &mut sums,
            chunk,
            chunks,
            columns,
            shape.unroll,
            config,
        );
    }
    let mut chunk =
        blocks * comptime!(config.matvec.shape.lanes * config.matvec.shape.splits * config.matvec.shape.unroll) + unit;
    while chunk < chunks {
        accumulate::<W, V>(
            weight, x, norm, &starts, &mut sums, chunk, chunks, columns, 1usize, config,
        );
        chunk += stride;
    }

    // The parts of every group's sums, one after another.
    let parts = comptime!(config.matvec.parts());
    let count = comptime!(config.matvec.sums());
    let mut shared = SharedMemory::<f32>::new(comptime!(
        config.matvec.shape.groups * config.matvec.sums() * config.matvec.parts()
    ));
    let base = (UNIT_POS_Z as usize) * comptime!(config.matvec.sums() * config.matvec.parts());
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

    let per_group = comptime!(config.matvec.outputs_per_group());
    let mut item = unit;
    while item < comptime!(config.matvec.tokens * config.matvec.outputs_per_group()) {
        let token = item / per_group;
        let output = item % per_group;
        let row = first + output;
        if row < rows {
            let start = base + token * comptime!(config.matvec.sums() / config.matvec.tokens * config.matvec.parts());
            let mut scale = 1.0f32;
            if comptime!(config.matvec.norm) {
                let at = start + comptime!(config.matvec.shape.outputs * config.matvec.parts());
                let square = total(&shared, at, parts) / f32::cast_from(columns);
                scale = 1.0f32 / (square + epsilon).sqrt();
            }
            let sums = start
                + output
                    * comptime!(
                        config.matvec.shape.outputs / config.matvec.outputs_per_group() * config.matvec.parts()
                    );
            let mut value = if comptime!(config.matvec.gated) {
                let gate = biased(total(&shared, sums, parts) * scale, bias, row);
                silu(gate) * biased(total(&shared, sums + parts, parts) * scale, bias, rows + row)
            } else {
                activate(
                    biased(total(&shared, sums, parts) * scale, bias, row),
                    config.matvec.activation,
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
    columns: usize,
    #[comptime] unroll: usize,
    #[comptime] config: QuantizedMatvecConfig,
) {
    let outputs = comptime!(config.matvec.shape.outputs);
    let stride = comptime!(config.matvec.shape.lanes * config.matvec.shape.splits);
    let mut codes = Sequence::<Vector<u32, W>>::new();
    let mut steps = Sequence::<Vector<u32, W>>::new();
    #[unroll]
    for part in 0..unroll {
        let at = chunk + part * stride;
        #[unroll]
        for output in 0..outputs {
            let start = *starts.index(output);
            codes.push(weight[start + at]);
            // Two groups share a vector of steps.
            steps.push(weight[start + chunks + at / comptime!(2 * config.quantization.chunks())]);
        }
    }
    #[unroll]
    for part in 0..unroll {
        let at = chunk + part * stride;
        let group = at / comptime!(config.quantization.chunks());
        let odd = group % 2 == 1;
        let within = at % comptime!(config.quantization.chunks());
        let mut block_steps = Sequence::<u32>::new();
        #[unroll]
        for output in 0..outputs {
            let words = *steps.index(comptime!(part * outputs + output));
            block_steps.push(select(odd, words[2], words[0]));
            block_steps.push(select(odd, words[3], words[1]));
        }
        #[unroll]
        for block in 0..comptime!(Quantization::BLOCKS) {
            let column = group * comptime!(Quantization::GROUP)
                + comptime!(block * Quantization::BLOCK)
                + 8 * (within % 4)
                + within / 4 * 4;
            add_block::<W, V>(
                x,
                norm,
                &codes,
                &block_steps,
                sums,
                column,
                columns,
                part,
                block,
                config,
            );
        }
    }
}

/// Adds the products of one word of every output, which lies in one block.
#[cube]
fn add_block<W: Size, V: Size>(
    x: &Array<Vector<f32, V>>,
    norm: &ComptimeOption<Array<Vector<f32, V>>>,
    codes: &Sequence<Vector<u32, W>>,
    steps: &Sequence<u32>,
    sums: &mut Array<f32>,
    column: usize,
    columns: usize,
    #[comptime] part: usize,
    #[comptime] block: usize,
    #[comptime] config: QuantizedMatvecConfig,
) {
    let (outputs, tokens) = comptime!((config.matvec.shape.outputs, config.matvec.tokens));
    let mut partial = Array::<f32>::new(comptime!(config.matvec.shape.outputs * config.matvec.tokens));
    #[unroll]
    for i in 0..comptime!(config.matvec.shape.outputs * config.matvec.tokens) {
        partial[i] = 0.0f32;
    }
    #[unroll]
    for index in 0..comptime!(config.quantization.runs()) {
        let column = column + comptime!(4 * index);
        let mut values = Sequence::<Quad>::new();
        #[unroll]
        for output in 0..outputs {
            let words = *codes.index(comptime!(part * outputs + output));
            values.push(run(words[block], index, config.quantization));
        }
        #[unroll]
        for token in 0..tokens {
            let square = comptime!(token * (config.matvec.sums() / config.matvec.tokens) + config.matvec.shape.outputs);
            let mut quad = read_x::<V>(x, token * columns, column, columns, config.padded);
            #[comptime]
            match norm {
                ComptimeOption::Some(norm) => {
                    #[unroll]
                    for i in 0..4usize {
                        sums[square] = fma(quad[i], quad[i], sums[square]);
                    }
                    quad *= read_x::<V>(norm, 0usize, column, columns, config.padded);
                }
                ComptimeOption::None => {}
            }
            #[unroll]
            for output in 0..outputs {
                let values = *values.index(output);
                let at = comptime!(token * outputs + output);
                #[unroll]
                for i in 0..4usize {
                    partial[at] = fma(quad[i], values[i], partial[at]);
                }
            }
        }
    }
    #[unroll]
    for output in 0..outputs {
        let word = *steps.index(comptime!(2 * output + block / 2));
        let scale = if comptime!(block % 2 == 1) {
            step(word >> 16u32)
        } else {
            step(word & 0xffffu32)
        };
        #[unroll]
        for token in 0..tokens {
            let at = comptime!(token * (config.matvec.sums() / config.matvec.tokens) + output);
            sums[at] = fma(scale, partial[comptime!(token * outputs + output)], sums[at]);
        }
    }
}

/// Four elements from `start + column` on, zero beyond `columns`.
#[cube]
pub(super) fn read_x<V: Size>(
    x: &Array<Vector<f32, V>>,
    start: usize,
    column: usize,
    columns: usize,
    #[comptime] padded: bool,
) -> Quad {
    let size = V::value();
    let mut quad = Quad::new(0.0f32);
    #[unroll]
    for part in 0..comptime!(4 / size) {
        let place = column + part * size;
        if comptime!(padded) {
            if place < columns {
                let values = x[(start + place) / size];
                #[unroll]
                for i in 0..size {
                    quad[comptime!(part * size + i)] = values[i];
                }
            }
        } else {
            let values = x[(start + place) / size];
            #[unroll]
            for i in 0..size {
                quad[comptime!(part * size + i)] = values[i];
            }
        }
    }
    quad
}
