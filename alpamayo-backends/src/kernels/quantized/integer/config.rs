//! How an integer product is cut into planes.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use crate::kernels::product::Product;
use crate::kernels::streamed::{StreamedConfig, StreamedShape};
use crate::kernels::tensors::extents;
use crate::layers::Quantization;

/// Input features of a unit: two groups, whose steps fill one vector.
pub(super) const UNIT: usize = 2 * Quantization::GROUP;

/// Bytes of the integers that a value of `x` is written as.
pub(super) const LIMBS: usize = 3;

/// Shared memory that the rows of `x` may take.
const STAGED_BYTES: usize = 96 << 10;

/// Shared memory of a multiprocessor, less what every cube of a few takes beside.
const RESIDENT_BYTES: usize = 220 << 10;

/// The cut of a product: a cube has `groups` x `splits` planes, over weight rows and over the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IntegerShape {
    /// Planes that share the columns of the same weight rows.
    pub splits: usize,
    /// Planes side by side over the weight rows.
    pub groups: usize,
    /// Tiles of 16 weight rows that a plane computes one after another.
    pub rounds: usize,
}

/// Everything that a compiled product depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IntegerConfig {
    /// Planes, and what is fused.
    pub streamed: StreamedConfig,
    /// Tiles that a plane computes.
    pub rounds: usize,
    /// The scheme.
    pub quantization: Quantization,
    /// Rows of `x`.
    pub tokens: usize,
    /// Outputs of the product: half the weight's rows where gated.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
}

impl IntegerConfig {
    /// A product in a given cut.
    pub fn new<R: CubeRuntime>(
        shape: IntegerShape,
        x: &CubeTensor<R>,
        product: &Product<R>,
        quantization: Quantization,
    ) -> Self {
        let (tokens, columns) = extents(x);
        let planes = StreamedShape {
            row_tiles: 1,
            unroll: 1,
            splits: shape.splits,
            groups: shape.groups,
        };
        Self {
            streamed: StreamedConfig::new(planes, x, product),
            rounds: shape.rounds,
            quantization,
            tokens,
            rows: product.out_features(),
            columns,
        }
    }

    /// Units of a weight row.
    pub(super) fn units(&self) -> usize {
        self.columns.div_ceil(UNIT)
    }

    /// Vectors of a weight row.
    pub(super) fn row_vectors(&self) -> usize {
        self.quantization.row_words(self.columns) / Quantization::BLOCKS
    }

    /// Those of its codes.
    pub(super) fn code_vectors(&self) -> usize {
        self.quantization.code_words(self.columns) / Quantization::BLOCKS
    }

    /// Tiles of weight rows.
    pub(super) fn row_tiles(&self) -> usize {
        self.rows.div_ceil(self.streamed.outputs_per_tile())
    }

    /// Units of `x` that are in shared memory at a time: all, or as many as fit and give every plane the same.
    pub(super) fn staged(&self) -> usize {
        let splits = self.streamed.shape.splits;
        let fitting = (STAGED_BYTES / (UNIT * self.operand_columns()) / splits).max(1) * splits;
        self.units().min(fitting)
    }

    /// Whether the units in shared memory are replaced while a tile is computed.
    pub(super) fn phased(&self) -> bool {
        self.staged() < self.units()
    }

    /// Whether rows end before the last unit in shared memory does.
    pub(super) fn padded(&self) -> bool {
        !self.columns.is_multiple_of(UNIT * self.staged())
    }

    /// Whether the last unit has a single group.
    pub(super) fn halved(&self) -> bool {
        self.quantization.groups(self.columns) % 2 == 1
    }

    /// Cubes that a multiprocessor of an H100 runs at a time: as many as its registers and its shared memory are enough for.
    pub(super) fn resident(&self) -> usize {
        let planes = match (self.quantization, self.tiles()) {
            (Quantization::Int8, 1) => 24,
            (Quantization::Int8, _) => 16,
            (Quantization::Int4, 1) => 32,
            (Quantization::Int4, _) => 24,
        };
        let staged = UNIT * self.staged() * self.operand_columns();
        let parts = 1024 * self.planes();
        (planes / self.planes()).min(RESIDENT_BYTES / (staged + parts)).max(1)
    }

    /// Planes of a cube.
    pub(super) fn planes(&self) -> usize {
        self.streamed.shape.splits * self.streamed.shape.groups
    }

    /// Columns of the tensor core's right operand that there are: every row of `x` in every limb.
    pub(super) fn operand_columns(&self) -> usize {
        LIMBS * self.tokens
    }

    /// Tiles of eight such columns: two rows fit into one with all their limbs, more have a tile per limb.
    pub(super) fn tiles(&self) -> usize {
        if self.tokens <= 2 { 1 } else { LIMBS }
    }

    /// Chunks of a unit that a lane reads of each of its two weight rows.
    pub(super) fn chunks(&self) -> usize {
        self.quantization.chunks() / 2
    }
}
