//! Products of 9 to 64 rows in wide tiles of weight rows that share `x`.
//!
//! Narrow tiles read all of `x` once per tile, which is more than the weight and bound by the way from the cache to the processors.
//! Here a cube's planes share it: slabs of its columns are copied to shared memory asynchronously, the next one while the current
//! one is multiplied. Weights go from memory straight to the registers of the tensor core, every plane's next ones while it
//! multiplies. Where a product has few outputs, cubes split the columns, and [`finish`] adds their sums in order.

mod config;
mod kernel;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use half::bf16;

use crate::kernels::finish::{Finish, finish};
use crate::kernels::product::Product;
use crate::kernels::round::round;
use crate::kernels::tensors::{array, cubes, empty, extents};
use crate::layers::Activation;
use config::WideConfig;
pub use config::WideShape;

/// The product of `x` `[tokens, in]`, f32 or bf16, in f32 or rounded to bf16, in a given cut.
pub fn wide_with<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    dtype: DType,
    shape: WideShape,
) -> CubeTensor<R> {
    let rounded = (x.dtype != DType::BF16).then(|| round(x));
    let x = rounded.as_ref().unwrap_or(x);
    let parts = shape.parts_of(product);
    if parts == 1 {
        return match dtype {
            DType::BF16 => launch::<R, bf16>(x, product, dtype, shape, parts),
            _ => launch::<R, f32>(x, product, dtype, shape, parts),
        };
    }
    let after = Finish {
        parts,
        bias: product.bias.as_ref(),
        activation: product.activation,
        residual: product.residual.as_ref(),
        dtype,
    };
    finish(&parts_with(x, product, shape), &after)
}

/// The sums of each part of the columns, `[parts · tokens, out]` in f32, without what follows the product.
pub fn parts_with<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>, shape: WideShape) -> CubeTensor<R> {
    let plain = Product {
        bias: None,
        residual: None,
        activation: Activation::None,
        ..product.clone()
    };
    launch::<R, f32>(x, &plain, DType::F32, shape, shape.parts_of(product))
}

fn launch<R: CubeRuntime, E: Float + CubeElement>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    dtype: DType,
    shape: WideShape,
    parts: usize,
) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let rows = product.out_features();
    let out = empty(x, parts * tokens, rows, dtype);
    let config = WideConfig::new(shape, tokens, product);
    let tiles = rows.div_ceil(config.streamed.outputs_per_tile());
    // SAFETY: rows of the weight and of `x` and their columns are clamped to the last, results are checked against the extents.
    unsafe {
        kernel::wide::launch_unchecked::<E, R>(
            &x.client,
            cubes(parts * tiles.div_ceil(shape.row_tiles * shape.groups)),
            CubeDim::new_3d(32, shape.splits as u32, shape.groups as u32),
            array(&product.weight.values),
            array(x),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            ArrayArg::from_raw_parts(out.handle.clone(), parts * tokens * rows),
            tokens as u32,
            rows as u32,
            (columns / 8) as u32,
            parts as u32,
            config,
        );
    }
    out
}
