//! Products of a few rows with a weight that is streamed from memory once.
//!
//! A group of units, split over the columns, computes a few outputs of all rows at once: it keeps enough 16-byte loads in flight
//! to run at memory speed, and the norm in front, bias, activation, gate and residual cost no further launch.

mod config;
pub(super) mod kernel;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::linear::LibraryProduct;
use super::native::NativeWork;
use super::product::Product;
use super::quantized;
use super::tensors::{array, cubes, empty, extents};
use crate::instances::KernelRuntime;
pub use config::{MatvecConfig, MatvecShape};

/// Rows that one launch takes.
pub const MAX_TOKENS: usize = 8;

/// The product of `x` `[tokens, in]`, f32, at most [`MAX_TOKENS`] of them.
pub fn matvec<R: KernelRuntime>(x: &CubeTensor<R>, product: &Product<R>) -> CubeTensor<R> {
    let dtype = DType::F32;
    if let Some(out) = R::native(&NativeWork::Product(&LibraryProduct { x, product, dtype })) {
        return out;
    }
    if let Some(quantization) = product.weight.element.quantization() {
        return quantized::matvec(x, product, quantization);
    }
    let config = MatvecConfig::choose(&x.client, extents(x).0, product);
    matvec_with(x, product, config)
}

/// As [`matvec`] with a given configuration.
pub fn matvec_with<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>, config: MatvecConfig) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let weight = &product.weight;
    let rows = product.out_features();
    let out = empty(x, tokens, rows, DType::F32);
    let vector = config.x_vector;
    let norm = product.norm.as_ref();
    let dims = CubeDim::new_3d(
        config.shape.lanes as u32,
        config.shape.splits as u32,
        config.shape.groups as u32,
    );
    let groups = rows.div_ceil(config.outputs_per_group());
    // SAFETY: every index is clamped to the weight's rows or checked against the row's chunks.
    unsafe {
        kernel::matvec::launch_unchecked::<R>(
            &x.client,
            cubes(groups.div_ceil(config.shape.groups)),
            dims,
            config.words,
            vector,
            array(&weight.values),
            array(x),
            norm.map(|(norm, _)| array(norm)).into(),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            array(&out),
            rows as u32,
            (weight.words() / config.words) as u32,
            1.0 / columns as f32,
            norm.map_or(0.0, |(_, epsilon)| *epsilon as f32),
            config,
        );
    }
    out
}
