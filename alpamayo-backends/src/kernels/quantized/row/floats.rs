//! Columns as floats: codes become floats too, one by one.

use cubecl::prelude::*;

use super::columns::{Loaded, block_step};
use super::config::RowConfig;
use crate::kernels::quantized::codes::{Quad, run};
use crate::layers::Quantization;

/// The product of the columns with a row whose codes and steps were loaded to `at`.
#[cube]
pub(super) fn product<W: Size>(
    held: &Array<f32>,
    loaded: &Loaded<W>,
    #[comptime] at: usize,
    #[comptime] config: RowConfig,
) -> f32 {
    let codes = comptime!(config.code_vectors());
    let mut sum = 0.0f32;
    #[unroll]
    for block in 0..Quantization::BLOCKS {
        let mut partial = 0.0f32;
        #[unroll]
        for quad in 0..2usize {
            // Eight columns are two runs of a word, or a word of two vectors each.
            let words = loaded.codes[comptime!(at * codes + quad * (codes - 1))];
            let values = run(words[block], comptime!(quad * (2 - codes)), config.quantization);
            partial = add_products(partial, values, held, comptime!(8 * block + 4 * quad));
        }
        sum = fma(block_step(loaded.steps[at], block, config), partial, sum);
    }
    sum
}

#[cube]
fn add_products(sum: f32, values: Quad, held: &Array<f32>, #[comptime] first: usize) -> f32 {
    let mut sum = sum;
    #[unroll]
    for i in 0..4usize {
        sum = fma(held[comptime!(first + i)], values[i], sum);
    }
    sum
}
