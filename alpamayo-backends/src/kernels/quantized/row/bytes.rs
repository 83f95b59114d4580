//! Columns as integers of two bytes: the bytes of codes are multiplied as they are, four at a time.
//!
//! The 32 values of a unit share a power of two, by which the largest of them becomes an integer of at least 127 · 2^7. Rounding costs the others
//! at most 2^-15 of that value, a hundredth more in the worst case: far less than what so few bits have cost the weight. An integer is
//! `256 · high + low`, both of them signed bytes.

use cubecl::prelude::*;

use super::columns::{Loaded, block_step, first_column, read_quad};
use super::config::{RowConfig, SHARED_PADDING};
use crate::kernels::byte_dot::dot_bytes;
use crate::kernels::quantized::codes::Quad;
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
pub(super) const SIGNS: u32 = 0x8080_8080;

/// Where two of four bytes lie.
const EVEN: u32 = 0x00ff_00ff;

/// Four words: of a block's eight columns two of high bytes, then two of low ones. Bytes lie in a word as codes do.
pub(super) type Words = Vector<u32, Const<4>>;

/// A row as integers, which all units of a cube have made together.
#[derive(CubeType)]
pub(super) struct SharedRow {
    /// The columns of every set, block after block.
    words: SharedMemory<Words>,
    /// What a product of a set's integer and a code's byte is multiplied by, and [`SIGNS`]: of a mask and an exclusive or with two constants
    /// NVIDIA's compiler makes two instructions, with a constant and what it doesn't know to be one a single one.
    scales: SharedMemory<Vector<f32, Const<2>>>,
    /// The sum of squares of what the unit has read.
    square: f32,
}

#[cube]
impl SharedRow {
    /// Reads the row. Four neighbours read a set, a block each.
    pub(super) fn read<V: Size>(
        x: &Array<Vector<f32, V>>,
        norm: &ComptimeOption<Array<Vector<f32, V>>>,
        columns: usize,
        #[comptime] config: RowConfig,
    ) -> SharedRow {
        let sets = comptime!(config.shape.column_sets());
        let stride = comptime!(config.shape.column_sets() + SHARED_PADDING);
        let mut words = SharedMemory::<Words>::new(comptime!(stride * Quantization::BLOCKS));
        let mut scales = SharedMemory::<Vector<f32, Const<2>>>::new(sets);
        let mut square = 0.0f32;
        let mut at = UNIT_POS as usize;
        while at < comptime!(sets * Quantization::BLOCKS) {
            let (set, block) = (at / Quantization::BLOCKS, at % Quantization::BLOCKS);
            let column = first_column(set, block);
            let first = read_quad(x, norm, column, columns, config);
            let second = read_quad(x, norm, column + 4, columns, config);
            square += first.square + second.square;
            let power = power(largest(first.values, second.values));
            words[block * stride + set] = words_of(first.values, second.values, power, config.quantization);
            if block == 0 {
                let mut pair = Vector::<f32, Const<2>>::empty();
                pair[0] = scale_of(power, config.quantization);
                pair[1] = f32::reinterpret(SIGNS.runtime());
                scales[set] = pair;
            }
            at += comptime!(config.shape.units());
        }
        sync_cube();
        SharedRow { words, scales, square }
    }

    /// The columns of a set.
    pub(super) fn columns(&self, set: usize, #[comptime] config: RowConfig) -> Integers {
        let stride = comptime!(config.shape.column_sets() + SHARED_PADDING);
        let mut words = Array::<Words>::new(Quantization::BLOCKS);
        #[unroll]
        for block in 0..Quantization::BLOCKS {
            words[block] = self.words[comptime!(block * stride) + set];
        }
        let scale = self.scales[set];
        Integers {
            words,
            scale: scale[0],
            square: self.square,
            signs: u32::reinterpret(scale[1]),
        }
    }
}

/// The largest magnitude of a set, as a float's bits, so that what is no number is the largest: of the unit's eight columns and those of
/// its three neighbours.
#[cube]
pub(super) fn largest(first: Quad, second: Quad) -> u32 {
    let mut largest = SMALLEST.runtime();
    #[unroll]
    for i in 0..4usize {
        largest = max(largest, u32::reinterpret(first[i]) & 0x7fff_ffffu32);
        largest = max(largest, u32::reinterpret(second[i]) & 0x7fff_ffffu32);
    }
    #[unroll]
    for level in 0..2usize {
        largest = max(largest, plane_shuffle_xor(largest, comptime!(1u32 << level)));
    }
    largest
}

/// The bits of the power of two that a set is scaled by: the largest value is less than 127/64 of it.
#[cube]
pub(super) fn power(largest: u32) -> u32 {
    (min(largest, INFINITY) + ROOM) & INFINITY
}

/// Eight columns as integers.
#[cube]
pub(super) fn words_of(first: Quad, second: Quad, power: u32, #[comptime] quantization: Quantization) -> Words {
    // The largest value times this is less than 127 · 2^8.
    let factor = f32::reinterpret(0x8600_0000u32 - power);
    let mut pairs = Array::<u32>::new(4usize);
    #[unroll]
    for pair in 0..2usize {
        pairs[pair] = pair_of(first[comptime!(2 * pair)], first[comptime!(2 * pair + 1)], factor);
        pairs[comptime!(pair + 2)] = pair_of(second[comptime!(2 * pair)], second[comptime!(2 * pair + 1)], factor);
    }
    let mut words = Words::empty();
    #[unroll]
    for word in 0..2usize {
        let [first, second] = comptime!(pairs_of(word, quantization));
        let (first, second) = (pairs[first], pairs[second]);
        words[word] = (((first >> 8u32) & EVEN) | (second & comptime!(!EVEN))) ^ SIGNS;
        words[comptime!(word + 2)] = ((first & EVEN) | ((second & EVEN) << 8u32)) ^ SIGNS;
    }
    words
}

/// What a product of a set's integer and a code's byte is multiplied by.
#[cube]
pub(super) fn scale_of(power: u32, #[comptime] quantization: Quantization) -> f32 {
    f32::reinterpret(power) * comptime!(1.0 / (16384.0 * code_scale(quantization)))
}

/// The integer of one of eight columns.
#[cube]
pub(super) fn integer(words: Words, #[comptime] place: usize, #[comptime] quantization: Quantization) -> f32 {
    let (word, byte) = comptime!(byte_of(place, quantization));
    // Shifted up and down again, bytes keep their signs.
    let up = comptime!(24 - 8 * byte as u32);
    let high = i32::cast_from(words[word] << up) >> 24i32;
    let low = i32::cast_from(words[comptime!(word + 2)] << up) >> 24i32;
    f32::cast_from(high * 256i32 + low)
}

/// Two integers of 16 bits.
#[cube]
fn pair_of(first: f32, second: f32, factor: f32) -> u32 {
    let first = u32::reinterpret(fma(first, factor, TO_BYTES));
    let second = u32::reinterpret(fma(second, factor, TO_BYTES));
    (first & 0xffffu32) | (second << 16u32)
}

/// A unit's columns.
#[derive(CubeType)]
pub(super) struct Integers {
    pub(super) words: Array<Words>,
    pub(super) scale: f32,
    pub(super) square: f32,
    /// [`SIGNS`].
    pub(super) signs: u32,
}

#[cube]
impl Integers {
    /// The product with a row that was loaded to `at`.
    pub(super) fn product<W: Size>(
        &self,
        loaded: &Loaded<W>,
        #[comptime] at: usize,
        #[comptime] config: RowConfig,
    ) -> f32 {
        let codes = comptime!(config.code_vectors());
        let mut sum = 0.0f32;
        #[unroll]
        for block in 0..Quantization::BLOCKS {
            let mut high = 0i32;
            let mut low = 0i32;
            let words = self.words[block];
            #[unroll]
            for word in 0..2usize {
                // Eight columns have the halves of a word's bytes, or a word of two vectors each.
                let vector = loaded.codes[comptime!(at * codes + word * (codes - 1))];
                let bytes = code_bytes(vector[block], word, self.signs, config.quantization);
                high += dot_bytes(words[word], bytes);
                low += dot_bytes(words[comptime!(2 + word)], bytes);
            }
            let partial = f32::cast_from(high * 256i32 + low);
            sum = fma(block_step(loaded.steps[at], block, config), partial, sum);
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

/// The word and the byte of one of eight columns.
fn byte_of(place: usize, quantization: Quantization) -> (usize, usize) {
    let (pair, second) = (place / 2, place % 2);
    let word = (0..2)
        .find(|&word| pairs_of(word, quantization).contains(&pair))
        .unwrap_or(0);
    (word, 2 * second + usize::from(pairs_of(word, quantization)[1] == pair))
}

/// What a code is multiplied by in its byte.
pub(super) fn code_scale(quantization: Quantization) -> f32 {
    match quantization {
        Quantization::Int8 => 1.0,
        Quantization::Int4 => 16.0,
    }
}

/// Four codes as signed bytes: all of a word, or those in the lower or upper halves of its bytes, taken to the upper one.
#[cube]
fn code_bytes(word: u32, #[comptime] half: usize, signs: u32, #[comptime] quantization: Quantization) -> u32 {
    let stored = match comptime!((quantization, half)) {
        (Quantization::Int8, _) => word,
        (Quantization::Int4, 0) => (word << 4u32) & 0xf0f0_f0f0u32,
        (Quantization::Int4, _) => word & 0xf0f0_f0f0u32,
    };
    stored ^ signs
}
