//! bf16 bits in 32-bit words: widened with a shift, rounded to nearest even.

use cubecl::prelude::*;

/// The f32 value of a word's low half.
#[cube]
pub fn low(word: u32) -> f32 {
    f32::reinterpret(word << 16)
}

/// The f32 value of a word's high half.
#[cube]
pub fn high(word: u32) -> f32 {
    f32::reinterpret(word & 0xffff_0000u32)
}

/// Two values rounded to bf16 in one word. Values are finite.
#[cube]
pub fn pack(first: f32, second: f32) -> u32 {
    (round(first) >> 16) | (round(second) & 0xffff_0000u32)
}

/// The bits of a value rounded to bf16, in the high half; the low half is left over.
#[cube]
fn round(value: f32) -> u32 {
    let bits = u32::reinterpret(value);
    bits + 0x7fffu32 + ((bits >> 16) & 1u32)
}

/// A vector of values as words: their own bits, or (`packed`) rounded to bf16, two per word.
#[cube]
pub fn words<X: Size, W: Size>(values: Vector<f32, X>, #[comptime] packed: bool) -> Vector<u32, W> {
    let mut words = Vector::<u32, W>::empty();
    #[unroll]
    for i in 0..W::value() {
        if comptime!(packed) {
            words[i] = pack(values[comptime!(2 * i)], values[comptime!(2 * i + 1)]);
        } else {
            words[i] = u32::reinterpret(values[i]);
        }
    }
    words
}

/// The inverse of [`words`].
#[cube]
pub fn values<X: Size, W: Size>(words: Vector<u32, W>, #[comptime] packed: bool) -> Vector<f32, X> {
    let mut values = Vector::<f32, X>::empty();
    #[unroll]
    for i in 0..W::value() {
        if comptime!(packed) {
            values[comptime!(2 * i)] = low(words[i]);
            values[comptime!(2 * i + 1)] = high(words[i]);
        } else {
            values[i] = f32::reinterpret(words[i]);
        }
    }
    values
}
