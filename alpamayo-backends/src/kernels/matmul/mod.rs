//! Products of many rows, on any device.
//!
//! Tiles of both operands pass through shared memory, where the weight's elements are already widened; every unit keeps a block
//! of f32 sums in registers. Nothing is rounded below f32.

pub mod cooperative;
mod registers;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::product::Product;
use super::tensors::{array, empty, extents, vector};
pub use registers::TileConfig;

/// The product of `x` `[tokens, in]`, f32. Norm and gate of the product are not computed here.
pub fn matmul<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>) -> CubeTensor<R> {
    matmul_with(x, product, TileConfig::choose(extents(x).0, product))
}

/// As [`matmul`] in given tiles.
pub fn matmul_with<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>, config: TileConfig) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let weight = &product.weight;
    let out = empty(x, tokens, weight.rows, DType::F32);
    let x_vector = if columns.is_multiple_of(4) { 4 } else { 1 };
    let chunk = (4 / weight.element.per_word()).max(1);
    let words = if weight.element.quantization().is_some() {
        1
    } else if weight.words().is_multiple_of(chunk) {
        chunk
    } else {
        1
    };
    let out_vector = if vector(weight.rows) == 4 { 4 } else { 1 };
    // SAFETY: rows are clamped, columns and results checked against the extents.
    unsafe {
        registers::matmul::launch_unchecked::<R>(
            &x.client,
            CubeCount::Static(
                weight.rows.div_ceil(config.rows) as u32,
                tokens.div_ceil(config.tokens) as u32,
                1,
            ),
            CubeDim::new_1d(config.units() as u32),
            x_vector,
            words,
            out_vector,
            array(x),
            array(&weight.values),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            array(&out),
            tokens as u32,
            weight.rows as u32,
            columns as u32,
            config,
        );
    }
    out
}
