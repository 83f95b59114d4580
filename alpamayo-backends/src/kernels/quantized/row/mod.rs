//! One row of `x` against a weight that is streamed from memory once.
//!
//! A unit holds its columns of `x` in registers, eight of each of a group's four blocks, and goes through many weight rows with them: what
//! it loads is codes and steps and nothing else. Where every output read `x` anew, `x` was eight times the bytes of codes of four bits.
//! What is left is bound by the number of instructions, of which bytes take half as many as floats. Where a device multiplies bytes, a cube
//! reads `x` once and makes bytes of it for all its units.

mod bytes;
mod chained;
mod columns;
mod config;
mod floats;
mod kernel;
pub mod prepared;

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

pub use chained::{add_and_multiply, multiply_prepared};
pub use config::{CubeLimits, Held, Prepares, RowConfig, RowShape};

use crate::instances::KernelRuntime;
use crate::kernels::product::Product;
use crate::kernels::signals;
use crate::kernels::tensors::{array, cubes, extents, plane_size, vector};
use crate::layers::Quantization;

/// The cut for a single row of `x`, or `None` where the kernel doesn't take the product: there are no planes that add up, or a cube can't hold
/// all columns.
pub fn choose<R: KernelRuntime>(
    client: &ComputeClient<R>,
    tokens: usize,
    product: &Product<R>,
    quantization: Quantization,
) -> Option<RowShape> {
    let limits = limits(client).filter(|_| tokens == 1)?;
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

/// What the device allows a cube; none where there are no planes that add up.
fn limits<R: CubeRuntime>(client: &ComputeClient<R>) -> Option<CubeLimits> {
    let hardware = &client.properties().hardware;
    Some(CubeLimits {
        lanes: plane_size(client)?,
        units: hardware.max_units_per_cube as usize,
        shared: hardware.max_shared_memory_size,
    })
}

/// What a device that multiplies codes as the bytes they are allows a cube; none where it doesn't, or has no planes that add up.
pub fn limits_of_bytes<R: KernelRuntime>(client: &ComputeClient<R>) -> Option<CubeLimits> {
    limits(client).filter(|_| R::multiplies_bytes(client))
}

/// The product of `x` `[1, in]` in a given cut: f32, or prepared where the cut says so.
pub fn row_with<R: KernelRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    quantization: Quantization,
    shape: RowShape,
) -> CubeTensor<R> {
    let config = RowConfig::new(&x.client, shape, product, quantization, None);
    let out = row_of(x, product.out_features());
    launch(x, product, Some(&out), None, config);
    out
}

/// Room for a row of f32.
fn row_of<R: KernelRuntime>(beside: &CubeTensor<R>, columns: usize) -> CubeTensor<R> {
    let signals = R::signals(&beside.device);
    CubeTensor::new_contiguous(
        beside.client.clone(),
        beside.device.clone(),
        Shape::new([1, columns]),
        signals::output(&beside.client, signals.as_ref(), columns * size_of::<f32>()),
        DType::F32,
    )
}

/// What a product leaves for the next one: a row to be written, and the weight of the norm in between.
struct Next<'a, R: CubeRuntime> {
    row: &'a CubeTensor<R>,
    norm: Option<&'a CubeTensor<R>>,
}

fn launch<R: KernelRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    out: Option<&CubeTensor<R>>,
    next: Option<&Next<'_, R>>,
    config: RowConfig,
) {
    let (_, columns) = extents(x);
    let (weight, outputs, shape) = (&product.weight, product.out_features(), config.shape);
    let signals = R::signals(&x.device);
    let is_prepared = shape.held == Held::Prepared;
    let x = || if is_prepared { prepared::vectors(x) } else { array(x) };
    let norm = product.norm.as_ref();
    // A prepared row has been multiplied by the norm's weight.
    let norm_weight = norm.filter(|_| !is_prepared).map(|(weight, _)| array(weight));
    let dims = CubeDim::new_3d(shape.lanes as u32, shape.splits as u32, shape.groups as u32);
    // SAFETY: rows and columns of the weight are clamped to its extents, columns of `x` and outputs checked against theirs.
    unsafe {
        kernel::quantized_row::launch_unchecked::<R>(
            &weight.values.client,
            cubes(outputs.div_ceil(config.outputs_per_cube())),
            dims,
            Quantization::BLOCKS,
            vector(columns),
            array(&weight.values),
            array(&weight.values),
            x(),
            x(),
            norm_weight.into(),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            next.and_then(|next| next.norm).map(array).into(),
            out.map(array).into(),
            next.map(|next| prepared::vectors(next.row)).into(),
            signals::argument(signals.as_ref()),
            outputs as u32,
            columns as u32,
            (weight.words() / Quantization::BLOCKS) as u32,
            norm.map_or(0.0, |(_, epsilon)| *epsilon as f32),
            config,
        );
    }
}
