//! How a product in wide tiles is cut into planes and cubes.

use burn_cubecl::CubeRuntime;

use super::super::{MAX_NORMALIZED_TOKENS, MAX_TOKENS, StreamedConfig, StreamedShape};
use crate::kernels::product::{Element, Product};
use crate::kernels::tensors::has_bf16_tensor_cores;

/// Parts that a product's columns are cut into at most.
const MAX_PARTS: usize = 8;

/// The cut of a product: a cube has `groups` x `splits` planes, over weight rows and over the columns of a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WideShape {
    /// Tiles of 16 weight rows per plane.
    pub row_tiles: usize,
    /// Planes side by side over the weight rows.
    pub groups: usize,
    /// Planes that share the columns of the same weight rows.
    pub splits: usize,
    /// Steps of 32 columns in a block of weights: a plane multiplies one while the next is on its way.
    pub unroll: usize,
    /// Pairs of blocks in a slab of `x`.
    pub pairs: usize,
    /// Parts of the columns, each of cubes of their own.
    pub parts: usize,
}

/// Everything that a compiled product in wide tiles depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WideConfig {
    /// Planes, tokens and what follows.
    pub streamed: StreamedConfig,
    /// Pairs of blocks in a slab.
    pub pairs: usize,
}

impl WideConfig {
    pub fn new<R: CubeRuntime>(shape: WideShape, tokens: usize, product: &Product<R>) -> Self {
        Self {
            streamed: StreamedConfig {
                shape: StreamedShape {
                    row_tiles: shape.row_tiles,
                    unroll: shape.unroll,
                    splits: shape.splits,
                    groups: shape.groups,
                },
                token_tiles: tokens.div_ceil(8),
                packed: true,
                norm: false,
                activation: product.activation,
                operands: product.operands(),
                gated: product.gated,
            },
            pairs: shape.pairs,
        }
    }

    /// Units of a cube.
    pub fn units(&self) -> usize {
        32 * self.streamed.shape.groups * self.streamed.shape.splits
    }

    /// Steps of 32 columns that a cube's planes multiply in two blocks each.
    pub fn granule(&self) -> usize {
        2 * self.streamed.shape.unroll * self.streamed.shape.splits
    }

    /// Chunks from a staged row of `x` to the next: an odd multiple of 64 bytes, so that eight units that read four chunks each of two
    /// rows fall on different banks.
    pub fn stride(&self) -> usize {
        4 * (self.pairs * self.granule() + 1)
    }

    /// Chunks of a slab of `x`.
    pub fn slab(&self) -> usize {
        self.tokens() * self.stride()
    }

    /// Rows of a slab.
    pub fn tokens(&self) -> usize {
        8 * self.streamed.token_tiles
    }

    /// Rows of a slab that the units of a cube copy a chunk of each at a time.
    pub fn tokens_per_copy(&self) -> usize {
        self.units() / (4 * self.pairs * self.granule())
    }

    /// Chunks of a slab that a unit copies.
    pub fn copies(&self) -> usize {
        self.tokens().div_ceil(self.tokens_per_copy())
    }

    /// Chunks of a block that a unit fetches.
    pub fn loads(&self) -> usize {
        2 * self.streamed.shape.row_tiles * self.streamed.shape.unroll
    }

    /// Bytes of shared memory: two slabs, a barrier, and the sums of planes that share rows.
    fn shared_bytes(&self) -> usize {
        let shape = self.streamed.shape;
        let planes = if shape.splits > 1 {
            shape.groups * shape.splits
        } else {
            0
        };
        16 * 2 * self.slab() + 128 + planes * self.streamed.blocks() * 512
    }
}

impl WideShape {
    /// The cut that measured best for the product's extents, where the kernel takes the product with so many rows on this device.
    pub fn choose<R: CubeRuntime>(tokens: usize, product: &Product<R>) -> Option<Self> {
        let weight = &product.weight;
        let client = &weight.values.client;
        let hardware = &client.properties().hardware;
        let processors = hardware
            .num_streaming_multiprocessors
            .map_or(132, |count| count as usize);
        let shape = Self::of(weight.rows.div_ceil(16), processors.max(1));
        // Where outputs are few and terms are many, narrow tiles would read long rows of `x` over and over. Elsewhere those are faster.
        let long = weight.columns >= 3 * weight.rows && shape.parts_of(product) > 1;
        let takes = long
            && (MAX_NORMALIZED_TOKENS + 1..=MAX_TOKENS).contains(&tokens)
            && weight.element == Element::Bf16
            && weight.columns.is_multiple_of(32)
            && product.norm.is_none()
            && client.properties().features.copy_async
            && has_bf16_tensor_cores(client);
        let fits = shape.fits(tokens, product, hardware.max_shared_memory_size);
        (takes && fits).then_some(shape)
    }

    /// One cube per processor, of 128 weight rows and a part of the columns: what measured best of nine cuts on an H100.
    fn of(tiles: usize, processors: usize) -> Self {
        const GROUPS: usize = 8;
        Self {
            row_tiles: 1,
            groups: GROUPS,
            splits: 2,
            unroll: 2,
            pairs: 1,
            parts: (processors / tiles.div_ceil(GROUPS)).clamp(1, MAX_PARTS),
        }
    }

    /// Whether units fill the rows of a slab evenly and a cube's shared memory stays within so many bytes.
    pub fn fits<R: CubeRuntime>(&self, tokens: usize, product: &Product<R>, limit: usize) -> bool {
        let even = (4 * self.groups).is_multiple_of(self.pairs * self.unroll);
        even && WideConfig::new(*self, tokens, product).shared_bytes() <= limit
    }

    /// Parts of a product's columns. What adds them up neither gates nor takes odd outputs.
    pub(super) fn parts_of<R: CubeRuntime>(&self, product: &Product<R>) -> usize {
        let granules = (product.weight.columns / 32).div_ceil(2 * self.unroll * self.splits);
        let whole = product.gated || product.out_features() % 2 == 1;
        if whole { 1 } else { self.parts.clamp(1, granules) }
    }
}
