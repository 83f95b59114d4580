//! Reading codes and steps.

use cubecl::prelude::*;

use crate::kernels::product::Element;
use crate::layers::Quantization;

pub(crate) type Quad = Vector<f32, Const<4>>;

/// The exponent bits of 1.0: a code in the mantissa behind them becomes a float by one subtraction.
const ONE: u32 = 0x3f80_0000;

/// The value of a step's 16 bits, an f16 that is not negative. Exact without any hardware for f16, also where it is subnormal.
#[cube]
pub(crate) fn step(bits: u32) -> f32 {
    let normal = f32::reinterpret((bits << 13) + 0x3800_0000u32);
    // Of 2^23 + bits, in units of 2^-24: a conversion would be slow.
    let subnormal = fma(f32::reinterpret(bits | 0x4b00_0000u32), 5.960_464_5e-8f32, -0.5f32);
    select(bits < 0x400u32, subnormal, normal)
}

/// Four codes of a word as floats, of consecutive columns from `4 · run` of the word on.
///
/// A code's bits are put into the mantissa of a float between 1 and 2; scaled by a power of two that float is `2^m + code + offset`,
/// so that every operation is exact, and none is a conversion, which GPUs do slowly.
#[cube]
pub(crate) fn run(word: u32, #[comptime] run: usize, #[comptime] quantization: Quantization) -> Quad {
    let bits = comptime!(quantization.bits());
    let mut quad = Quad::empty();
    #[unroll]
    for i in 0..4usize {
        // The code's place, moved into the 23 bits of the mantissa where it isn't there.
        let place = comptime!((2 * run + i / 2 + quantization.per_word() / 2 * (i % 2)) * bits);
        let moved = comptime!(if place + bits > 23 { shift(bits) } else { 0 });
        let shifted = if comptime!(moved > 0) {
            word >> comptime!(moved as u32)
        } else {
            word
        };
        let at = comptime!(place - moved);
        let mask = comptime!(((1u32 << bits) - 1) << at);
        let scale = comptime!((1u32 << (23 - at)) as f32);
        let bias = comptime!((1u32 << (23 - at)) as f32 + quantization.offset() as f32);
        quad[i] = fma(f32::reinterpret((shifted & mask) | ONE), scale, -bias);
    }
    quad
}

/// How far words are shifted for the codes that don't lie in the mantissa: one shift for all of them.
fn shift(bits: usize) -> usize {
    match bits {
        4 => 12,
        _ => 16,
    }
}

/// Four consecutive values of a row, zero beyond its end. `weight` is read as words; `column` is a multiple of four.
#[cube]
pub(crate) fn read_quad<W: Size>(
    weight: &Array<Vector<u32, W>>,
    row: usize,
    column: usize,
    columns: usize,
    #[comptime] element: Element,
) -> Quad {
    let quantization = comptime!(scheme(element));
    let (chunks, bits) = comptime!((quantization.chunks(), quantization.bits()));
    let groups = (columns + comptime!(Quantization::GROUP - 1)) / comptime!(Quantization::GROUP);
    let code_words = groups * comptime!(quantization.chunks() * Quantization::BLOCKS);
    let row_words = (code_words + groups * comptime!(Quantization::BLOCKS / 2) + 7) / 8 * 8;
    let mut values = Quad::new(0.0f32);
    if column < columns {
        let group = column / comptime!(Quantization::GROUP);
        let block = column / comptime!(Quantization::BLOCK);
        let within = column % comptime!(Quantization::BLOCK);
        let (eight, quad) = (within / 8, within % 8 / 4);
        // The second four of eight columns are in the same word, or in another chunk.
        let chunk = group * chunks + quad * comptime!(quantization.chunks() - 4) + eight;
        let start = row * row_words;
        let words = weight[start + chunk * comptime!(Quantization::BLOCKS) + block % comptime!(Quantization::BLOCKS)];
        let steps = weight[start + code_words + block / 2];
        let step = step((steps[0] >> (16u32 * (block % 2) as u32)) & 0xffffu32);
        // A word's second run lies where its first one does once it is shifted.
        let shift = quad * comptime!(2 * bits * (quantization.runs() - 1));
        let codes = run(words[0] >> (shift as u32), 0usize, quantization);
        values = codes * Quad::new(step);
    }
    values
}

/// The scheme of an element that has one.
pub(crate) fn scheme(element: Element) -> Quantization {
    element.quantization().unwrap_or(Quantization::Int8)
}
