//! The kernel.

use cubecl::prelude::*;

use super::columns::{Columns, read_columns};
use super::config::{GROUP_UNITS, RowConfig, UNIT_COLUMNS};
use crate::kernels::activation::{activate, silu};
use crate::kernels::matvec::kernel::{biased, total};
use crate::layers::Quantization;

/// Where a unit's codes and steps lie in every weight row, in vectors.
#[derive(CubeType)]
struct Place {
    codes: usize,
    steps: usize,
    /// Whether the unit's group has the second half of its vector of steps.
    odd: bool,
    /// Vectors from a row to the next.
    row_vectors: usize,
    /// All outputs.
    outputs: usize,
}

/// Cube dimensions are `(lanes, splits, groups)`; group `CUBE_POS · groups + UNIT_POS_Z` computes its outputs, one batch of weight rows
/// after another.
///
/// `row_vectors` are the vectors of a weight row.
#[cube(launch_unchecked)]
pub(super) fn quantized_row<W: Size, V: Size>(
    weight: &Array<Vector<u32, W>>,
    x: &Array<Vector<f32, V>>,
    norm: &ComptimeOption<Array<Vector<f32, V>>>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<f32>,
    outputs: u32,
    columns: u32,
    row_vectors: u32,
    epsilon: f32,
    #[comptime] config: RowConfig,
) {
    let shape = comptime!(config.shape);
    let columns = columns as usize;
    let first = (CUBE_POS * shape.groups + UNIT_POS_Z as usize) * comptime!(config.outputs_per_group());
    let split = UNIT_POS_Y as usize;
    let unit = split * shape.lanes + UNIT_POS_X as usize;
    let groups = columns.div_ceil(comptime!(Quantization::GROUP));
    let place = place(unit, groups, row_vectors as usize, outputs as usize, config);

    // Batches take the slots in turn. The first ones are asked for in front of `x`.
    let mut loaded = Array::<Vector<u32, W>>::new(comptime!(shape.slots * config.batch_vectors()));
    #[unroll]
    for slot in 0..shape.slots {
        fetch(weight, &mut loaded, &place, first, slot, slot, config);
    }
    let mut values = Array::<f32>::new(UNIT_COLUMNS);
    let square = read_columns(x, norm, &mut values, unit, columns, config);
    let held = Columns::hold(values, config);

    let parts = shape.splits;
    let base = UNIT_POS_Z as usize * comptime!(config.rows_per_group() * config.shape.splits);
    let mut sums = SharedMemory::<f32>::new(comptime!(
        config.shape.groups * config.rows_per_group() * config.shape.splits
    ));
    let mut squares = SharedMemory::<f32>::new(comptime!(config.shape.groups * config.shape.splits));
    let base_square = UNIT_POS_Z as usize * parts;
    if comptime!(config.norm) {
        let square = plane_sum(square);
        if UNIT_POS_X == 0 {
            squares[base_square + split] = square;
        }
    }
    for round in 0..comptime!(shape.batches / shape.slots) {
        #[unroll]
        for slot in 0..shape.slots {
            let batch = round * shape.slots + slot;
            #[unroll]
            for pair in 0..comptime!(shape.batch / 2) {
                let first = held.product(&loaded, place.odd, slot, comptime!(2 * pair), config);
                let second = held.product(&loaded, place.odd, slot, comptime!(2 * pair + 1), config);
                let sum = sum_pair(first, second, shape.lanes);
                if UNIT_POS_X as usize % comptime!(shape.lanes / 2) == 0 {
                    let row = comptime!(2 * pair) + UNIT_POS_X as usize / comptime!(shape.lanes / 2);
                    sums[base + (batch * shape.batch + row) * parts + split] = sum;
                }
            }
            fetch(weight, &mut loaded, &place, first, batch + shape.slots, slot, config);
        }
    }
    sync_cube();

    let mut scale = 1.0f32;
    if comptime!(config.norm) {
        let square = total(&squares, base_square, parts) / f32::cast_from(columns);
        scale = 1.0f32 / (square + epsilon).sqrt();
    }
    finish(&sums, base, scale, bias, residual, out, &place, first, unit, config);
}

/// The group's outputs from the parts of their sums, which lie from `base` on.
#[cube]
fn finish(
    sums: &SharedMemory<f32>,
    base: usize,
    scale: f32,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<f32>,
    place: &Place,
    first: usize,
    unit: usize,
    #[comptime] config: RowConfig,
) {
    let parts = config.shape.splits;
    let mut item = unit;
    while item < comptime!(config.outputs_per_group()) {
        let output = first + item;
        if output < place.outputs {
            let start = base + item * comptime!(config.rows_per_output() * config.shape.splits);
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
            out[output] = value;
        }
        item += comptime!(config.shape.lanes * config.shape.splits);
    }
}

/// What the unit reads of a row of so many groups; units past the last group read as its last unit does.
#[cube]
fn place(unit: usize, groups: usize, row_vectors: usize, outputs: usize, #[comptime] config: RowConfig) -> Place {
    let unit = min(unit, groups * comptime!(GROUP_UNITS) - 1);
    let group = unit / GROUP_UNITS;
    Place {
        codes: group * comptime!(config.quantization.chunks()) + unit % GROUP_UNITS,
        // Two groups share a vector of steps.
        steps: groups * comptime!(config.quantization.chunks()) + group / 2,
        odd: group % 2 == 1,
        row_vectors,
        outputs,
    }
}

/// Asks for codes and steps of a batch's rows; past the last row, for the last row's.
#[cube]
fn fetch<W: Size>(
    weight: &Array<Vector<u32, W>>,
    loaded: &mut Array<Vector<u32, W>>,
    place: &Place,
    first: usize,
    batch: usize,
    #[comptime] slot: usize,
    #[comptime] config: RowConfig,
) {
    let codes = comptime!(config.code_vectors());
    let per_output = comptime!(config.rows_per_output());
    // The group's last batch once more, rather than one that another group reads.
    let batch = min(batch, comptime!(config.shape.batches - 1));
    let first = first + batch * comptime!(config.shape.batch / config.rows_per_output());
    #[unroll]
    for row in 0..config.shape.batch {
        let output = min(first + comptime!(row / per_output), place.outputs - 1);
        let start = (output + comptime!(row % per_output) * place.outputs) * place.row_vectors;
        let at = comptime!(slot * config.batch_vectors() + row * (codes + 1));
        #[unroll]
        for vector in 0..codes {
            loaded[comptime!(at + vector)] = weight[start + place.codes + comptime!(vector * GROUP_UNITS)];
        }
        loaded[comptime!(at + codes)] = weight[start + place.steps];
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
