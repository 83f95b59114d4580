//! The kernel.

use cubecl::prelude::*;

use super::bytes::Words;
use super::columns::{Columns, Loaded, Row};
use super::config::{GROUP_UNITS, Held, RowConfig};
use super::prepared::{output_of, write};
use crate::kernels::activation::{activate, silu};
use crate::kernels::matvec::kernel::{biased, total};
use crate::kernels::signals::{self, Signals};
use crate::layers::Quantization;

/// Where a group's weight rows and its unit's columns are.
#[derive(CubeType)]
struct Place {
    /// The group's first output.
    first: usize,
    /// All outputs.
    outputs: usize,
    /// Groups of 128 columns.
    groups: usize,
    /// Vectors from a row to the next.
    row_vectors: usize,
    /// The unit's set of columns in the first pass.
    set: usize,
}

#[cube]
impl Place {
    /// The output that is the group's `item`-th; of what is left for the next product, cubes have whole sets.
    fn output(&self, item: usize, #[comptime] config: RowConfig) -> usize {
        let place = self.first + item;
        if comptime!(config.prepares.is_some()) {
            output_of(place)
        } else {
            place
        }
    }
}

/// Cube dimensions are `(lanes, splits, groups)`; group `CUBE_POS · groups + UNIT_POS_Z` computes its outputs, one batch of weight rows
/// after another, in each pass with other columns.
///
/// `row_vectors` are the vectors of a weight row; `steps` is the weight once more, as pairs of words: the steps of a group are one.
/// `x` or `prepared` is read, by what units hold. For the next product, what it reads is written to `next`, times its norm's weight.
#[cube(launch_unchecked)]
pub(super) fn quantized_row<W: Size, V: Size>(
    weight: &Array<Vector<u32, W>>,
    steps: &Array<Vector<u32, Const<2>>>,
    x: &Array<Vector<f32, V>>,
    prepared: &Array<Words>,
    norm: &ComptimeOption<Array<Vector<f32, V>>>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    next_norm: &ComptimeOption<Array<f32>>,
    out: &mut ComptimeOption<Array<f32>>,
    next: &mut ComptimeOption<Array<Words>>,
    signals: &mut Signals,
    outputs: u32,
    columns: u32,
    row_vectors: u32,
    epsilon: f32,
    #[comptime] config: RowConfig,
) {
    let shape = comptime!(config.shape);
    let columns = columns as usize;
    let group = UNIT_POS_Z as usize;
    let place = Place {
        first: (CUBE_POS * shape.groups + group) * comptime!(config.outputs_per_group()),
        outputs: outputs as usize,
        groups: columns.div_ceil(comptime!(Quantization::GROUP)),
        row_vectors: row_vectors as usize,
        set: UNIT_POS_Y as usize * shape.lanes + UNIT_POS_X as usize,
    };
    let parts = comptime!(config.shape.parts());
    let mut sums = SharedMemory::<f32>::new(comptime!(config.shape.groups * config.rows_per_group() * parts));
    let mut squares = SharedMemory::<f32>::new(comptime!(config.shape.groups * config.shape.splits));

    // Batches take the slots in turn. The first ones are asked for in front of `x`.
    let mut loaded = Loaded::<W>::new(config);
    #[unroll]
    for slot in 0..shape.slots {
        fetch(weight, steps, &mut loaded, &place, slot, slot, config);
    }
    signals::wait(signals);
    let row = Row::read(x, norm, columns, config);
    let mut square = 0.0f32;
    for pass in 0..shape.passes {
        let set = place.set + pass * comptime!(config.shape.lanes * config.shape.splits);
        let held = row.columns(x, prepared, norm, set, columns, config);
        // Shared columns have been read in front of the first pass.
        if comptime!(config.shape.held == Held::Bytes) {
            square = held.square();
        } else {
            square += held.square();
        }
        multiply_pass(weight, steps, &held, &mut loaded, &mut sums, &place, pass, config);
    }
    if comptime!(config.norm) {
        let square = plane_sum(square);
        if UNIT_POS_X == 0 {
            squares[group * shape.splits + UNIT_POS_Y as usize] = square;
        }
    }
    sync_cube();

    let mut scale = 1.0f32;
    if comptime!(config.norm) {
        scale = norm_scale(&squares, columns, epsilon, config);
    }
    let mut values = SharedMemory::<f32>::new(comptime!(if config.prepares.is_some() {
        config.outputs_per_cube()
    } else {
        1
    }));
    finish(&sums, scale, bias, residual, out, &mut values, &place, config);
    #[comptime]
    match next {
        ComptimeOption::Some(next) => {
            sync_cube();
            write(&values, next_norm, next, place.outputs, config);
        }
        ComptimeOption::None => {}
    }
    signals::done(signals);
}

/// The plane's parts of all sums of a pass, one batch of the group's rows after another: behind each that was multiplied a further one is
/// asked for.
#[cube]
fn multiply_pass<W: Size>(
    weight: &Array<Vector<u32, W>>,
    steps: &Array<Vector<u32, Const<2>>>,
    held: &Columns,
    loaded: &mut Loaded<W>,
    sums: &mut SharedMemory<f32>,
    place: &Place,
    pass: usize,
    #[comptime] config: RowConfig,
) {
    let shape = comptime!(config.shape);
    let parts = comptime!(config.shape.parts());
    let group = UNIT_POS_Z as usize;
    let base = group * comptime!(config.rows_per_group() * parts) + pass * shape.splits + UNIT_POS_Y as usize;
    for round in 0..comptime!(shape.batches / shape.slots) {
        #[unroll]
        for slot in 0..shape.slots {
            let batch = round * shape.slots + slot;
            let at = base + batch * comptime!(shape.batch * parts);
            multiply(held, loaded, sums, at, slot, config);
            let step = pass * shape.batches + batch + shape.slots;
            fetch(weight, steps, loaded, place, step, slot, config);
        }
    }
}

/// What an RMSNorm multiplies the group's outputs by.
#[cube]
fn norm_scale(squares: &SharedMemory<f32>, columns: usize, epsilon: f32, #[comptime] config: RowConfig) -> f32 {
    let shape = comptime!(config.shape);
    // What units share, each of them has read a part of.
    let square = if comptime!(shape.held == Held::Bytes) {
        total(squares, 0usize, comptime!(shape.groups * shape.splits))
    } else {
        total(squares, UNIT_POS_Z as usize * shape.splits, shape.splits)
    };
    1.0f32 / (square / f32::cast_from(columns) + epsilon).sqrt()
}

/// A plane's part of a batch's sums, which lie from `base` on.
#[cube]
fn multiply<W: Size>(
    held: &Columns,
    loaded: &Loaded<W>,
    sums: &mut SharedMemory<f32>,
    base: usize,
    #[comptime] slot: usize,
    #[comptime] config: RowConfig,
) {
    let shape = comptime!(config.shape);
    #[unroll]
    for pair in 0..comptime!(shape.batch / 2) {
        let at = comptime!(slot * shape.batch + 2 * pair);
        let first = held.product(loaded, at, config);
        let second = held.product(loaded, comptime!(at + 1), config);
        let sum = sum_pair(first, second, shape.lanes);
        if UNIT_POS_X as usize % comptime!(shape.lanes / 2) == 0 {
            let row = comptime!(2 * pair) + UNIT_POS_X as usize / comptime!(shape.lanes / 2);
            sums[base + row * comptime!(shape.parts())] = sum;
        }
    }
}

/// The group's outputs from the parts of their sums.
#[cube]
fn finish(
    sums: &SharedMemory<f32>,
    scale: f32,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut ComptimeOption<Array<f32>>,
    values: &mut SharedMemory<f32>,
    place: &Place,
    #[comptime] config: RowConfig,
) {
    let parts = comptime!(config.shape.parts());
    let base = UNIT_POS_Z as usize * comptime!(config.rows_per_group() * parts);
    let mut item = place.set;
    while item < comptime!(config.outputs_per_group()) {
        let output = place.output(item, config);
        if output < place.outputs {
            let start = base + item * comptime!(config.rows_per_output() * parts);
            let sum = biased(total(sums, start, parts) * scale, bias, output);
            let mut value = if comptime!(config.gated) {
                let up = total(sums, start + parts, parts) * scale;
                silu(sum) * biased(up, bias, place.outputs + output)
            } else {
                activate(sum, config.following.activation)
            };
            #[comptime]
            match residual {
                ComptimeOption::Some(residual) => {
                    value += residual[output];
                }
                ComptimeOption::None => {}
            }
            if comptime!(config.prepares.is_some()) {
                values[UNIT_POS_Z as usize * comptime!(config.outputs_per_group()) + item] = value;
            }
            #[comptime]
            match out {
                ComptimeOption::Some(out) => {
                    out[output] = value;
                }
                ComptimeOption::None => {}
            }
        }
        item += comptime!(config.shape.lanes * config.shape.splits);
    }
}

/// Asks for codes and steps of the rows of a step, which is a batch in a pass; past the last one, for its once more, rather than for what
/// another group reads.
#[cube]
fn fetch<W: Size>(
    weight: &Array<Vector<u32, W>>,
    steps: &Array<Vector<u32, Const<2>>>,
    loaded: &mut Loaded<W>,
    place: &Place,
    step: usize,
    #[comptime] slot: usize,
    #[comptime] config: RowConfig,
) {
    let shape = comptime!(config.shape);
    let (codes, chunks) = comptime!((config.code_vectors(), config.quantization.chunks()));
    let per_output = comptime!(config.rows_per_output());
    let step = min(step, comptime!(shape.passes * shape.batches - 1));
    let mut batch = step;
    let mut set = place.set;
    if comptime!(shape.passes > 1) {
        batch = step % shape.batches;
        set += step / shape.batches * comptime!(shape.lanes * shape.splits);
    }
    if comptime!(config.padded) {
        // Units past the last group read as its last unit does.
        set = min(set, place.groups * comptime!(GROUP_UNITS) - 1);
    }
    let group = set / GROUP_UNITS;
    let code = group * chunks + set % GROUP_UNITS;
    let first = batch * comptime!(shape.batch / per_output);
    #[unroll]
    for row in 0..shape.batch {
        let mut output = place.output(first + comptime!(row / per_output), config);
        if comptime!(config.ragged) {
            // Past the last row, the last row's.
            output = min(output, place.outputs - 1);
        }
        let start = (output + comptime!(row % per_output) * place.outputs) * place.row_vectors;
        let at = comptime!(slot * shape.batch + row);
        #[unroll]
        for vector in 0..codes {
            loaded.codes[comptime!(at * codes + vector)] = weight[start + code + comptime!(vector * GROUP_UNITS)];
        }
        loaded.steps[at] = steps[2 * (start + place.groups * chunks) + group];
    }
}

/// The plane's sums of two values: the first one's in the lower half of the units, the second one's in the upper half.
#[cube]
fn sum_pair(first: f32, second: f32, #[comptime] lanes: usize) -> f32 {
    let is_upper = UNIT_POS_X as usize >= comptime!(lanes / 2);
    let mine = select(is_upper, second, first);
    let others = select(is_upper, first, second);
    let mut sum = mine + plane_shuffle_xor(others, comptime!(lanes as u32 / 2));
    #[unroll]
    for level in 0..comptime!(lanes.ilog2() - 1) {
        sum += plane_shuffle_xor(sum, comptime!(1u32 << level));
    }
    sum
}
