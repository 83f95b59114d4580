//! One row of `x` against a weight that is streamed from memory once.
//!
//! A unit holds its columns of `x` in registers, eight of each of a group's four blocks, and goes through many weight rows with them: what
//! it loads is codes and steps and nothing else. Where every output read `x` anew, `x` was eight times the bytes of codes of four bits.
//! What is left is bound by the number of instructions, of which bytes take half as many as floats. Where a device multiplies bytes, a cube
//! reads `x` once and makes bytes of it for all its units.

mod bytes;
mod columns;
mod config;
mod floats;
mod kernel;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

pub use config::{CubeLimits, Held, RowConfig, RowShape};

use crate::instances::KernelRuntime;
use crate::kernels::product::Product;
use crate::kernels::tensors::{array, cubes, empty, extents, plane_size, vector};
use crate::layers::Quantization;

/// The cut for a single row of `x`, or `None` where the kernel doesn't take the product: there are no planes that add up, or a cube can't hold
/// all columns.
pub fn choose<R: KernelRuntime>(
    client: &ComputeClient<R>,
    tokens: usize,
    product: &Product<R>,
    quantization: Quantization,
) -> Option<RowShape> {
    let hardware = &client.properties().hardware;
    let limits = CubeLimits {
        lanes: plane_size(client).filter(|_| tokens == 1)?,
        units: hardware.max_units_per_cube as usize,
        shared: hardware.max_shared_memory_size,
    };
    let held = if R::multiplies_bytes(client) {
        Held::Bytes
    } else {
        Held::Floats
    };
    RowShape::choose(
        limits,
        (product.weight.rows, product.weight.columns),
        quantization,
        held,
    )
}

/// The product of `x` `[1, in]`, f32, in a given cut.
pub fn row_with<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    quantization: Quantization,
    shape: RowShape,
) -> CubeTensor<R> {
    let (_, columns) = extents(x);
    let weight = &product.weight;
    let outputs = product.out_features();
    let out = empty(x, 1, outputs, DType::F32);
    let config = RowConfig::new(&x.client, shape, product, quantization);
    let norm = product.norm.as_ref();
    let dims = CubeDim::new_3d(shape.lanes as u32, shape.splits as u32, shape.groups as u32);
    // SAFETY: rows and columns of the weight are clamped to its extents, columns of `x` and outputs checked against theirs.
    unsafe {
        kernel::quantized_row::launch_unchecked::<R>(
            &x.client,
            cubes(outputs.div_ceil(config.outputs_per_group() * shape.groups)),
            dims,
            Quantization::BLOCKS,
            vector(columns),
            array(&weight.values),
            array(&weight.values),
            array(x),
            norm.map(|(norm, _)| array(norm)).into(),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            array(&out),
            outputs as u32,
            columns as u32,
            (weight.words() / Quantization::BLOCKS) as u32,
            norm.map_or(0.0, |(_, epsilon)| *epsilon as f32),
            config,
        );
    }
    out
}
