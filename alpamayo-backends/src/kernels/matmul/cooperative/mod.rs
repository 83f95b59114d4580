//! Products of many rows on the matrix units that a graphics API reaches too: cooperative matrices of bf16 with f32 sums.
//!
//! Tiles of both operands pass through shared memory, the next ones on their way in registers meanwhile. A few blocks of rows
//! share the columns among several cubes, whose sums are added up afterwards. Weights of few bits are widened on their way.

mod kernel;
mod packed;
mod tile;

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::kernels::cooperative::{PLANE, has_cooperative_matrices};
use crate::kernels::finish::{Finish, finish};
use crate::kernels::gate::gate;
use crate::kernels::product::{Element, Following, Product};
use crate::kernels::sum_norm::{SumNorm, sum_norm};
use crate::kernels::tensors::{array, empty, extents, vector};
use crate::layers::Activation;
use kernel::Form;
pub use tile::Tile;

/// Whether the kernel takes the product with so many rows on this device.
pub fn takes<R: CubeRuntime>(tokens: usize, product: &Product<R>) -> bool {
    let is_read = match product.weight.element {
        Element::Bf16 => true,
        Element::Int8 | Element::Int4 => tokens <= Tile::FEW,
        Element::F32 | Element::F16 => false,
    };
    is_read && product.weight.columns.is_multiple_of(8) && is_available(&product.weight.values.client)
}

/// Whether the device has what the kernel needs.
pub fn is_available<R: CubeRuntime>(client: &ComputeClient<R>) -> bool {
    has_cooperative_matrices(client) && client.properties().hardware.max_shared_memory_size >= Tile::MOST_SHARED_BYTES
}

/// The product of `x` `[tokens, in]`, bf16, in the given element type, which is f32 or, where `out` is a multiple of four, bf16.
/// The product's norm is not computed here; a gated one has no residual.
pub fn matmul<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>, dtype: DType) -> CubeTensor<R> {
    matmul_with(x, product, dtype, Tile::choose(extents(x).0, product.weight.rows))
}

/// As [`matmul`] in given tiles.
pub fn matmul_with<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>, dtype: DType, tile: Tile) -> CubeTensor<R> {
    let parts = parts(x, product, tile);
    if product.gated && (parts > 1 || product.bias.is_some() || !tile.takes_gate(product.weight.rows)) {
        let plain = Product {
            gated: false,
            ..product.clone()
        };
        return gate(&matmul_with(x, &plain, dtype, tile));
    }
    let dtype = if vector(product.out_features()) == 4 {
        dtype
    } else {
        DType::F32
    };
    if parts == 1 {
        return in_parts(x, product, 1, dtype, tile);
    }
    let plain = Product {
        bias: None,
        activation: Activation::None,
        residual: None,
        ..product.clone()
    };
    let after = Finish {
        parts,
        bias: product.bias.as_ref(),
        activation: product.activation,
        residual: product.residual.as_ref(),
        dtype,
    };
    finish(&in_parts(x, &plain, parts, DType::F32, tile), &after)
}

/// `product` with its residual added, f32, and its rows normalised, bf16, where several cubes share its columns: then one launch sums
/// and normalises. There is neither a bias nor an activation.
pub fn matmul_norm<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    weight: &CubeTensor<R>,
    epsilon: f64,
) -> Option<[CubeTensor<R>; 2]> {
    let tile = Tile::choose_summed(extents(x).0, product.weight.rows);
    matmul_norm_with(x, product, weight, epsilon, tile)
}

/// As [`matmul_norm`] in given tiles.
pub fn matmul_norm_with<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    weight: &CubeTensor<R>,
    epsilon: f64,
    tile: Tile,
) -> Option<[CubeTensor<R>; 2]> {
    let parts = parts(x, product, tile);
    let residual = product.residual.as_ref()?;
    if parts == 1 || product.bias.is_some() || product.activation != Activation::None {
        return None;
    }
    let plain = Product {
        residual: None,
        ..product.clone()
    };
    Some(sum_norm(&SumNorm {
        product: &in_parts(x, &plain, parts, DType::F32, tile),
        parts,
        residual,
        weight,
        epsilon,
    }))
}

/// How many cubes share a block's columns.
fn parts<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>, tile: Tile) -> usize {
    let (tokens, columns) = extents(x);
    let processors = x.client.properties().hardware.num_streaming_multiprocessors;
    tile.parts(
        (tokens, product.weight.rows, columns),
        processors.unwrap_or(128) as usize,
    )
}

/// The parts of the columns' sums one behind the other, `[parts · tokens, out]`.
fn in_parts<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    parts: usize,
    dtype: DType,
    tile: Tile,
) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let weight = &product.weight;
    let outputs = product.out_features();
    let out = empty(x, parts * tokens, outputs, dtype);
    let part_chunks = columns.div_ceil(tile.round()).div_ceil(parts) * tile.round() / 8;
    let vector = if vector(outputs) == 4 { 4 } else { 1 };
    // SAFETY: rows and columns are clamped or checked, results checked against the extents.
    unsafe {
        kernel::cooperative::launch_unchecked::<R>(
            &x.client,
            CubeCount::Static(
                weight.rows.div_ceil(tile.rows) as u32,
                tokens.div_ceil(tile.tokens) as u32,
                parts as u32,
            ),
            CubeDim::new_2d(PLANE as u32, (tile.units() / PLANE) as u32),
            if weight.element.quantization().is_some() {
                packed::WORDS
            } else {
                4
            },
            vector,
            vector * dtype.size() / 4,
            array(x),
            array(&weight.values),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            array(&out),
            tokens as u32,
            outputs as u32,
            (columns / 8) as u32,
            part_chunks as u32,
            Form {
                element: weight.element,
                following: Following {
                    activation: product.activation,
                    operands: product.operands(),
                },
                gated: product.gated,
                packed: dtype == DType::BF16,
                vector,
                whole: columns.is_multiple_of(tile.round()),
            },
            tile,
        );
    }
    out
}
