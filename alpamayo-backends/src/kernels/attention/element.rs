//! How the kernels see a buffer: 16-byte chunks of f32 or of bf16 pairs packed in 32-bit words.
//!
//! bf16 widens to f32 with a shift and narrows with an integer rounding, so no device needs to know the type.

use cubecl::prelude::*;

/// Sixteen bytes: four f32 or eight bf16.
pub(super) type Chunk = Vector<u32, Const<4>>;

/// Four f32.
pub(super) type Quad = Vector<f32, Const<4>>;

/// The score of a hidden key: below every real one, finite so that differences stay finite.
pub(super) const HIDDEN: f32 = -3.0e30;

/// What a running maximum starts from: above [`HIDDEN`], so that hidden keys weigh nothing.
pub(super) const LOWEST: f32 = -1.0e30;

/// Elements in a [`Chunk`].
pub(super) const fn chunk_elements(packed: bool) -> usize {
    if packed { 8 } else { 4 }
}

/// The bits of `value` rounded to bf16 (nearest, ties to even) in the high half; the low half is to be ignored.
#[cube]
pub(super) fn round_to_bf16(value: f32) -> u32 {
    let bits = u32::reinterpret(value);
    bits + 0x7fffu32 + ((bits >> 16u32) & 1u32)
}

/// Two values as bf16 in one word, the first in the low half.
#[cube]
pub(super) fn pack_bf16(first: f32, second: f32) -> u32 {
    (round_to_bf16(first) >> 16u32) | (round_to_bf16(second) & 0xffff_0000u32)
}

/// Quad `index` of a chunk as f32: its only one, or one of two if it holds bf16.
#[cube]
pub(super) fn widen(chunk: Chunk, #[comptime] index: usize, #[comptime] packed: bool) -> Quad {
    let mut quad = Quad::empty();
    if comptime!(packed) {
        #[unroll]
        for pair in 0..2usize {
            let word = chunk[comptime!(2 * index + pair)];
            quad[comptime!(2 * pair)] = f32::reinterpret(word << 16u32);
            quad[comptime!(2 * pair + 1)] = f32::reinterpret(word & 0xffff_0000u32);
        }
    } else {
        #[unroll]
        for element in 0..4usize {
            quad[element] = f32::reinterpret(chunk[element]);
        }
    }
    quad
}
