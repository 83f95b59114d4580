//! Merges the parts of a split attention.

use cubecl::prelude::*;

use super::element::{LOWEST, Quad, pack_bf16};

/// One unit per quad of the result `[heads of all tokens, head_dim]`, from `[heads of all tokens, parts, head_dim]`.
///
/// `output` is words: an f32 or two bf16 each.
#[cube(launch_unchecked)]
pub(super) fn combine(
    sums: &Array<Quad>,
    statistics: &Array<f32>,
    output: &mut Array<u32>,
    quads: u32,
    parts: u32,
    #[comptime] head_dim: usize,
    #[comptime] packed: bool,
) {
    let place = ABSOLUTE_POS;
    if place < quads as usize {
        let columns = comptime!(head_dim / 4);
        let target = place / columns;
        let column = place % columns;
        let first = target * parts as usize;
        let mut maximum = LOWEST.runtime();
        for part in 0..parts as usize {
            maximum = max(maximum, statistics[2 * (first + part)]);
        }
        let mut total = 0.0f32;
        let mut sum = Quad::new(0.0f32);
        for part in 0..parts as usize {
            let weight = (statistics[2 * (first + part)] - maximum).exp();
            total += weight * statistics[2 * (first + part) + 1];
            sum = fma(Quad::new(weight), sums[(first + part) * columns + column], sum);
        }
        let result = sum * Quad::new(1.0f32 / total);
        if comptime!(packed) {
            output[2 * place] = pack_bf16(result[0], result[1]);
            output[2 * place + 1] = pack_bf16(result[2], result[3]);
        } else {
            #[unroll]
            for element in 0..4usize {
                output[4 * place + element] = u32::reinterpret(result[element]);
            }
        }
    }
}
