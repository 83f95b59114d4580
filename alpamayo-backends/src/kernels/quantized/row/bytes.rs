//! Columns as integers of two bytes: the bytes of codes are multiplied as they are, four at a time.
//!
//! A unit's values share a power of two, by which the largest of them becomes an integer of at least 127 · 2^7. Rounding costs the others
//! at most 2^-15 of that value, a hundredth more in the worst case: far less than what so few bits have cost the weight. An integer is
//! `256 · high + low`, both of them signed bytes.

use cubecl::prelude::*;

use super::columns::block_step;
use super::config::{RowConfig, UNIT_COLUMNS};
use crate::kernels::byte_dot::dot_bytes;
use crate::layers::Quantization;

/// Bits of the smallest magnitude that values are scaled by, 1e-30.
const SMALLEST: u32 = 0x0da2_4260;

/// Bits of what is larger than every number. Where a value isn't one, sums won't be either.
const INFINITY: u32 = 0x7f80_0000;

/// Added to a float's bits, makes its exponent one more where the mantissa is 127/64 or above: the integer's high byte couldn't hold it.
const ROOM: u32 = 0x0002_0000;

/// 2^23, in front of an integer below 2^16 in a float's lowest bits, and 128 for each of its two bytes, so that none is negative.
const TO_BYTES: f32 = 8_421_504.0;

/// What takes the 128 off four bytes.
const SIGNS: u32 = 0x8080_8080;

/// Where two of four bytes lie.
const EVEN: u32 = 0x00ff_00ff;

/// A unit's columns.
#[derive(CubeType)]
pub(super) struct Integers {
    /// Of every block two words of high bytes, then two of low ones; bytes lie in a word as codes do.
    words: Array<u32>,
    /// What a product of an integer and a code's byte is multiplied by.
    scale: f32,
}

#[cube]
impl Integers {
    /// Values, eight of each block.
    pub(super) fn of(values: &Array<f32>, #[comptime] config: RowConfig) -> Integers {
        let mut largest = SMALLEST.runtime();
        // As bits, so that what is no number is the largest.
        #[unroll]
        for i in 0..UNIT_COLUMNS {
            largest = max(largest, u32::reinterpret(values[i]) & 0x7fff_ffffu32);
        }
        // The largest value is less than 127/64 of this power of two, and times the factor less than 127 · 2^8.
        let power = (min(largest, INFINITY) + ROOM) & INFINITY;
        let factor = f32::reinterpret(0x8600_0000u32 - power);
        let mut words = Array::<u32>::new(comptime!(4 * Quantization::BLOCKS));
        #[unroll]
        for block in 0..Quantization::BLOCKS {
            let mut pairs = Array::<u32>::new(4usize);
            #[unroll]
            for pair in 0..4usize {
                let at = comptime!(8 * block + 2 * pair);
                let first = u32::reinterpret(fma(values[at], factor, TO_BYTES));
                let second = u32::reinterpret(fma(values[comptime!(at + 1)], factor, TO_BYTES));
                pairs[pair] = (first & 0xffffu32) | (second << 16u32);
            }
            #[unroll]
            for word in 0..2usize {
                let [first, second] = comptime!(pairs_of(word, config.quantization));
                let (first, second) = (pairs[first], pairs[second]);
                words[comptime!(4 * block + word)] = (((first >> 8u32) & EVEN) | (second & comptime!(!EVEN))) ^ SIGNS;
                words[comptime!(4 * block + 2 + word)] = ((first & EVEN) | ((second & EVEN) << 8u32)) ^ SIGNS;
            }
        }
        Integers {
            words,
            scale: f32::reinterpret(power) * comptime!(1.0 / (16384.0 * code_scale(config.quantization))),
        }
    }

    /// The product with a row whose codes and steps were loaded to `at`.
    pub(super) fn product<W: Size>(
        &self,
        loaded: &Array<Vector<u32, W>>,
        odd: bool,
        #[comptime] at: usize,
        #[comptime] config: RowConfig,
    ) -> f32 {
        let codes = comptime!(config.code_vectors());
        let steps = loaded[comptime!(at + codes)];
        let mut sum = 0.0f32;
        #[unroll]
        for block in 0..Quantization::BLOCKS {
            let mut high = 0i32;
            let mut low = 0i32;
            #[unroll]
            for word in 0..2usize {
                // Eight columns have the halves of a word's bytes, or a word of two vectors each.
                let vector = loaded[comptime!(at + word * (codes - 1))];
                let bytes = code_bytes(vector[block], word, config.quantization);
                high += dot_bytes(self.words[comptime!(4 * block + word)], bytes);
                low += dot_bytes(self.words[comptime!(4 * block + 2 + word)], bytes);
            }
            let partial = f32::cast_from(high * 256i32 + low);
            sum = fma(block_step(steps, odd, block), partial, sum);
        }
        sum * self.scale
    }
}

/// The pairs of columns, of eight, whose four codes [`code_bytes`] makes a word of: those of the first one lie in its even bytes.
fn pairs_of(word: usize, quantization: Quantization) -> [usize; 2] {
    match quantization {
        Quantization::Int8 => [2 * word, 2 * word + 1],
        Quantization::Int4 => [word, word + 2],
    }
}

/// What a code is multiplied by in its byte.
fn code_scale(quantization: Quantization) -> f32 {
    match quantization {
        Quantization::Int8 => 1.0,
        Quantization::Int4 => 16.0,
    }
}

/// Four codes as signed bytes: all of a word, or those in the lower or upper halves of its bytes, taken to the upper one.
#[cube]
fn code_bytes(word: u32, #[comptime] half: usize, #[comptime] quantization: Quantization) -> u32 {
    let stored = match comptime!((quantization, half)) {
        (Quantization::Int8, _) => word,
        (Quantization::Int4, 0) => (word << 4u32) & 0xf0f0_f0f0u32,
        (Quantization::Int4, _) => word & 0xf0f0_f0f0u32,
    };
    stored ^ SIGNS
}
