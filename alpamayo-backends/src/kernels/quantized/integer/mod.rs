//! Products of up to eight rows on the tensor cores' integers: nothing is widened.
//!
//! Every cube writes the rows of `x` as integers of 23 bits, relative to the row's largest magnitude, and each of those as three signed bytes,
//! its *limbs*. A limb is a column of the tensor core's right operand, of which few rows leave most unused; the left one is the codes as
//! they are. Sums over a block are exact, and are multiplied by the block's step in f32.

mod config;
mod kernel;
mod rows;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::kernels::product::Product;
use crate::kernels::tensors::{array, cubes, empty, extents, has_int8_tensor_cores};
use crate::layers::Quantization;
use config::UNIT;
pub use config::{IntegerConfig, IntegerShape};

/// Rows of `x` that one launch takes.
pub const MAX_TOKENS: usize = 8;

/// Whether the kernel takes the product with so many rows on this device.
pub fn takes<R: CubeRuntime>(tokens: usize, product: &Product<R>) -> bool {
    let weight = &product.weight;
    (1..=MAX_TOKENS).contains(&tokens)
        && weight.element.quantization().is_some()
        && weight.columns.is_multiple_of(4)
        && has_int8_tensor_cores(&weight.values.client)
}

/// The product of `x` `[tokens, in]`, f32.
pub fn integer<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>, quantization: Quantization) -> CubeTensor<R> {
    integer_with(x, product, quantization, choose(x, product, quantization))
}

/// The cut for the product's extents.
pub fn choose<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>, quantization: Quantization) -> IntegerShape {
    let splits = if product.weight.columns >= 16 * UNIT { 8 } else { 4 };
    once(x, product, quantization, splits, 1)
}

/// The cut whose cubes all run at the same time, each with its part of the weight rows: each makes the rows of `x` ready only once.
pub fn once<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    quantization: Quantization,
    splits: usize,
    groups: usize,
) -> IntegerShape {
    let shape = IntegerShape {
        splits,
        groups,
        rounds: 1,
    };
    let config = IntegerConfig::new(shape, x, product, quantization);
    let hardware = &x.client.properties().hardware;
    let cubes = hardware.num_streaming_multiprocessors.unwrap_or(64) as usize * config.resident();
    IntegerShape {
        rounds: config.row_tiles().div_ceil(groups * cubes),
        ..shape
    }
}

/// As [`integer`] in a given cut.
pub fn integer_with<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    quantization: Quantization,
    shape: IntegerShape,
) -> CubeTensor<R> {
    let out = empty(x, extents(x).0, product.out_features(), DType::F32);
    let norm = product.norm.as_ref();
    let config = IntegerConfig::new(shape, x, product, quantization);
    // SAFETY: rows of the weight are clamped to the last, vectors to the row's, results are checked against the extents.
    unsafe {
        kernel::quantized_integer::launch_unchecked::<R>(
            &x.client,
            cubes(config.row_tiles().div_ceil(shape.groups * shape.rounds)),
            CubeDim::new_3d(32, shape.splits as u32, shape.groups as u32),
            array(&product.weight.values),
            array(x),
            norm.map(|(norm, _)| array(norm)).into(),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            array(&out),
            norm.map_or(0.0, |(_, epsilon)| *epsilon as f32),
            config,
        );
    }
    out
}
