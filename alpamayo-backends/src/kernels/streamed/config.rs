//! How a streamed product is cut into planes.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::MAX_NORMALIZED_TOKENS;
use crate::kernels::product::{Operands, Product};
use crate::kernels::tensors::extents;
use crate::layers::Activation;

/// The cut of a product: a cube has `groups` x `splits` planes, over weight rows and over the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamedShape {
    /// Tiles of 16 weight rows per plane.
    pub row_tiles: usize,
    /// Steps of 32 columns that a plane loads before it uses them.
    pub unroll: usize,
    /// Planes that share the columns of the same weight rows.
    pub splits: usize,
    /// Planes side by side over the weight rows.
    pub groups: usize,
}

/// Everything that a compiled streamed product depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamedConfig {
    /// The cut.
    pub shape: StreamedShape,
    /// Tiles of eight rows of `x`.
    pub token_tiles: usize,
    /// Whether `x` is bf16, else f32.
    pub packed: bool,
    /// Whether an RMSNorm is in front.
    pub norm: bool,
    /// What follows.
    pub activation: Activation,
    /// What is added.
    pub operands: Operands,
    /// Whether outputs are pairs of gate and up projection.
    pub gated: bool,
}

impl StreamedConfig {
    /// The configuration that measured best for the product's extents.
    pub fn choose<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>) -> Self {
        Self::new(StreamedShape::choose(extents(x).0, product), x, product)
    }

    /// A product in a given cut.
    pub fn new<R: CubeRuntime>(shape: StreamedShape, x: &CubeTensor<R>, product: &Product<R>) -> Self {
        Self {
            shape,
            token_tiles: extents(x).0.div_ceil(8),
            packed: x.dtype == DType::BF16,
            norm: product.norm.is_some(),
            activation: product.activation,
            operands: product.operands(),
            gated: product.gated,
        }
    }

    /// Outputs that a tile of 16 weight rows computes: a gated pair is one.
    pub fn outputs_per_tile(&self) -> usize {
        if self.gated { 8 } else { 16 }
    }

    /// Blocks of 16 weight rows by eight rows of `x` per plane.
    pub(crate) fn blocks(&self) -> usize {
        self.shape.row_tiles * self.token_tiles
    }
}

impl StreamedShape {
    /// The cut that measured best for the product's extents.
    pub fn choose<R: CubeRuntime>(tokens: usize, product: &Product<R>) -> Self {
        let tall = product.weight.rows >= 12_288;
        let [row_tiles, unroll, splits, groups] = match (tokens <= MAX_NORMALIZED_TOKENS, tall) {
            (true, true) => [2, 1, 4, 2],
            (true, false) => [1, 2, 8, 1],
            (false, true) => [1, 4, 4, 2],
            (false, false) => [1, 2, 8, 1],
        };
        Self {
            row_tiles,
            unroll,
            splits,
            groups,
        }
    }
}
