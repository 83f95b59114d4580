//! The columns of `x` that a unit holds.

use cubecl::prelude::*;

use super::bytes::Integers;
use super::config::{GROUP_UNITS, Held, RowConfig, UNIT_COLUMNS};
use super::floats;
use crate::kernels::quantized::codes::step;
use crate::kernels::quantized::matvec::read_x;
use crate::layers::Quantization;

/// A unit's columns, eight of each block of its group, times the norm's weight where there is one.
#[derive(CubeType)]
#[expect(
    dead_code,
    reason = "kernels are expanded with variants of a type derived from this one"
)]
pub(super) enum Columns {
    Floats(Array<f32>),
    Bytes(Integers),
}

#[cube]
impl Columns {
    /// The values as what the unit is to hold.
    pub(super) fn hold(values: Array<f32>, #[comptime] config: RowConfig) -> Columns {
        if comptime!(config.shape.held == Held::Bytes) {
            Columns::new_Bytes(Integers::of(&values, config))
        } else {
            Columns::new_Floats(values)
        }
    }

    /// The unit's part of the product with a row of a batch.
    pub(super) fn product<W: Size>(
        &self,
        loaded: &Array<Vector<u32, W>>,
        odd: bool,
        #[comptime] slot: usize,
        #[comptime] row: usize,
        #[comptime] config: RowConfig,
    ) -> f32 {
        let at = comptime!(slot * config.batch_vectors() + row * (config.code_vectors() + 1));
        match self {
            Columns::Floats(values) => floats::product(values, loaded, odd, at, config),
            Columns::Bytes(integers) => integers.product(loaded, odd, at, config),
        }
    }
}

/// Reads the unit's columns; returns the sum of their squares in `x`, where there is a norm.
#[cube]
pub(super) fn read_columns<V: Size>(
    x: &Array<Vector<f32, V>>,
    norm: &ComptimeOption<Array<Vector<f32, V>>>,
    held: &mut Array<f32>,
    unit: usize,
    columns: usize,
    #[comptime] config: RowConfig,
) -> f32 {
    let first = unit / GROUP_UNITS * Quantization::GROUP + unit % GROUP_UNITS * 8;
    let mut square = 0.0f32;
    #[unroll]
    for quad in 0..comptime!(UNIT_COLUMNS / 4) {
        let column = first + comptime!(quad / 2 * Quantization::BLOCK + quad % 2 * 4);
        let mut values = read_x::<V>(x, 0usize, column, columns, config.padded);
        #[comptime]
        match norm {
            ComptimeOption::Some(norm) => {
                #[unroll]
                for i in 0..4usize {
                    square = fma(values[i], values[i], square);
                }
                values *= read_x::<V>(norm, 0usize, column, columns, config.padded);
            }
            ComptimeOption::None => {}
        }
        #[unroll]
        for i in 0..4usize {
            held[comptime!(4 * quad + i)] = values[i];
        }
    }
    square
}

/// The step of a block, from the vector that two groups share.
#[cube]
pub(super) fn block_step<W: Size>(steps: Vector<u32, W>, odd: bool, #[comptime] block: usize) -> f32 {
    let word = select(odd, steps[comptime!(2 + block / 2)], steps[comptime!(block / 2)]);
    if comptime!(block % 2 == 1) {
        step(word >> 16u32)
    } else {
        step(word & 0xffffu32)
    }
}
