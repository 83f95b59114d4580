//! The rows of `x` as integers in shared memory, in the order of the tensor core's right operand.

use cubecl::prelude::*;

use super::config::{IntegerConfig, LIMBS, UNIT};
use crate::kernels::streamed::kernel::Chunk;
use crate::layers::Quantization;

type Quad = Vector<f32, Const<4>>;

/// The largest integer that a value is written as: its float has no bits behind the point.
const LARGEST: f32 = 4_194_303.0;

/// 1.5 · 2^23: added to a float of at most [`LARGEST`], the sum's lowest bits are that float's integer.
const MAGIC: f32 = 12_582_912.0;

/// What takes the bits of such a sum to its integer plus 128 in each of three bytes: 0x808080 - 0x4b400000.
const TO_BYTES: u32 = 0xb540_8080;

/// Bits of the smallest magnitude that rows are scaled by, 1e-30.
const SMALLEST: u32 = 0x0da2_4260;

/// The unit's number in its cube.
#[cube]
fn unit_of_cube(#[comptime] config: IntegerConfig) -> usize {
    (UNIT_POS_Z as usize * config.streamed.shape.splits + UNIT_POS_Y as usize) * 32usize + UNIT_POS_X as usize
}

/// For every row of `x`: what its values are multiplied by to become integers, then what sums are multiplied by in the end, the norm's
/// factor included.
#[cube]
pub(super) fn scales(
    x: &Array<Quad>,
    norm: &ComptimeOption<Array<Quad>>,
    columns: usize,
    epsilon: f32,
    #[comptime] config: IntegerConfig,
) -> SharedMemory<f32> {
    let tokens = comptime!(config.tokens);
    let planes = comptime!(config.planes());
    let quads = columns / 4;
    let mut largest = Array::<u32>::new(tokens);
    let mut squares = Array::<f32>::new(tokens);
    #[unroll]
    for token in 0..tokens {
        largest[token] = 0u32;
        squares[token] = 0.0f32;
    }
    let unit = unit_of_cube(config);
    let mut at = unit;
    while at < quads {
        #[unroll]
        for token in 0..tokens {
            let mut values = x[token * quads + at];
            #[comptime]
            match norm {
                ComptimeOption::Some(norm) => {
                    #[unroll]
                    for i in 0..4usize {
                        squares[token] = fma(values[i], values[i], squares[token]);
                    }
                    values *= norm[at];
                }
                ComptimeOption::None => {}
            }
            // As bits, so that what is no number is the largest.
            #[unroll]
            for i in 0..4usize {
                largest[token] = max(largest[token], u32::reinterpret(values[i]) & 0x7fff_ffffu32);
            }
        }
        at += comptime!(32 * config.planes());
    }

    let mut parts = SharedMemory::<u32>::new(comptime!(config.planes() * config.tokens));
    let mut square_parts = SharedMemory::<f32>::new(comptime!(config.planes() * config.tokens));
    let plane = unit / 32;
    #[unroll]
    for token in 0..tokens {
        let high = plane_max(largest[token]);
        if UNIT_POS_X == 0 {
            parts[plane * tokens + token] = high;
        }
        if comptime!(config.streamed.norm) {
            let sum = plane_sum(squares[token]);
            if UNIT_POS_X == 0 {
                square_parts[plane * tokens + token] = sum;
            }
        }
    }
    sync_cube();
    let mut scales = SharedMemory::<f32>::new(comptime!(2 * config.tokens));
    if unit < tokens {
        let mut high = SMALLEST.runtime();
        let mut square = 0.0f32;
        for plane in 0..planes {
            high = max(high, parts[plane * tokens + unit]);
            if comptime!(config.streamed.norm) {
                square += square_parts[plane * tokens + unit];
            }
        }
        let size = f32::reinterpret(high);
        scales[unit] = LARGEST / size;
        let mut back = size * comptime!(1.0 / (LARGEST * code_scale(config.quantization)));
        if comptime!(config.streamed.norm) {
            back /= (square / f32::cast_from(columns) + epsilon).sqrt();
        }
        scales[tokens + unit] = back;
    }
    sync_cube();
    scales
}

/// What the kernel multiplies codes by: those of four bits are taken from the high half of a byte.
fn code_scale(quantization: Quantization) -> f32 {
    match quantization {
        Quantization::Int8 => 1.0,
        Quantization::Int4 => 16.0,
    }
}

/// Writes the limbs of `staged` units of every row from unit `first` on.
///
/// A vector holds what one lane multiplies in two blocks, two words each; it lies at `((unit · 4 + pair of blocks) · columns + column) · 4 +
/// quarter`, column `limb · tokens + token`.
#[cube]
pub(super) fn stage(
    x: &Array<Quad>,
    norm: &ComptimeOption<Array<Quad>>,
    scales: &SharedMemory<f32>,
    staged: &mut SharedMemory<Chunk>,
    first: usize,
    columns: usize,
    #[comptime] config: IntegerConfig,
) {
    let tokens = comptime!(config.tokens);
    let mut item = unit_of_cube(config);
    while item < comptime!(16 * config.staged()) {
        let quarter = item % 4;
        let pair = item / 4 % 4;
        let unit = item / 16;
        let column = (first + unit) * UNIT + pair * comptime!(2 * Quantization::BLOCK) + 8 * quarter;
        #[unroll]
        for token in 0..tokens {
            let scale = scales[token];
            let mut words = Sequence::<u32>::new();
            #[unroll]
            for block in 0..2usize {
                let at = column + comptime!(block * Quantization::BLOCK);
                let low = integers(x, norm, token * columns, at, columns, scale, config);
                let high = integers(x, norm, token * columns, at + 4, columns, scale, config);
                #[unroll]
                for limb in 0..LIMBS {
                    match comptime!(config.quantization) {
                        Quantization::Int8 => {
                            // Pairs are 16 bits apart.
                            words.push(bytes(low[0], low[2], low[1], low[3], limb));
                            words.push(bytes(high[0], high[2], high[1], high[3], limb));
                        }
                        Quantization::Int4 => {
                            // Every other code is in the high half of its byte.
                            words.push(bytes(low[0], high[0], low[1], high[1], limb));
                            words.push(bytes(low[2], high[2], low[3], high[3], limb));
                        }
                    }
                }
            }
            #[unroll]
            for limb in 0..LIMBS {
                let mut vector = Chunk::empty();
                vector[0] = *words.index(comptime!(2 * limb));
                vector[1] = *words.index(comptime!(2 * limb + 1));
                vector[2] = *words.index(comptime!(2 * (LIMBS + limb)));
                vector[3] = *words.index(comptime!(2 * (LIMBS + limb) + 1));
                let place = comptime!(limb * config.tokens + token);
                staged[(item / 4 * comptime!(config.operand_columns()) + place) * 4 + quarter] = vector;
            }
        }
        item += comptime!(32 * config.planes());
    }
}

/// Four values as integers plus 128 in each of three bytes; beyond the row's end zeros.
#[cube]
fn integers(
    x: &Array<Quad>,
    norm: &ComptimeOption<Array<Quad>>,
    row: usize,
    column: usize,
    columns: usize,
    scale: f32,
    #[comptime] config: IntegerConfig,
) -> Vector<u32, Const<4>> {
    let mut values = Quad::new(0.0f32);
    if comptime!(config.padded()) {
        if column < columns {
            values = read(x, norm, row, column);
        }
    } else {
        values = read(x, norm, row, column);
    }
    let mut integers = Vector::<u32, Const<4>>::empty();
    #[unroll]
    for i in 0..4usize {
        integers[i] = u32::reinterpret(fma(values[i], scale, MAGIC)) + TO_BYTES;
    }
    integers
}

/// Four values, times the norm's weights where there is a norm.
#[cube]
fn read(x: &Array<Quad>, norm: &ComptimeOption<Array<Quad>>, row: usize, column: usize) -> Quad {
    let mut values = x[(row + column) / 4];
    #[comptime]
    match norm {
        ComptimeOption::Some(norm) => {
            values *= norm[column / 4];
        }
        ComptimeOption::None => {}
    }
    values
}

/// A limb of four integers, as signed bytes.
#[cube]
fn bytes(first: u32, second: u32, third: u32, fourth: u32, #[comptime] limb: usize) -> u32 {
    let shift = comptime!(8 * limb as u32);
    let low = ((first >> shift) & 0xffu32) | (((second >> shift) & 0xffu32) << 8u32);
    let high = ((third >> shift) & 0xffu32) | (((fourth >> shift) & 0xffu32) << 8u32);
    (low | (high << 16u32)) ^ 0x8080_8080u32
}
