//! Products of up to 64 rows with a bf16 weight that is streamed from memory once, on tensor cores.
//!
//! A plane multiplies tiles of 16 weight rows with eight rows of `x` at a time. The order of a dot product's terms is free, so
//! every lane reads 16 neighbouring bytes of a weight row and of `x` and takes them as the terms that are its own in two steps
//! of the tensor core: nothing is staged or shuffled, and all loads are as wide as the memory wants them.

mod config;
pub(super) mod epilogue;
pub(super) mod kernel;
mod wide;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use half::bf16;

use super::linear::LibraryProduct;
use super::native::NativeWork;
use super::product::{Element, Product};
use super::quantized;
use super::tensors::{array, cubes, empty, extents, has_bf16_tensor_cores};
use crate::instances::KernelRuntime;
pub use config::{StreamedConfig, StreamedShape};
pub use wide::{WideShape, parts_with, wide_with};

/// Rows of `x` that one launch takes.
pub const MAX_TOKENS: usize = 64;

/// Rows of `x` that a norm can be fused in front of.
pub const MAX_NORMALIZED_TOKENS: usize = 8;

/// Whether the kernel takes the product with so many rows on this device.
pub fn takes<R: CubeRuntime>(tokens: usize, product: &Product<R>) -> bool {
    let weight = &product.weight;
    let normalized = product.norm.is_none() || tokens <= MAX_NORMALIZED_TOKENS;
    let readable = match weight.element {
        Element::Bf16 => weight.columns.is_multiple_of(32),
        element => element.quantization().is_some() && quantized::streams(tokens, product),
    };
    readable && (1..=MAX_TOKENS).contains(&tokens) && normalized && has_bf16_tensor_cores(&weight.values.client)
}

/// The product of `x` `[tokens, in]`, f32 or bf16, in f32 or rounded to bf16.
pub fn streamed<R: KernelRuntime>(x: &CubeTensor<R>, product: &Product<R>, dtype: DType) -> CubeTensor<R> {
    if let Some(out) = R::native(&NativeWork::Product(&LibraryProduct { x, product, dtype })) {
        return out;
    }
    if let Some(quantization) = product.weight.element.quantization() {
        return quantized::streamed(x, product, dtype, quantization);
    }
    if let Some(shape) = WideShape::choose(extents(x).0, product) {
        return wide_with(x, product, dtype, shape);
    }
    let config = StreamedConfig::choose(x, product);
    streamed_with(x, product, dtype, config)
}

/// As [`streamed`] with a given configuration.
pub fn streamed_with<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    dtype: DType,
    config: StreamedConfig,
) -> CubeTensor<R> {
    match dtype {
        DType::BF16 => launch::<R, bf16>(x, product, dtype, config),
        _ => launch::<R, f32>(x, product, dtype, config),
    }
}

fn launch<R: CubeRuntime, E: Float + CubeElement>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    dtype: DType,
    config: StreamedConfig,
) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let weight = &product.weight;
    let rows = product.out_features();
    let out = empty(x, tokens, rows, dtype);
    let norm = product.norm.as_ref();
    let shape = config.shape;
    let tiles = rows.div_ceil(config.outputs_per_tile());
    // SAFETY: rows of the weight and of `x` are clamped to the last, results are checked against the extents.
    unsafe {
        kernel::streamed::launch_unchecked::<E, R>(
            &x.client,
            cubes(tiles.div_ceil(shape.row_tiles * shape.groups)),
            CubeDim::new_3d(32, shape.splits as u32, shape.groups as u32),
            array(&weight.values),
            array(x),
            norm.map(|(norm, _)| array(norm)).into(),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            ArrayArg::from_raw_parts(out.handle.clone(), tokens * rows),
            tokens as u32,
            rows as u32,
            (columns / 8) as u32,
            1.0 / columns as f32,
            norm.map_or(0.0, |(_, epsilon)| *epsilon as f32),
            config,
        );
    }
    out
}
