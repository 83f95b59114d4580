//! The columns of `x` that a unit holds.

use cubecl::prelude::*;
use half::f16;

use super::bytes::{Integers, SharedRow, Words};
use super::config::{GROUP_UNITS, Held, RowConfig, UNIT_COLUMNS};
use super::{floats, prepared};
use crate::kernels::quantized::codes::{Quad, step};
use crate::kernels::quantized::matvec::read_x;
use crate::layers::Quantization;

/// Codes and steps of the rows that a unit has asked for.
#[derive(CubeType)]
pub(super) struct Loaded<W: Size> {
    pub(super) codes: Array<Vector<u32, W>>,
    /// Steps of a row's blocks, two to a word.
    pub(super) steps: Array<Vector<u32, Const<2>>>,
}

#[cube]
impl<W: Size> Loaded<W> {
    pub(super) fn new(#[comptime] config: RowConfig) -> Loaded<W> {
        let rows = comptime!(config.shape.slots * config.shape.batch);
        Loaded::<W> {
            codes: Array::new(comptime!(rows * config.code_vectors())),
            steps: Array::new(rows),
        }
    }
}

/// Where units have their columns from.
#[derive(CubeType)]
#[expect(
    dead_code,
    reason = "kernels are expanded with variants of a type derived from this one"
)]
pub(super) enum Row {
    /// From `x` itself, each its own.
    Apart,
    /// From what all units of the cube have read together.
    Shared(SharedRow),
}

#[cube]
impl Row {
    /// What is to be read before any unit has its columns.
    pub(super) fn read<V: Size>(
        x: &Array<Vector<f32, V>>,
        norm: &ComptimeOption<Array<Vector<f32, V>>>,
        columns: usize,
        #[comptime] config: RowConfig,
    ) -> Row {
        if comptime!(config.shape.held == Held::Bytes) {
            Row::new_Shared(SharedRow::read(x, norm, columns, config))
        } else {
            Row::new_Apart()
        }
    }

    /// The columns of a set.
    pub(super) fn columns<V: Size>(
        &self,
        x: &Array<Vector<f32, V>>,
        prepared: &Array<Words>,
        norm: &ComptimeOption<Array<Vector<f32, V>>>,
        set: usize,
        columns: usize,
        #[comptime] config: RowConfig,
    ) -> Columns {
        #[comptime]
        match self {
            Row::Apart => {
                if comptime!(config.shape.held == Held::Prepared) {
                    Columns::new_Bytes(prepared::read(prepared, set, columns, config))
                } else {
                    Columns::new_Floats(Floats::read(x, norm, set, columns, config))
                }
            }
            Row::Shared(row) => Columns::new_Bytes(row.columns(set, config)),
        }
    }
}

/// A unit's columns, eight of each block of a group, times the norm's weight where there is one.
#[derive(CubeType)]
#[expect(
    dead_code,
    reason = "kernels are expanded with variants of a type derived from this one"
)]
pub(super) enum Columns {
    Floats(Floats),
    Bytes(Integers),
}

#[cube]
impl Columns {
    /// The unit's part of the product with a row that was loaded to `at`.
    pub(super) fn product<W: Size>(
        &self,
        loaded: &Loaded<W>,
        #[comptime] at: usize,
        #[comptime] config: RowConfig,
    ) -> f32 {
        match self {
            Columns::Floats(floats) => floats::product(&floats.values, loaded, at, config),
            Columns::Bytes(integers) => integers.product(loaded, at, config),
        }
    }

    /// The sum of squares in `x` that these columns were read with.
    pub(super) fn square(&self) -> f32 {
        match self {
            Columns::Floats(floats) => floats.square,
            Columns::Bytes(integers) => integers.square,
        }
    }
}

/// Columns as they are.
#[derive(CubeType)]
pub(super) struct Floats {
    values: Array<f32>,
    square: f32,
}

#[cube]
impl Floats {
    fn read<V: Size>(
        x: &Array<Vector<f32, V>>,
        norm: &ComptimeOption<Array<Vector<f32, V>>>,
        set: usize,
        columns: usize,
        #[comptime] config: RowConfig,
    ) -> Floats {
        let first = first_column(set, 0usize);
        let mut values = Array::<f32>::new(UNIT_COLUMNS);
        let mut square = 0.0f32;
        #[unroll]
        for quad in 0..comptime!(UNIT_COLUMNS / 4) {
            let column = first + comptime!(quad / 2 * Quantization::BLOCK + quad % 2 * 4);
            let read = read_quad(x, norm, column, columns, config);
            square += read.square;
            #[unroll]
            for i in 0..4usize {
                values[comptime!(4 * quad + i)] = read.values[i];
            }
        }
        Floats { values, square }
    }
}

/// Four columns, and the sum of their squares in `x` where there is a norm.
#[derive(CubeType)]
pub(super) struct Read {
    pub(super) values: Quad,
    pub(super) square: f32,
}

/// Reads four columns, times the norm's weight where there is one.
#[cube]
pub(super) fn read_quad<V: Size>(
    x: &Array<Vector<f32, V>>,
    norm: &ComptimeOption<Array<Vector<f32, V>>>,
    column: usize,
    columns: usize,
    #[comptime] config: RowConfig,
) -> Read {
    let mut values = read_x::<V>(x, 0usize, column, columns, config.padded);
    let mut square = 0.0f32;
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
    Read { values, square }
}

/// The first of a set's eight columns of a block.
#[cube]
pub(super) fn first_column(set: usize, block: usize) -> usize {
    set / GROUP_UNITS * Quantization::GROUP + block * Quantization::BLOCK + set % GROUP_UNITS * 8
}

/// The step of a block.
#[cube]
pub(super) fn block_step(steps: Vector<u32, Const<2>>, #[comptime] block: usize, #[comptime] config: RowConfig) -> f32 {
    let word = steps[comptime!(block / 2)];
    if comptime!(config.has_halves) {
        let pair = Vector::<f16, Const<2>>::reinterpret(word);
        f32::cast_from(pair[comptime!(block % 2)])
    } else if comptime!(block % 2 == 1) {
        step(word >> 16u32)
    } else {
        step(word & 0xffffu32)
    }
}
