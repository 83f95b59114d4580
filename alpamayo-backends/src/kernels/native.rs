//! Work that a platform may have kernels of its own for, beyond those that are common to all.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;

use super::attention::launch::{Launch, Prepare};
use super::linear::LibraryProduct;
use crate::layers::HostRows;
use crate::sampling::TokenSampling;

/// One piece of such work. What a platform's kernel doesn't take, the common kernels do.
pub enum NativeWork<'a, R: CubeRuntime> {
    /// A product of at most [`MAX_TOKENS`](super::streamed::MAX_TOKENS) rows with all that is fused around it.
    Product(&'a LibraryProduct<'a, R>),
    /// RMSNorm of rows.
    Norm(&'a RmsNormRows<'a, R>),
    /// Images of so many patches each, from their fused projection.
    Images {
        /// The projection and what prepares it.
        prepare: &'a Prepare<'a, R>,
        /// Patches of every image.
        patches: usize,
    },
    /// Whole prompts whose queries, keys and values are prepared, in bf16.
    Prompts {
        /// What was prepared.
        prepare: &'a Prepare<'a, R>,
        /// The problem.
        launch: &'a Launch<'a, R>,
    },
    /// New tokens over a cache in bf16: prepared, appended to the suffix where there is one token, and attended to.
    Tokens {
        /// The projection and what prepares it.
        prepare: &'a Prepare<'a, R>,
        /// The problem; its queries are not prepared.
        launch: &'a Launch<'a, R>,
    },
    /// Rows of a table in the host's memory, which no common kernel reads.
    HostRows {
        /// `[ids]`, i32.
        ids: &'a CubeTensor<R>,
        /// The table.
        table: &'a HostRows,
    },
    /// The next token of each row, as words: ids, then faults.
    Draw(&'a DrawWork<'a, R>),
}

/// Logits to draw tokens from.
pub struct DrawWork<'a, R: CubeRuntime> {
    /// `[clips, vocabulary]`, f32, rows one after another.
    pub logits: &'a CubeTensor<R>,
    /// How. A clip's rows, of which each has a uniform number, lie one after another; there are as many of every clip.
    pub sampling: &'a TokenSampling,
}

/// Rows to be normalised by the root of their mean square.
pub struct RmsNormRows<'a, R: CubeRuntime> {
    /// `[rows, features]`.
    pub x: &'a CubeTensor<R>,
    /// `[features]`, f32.
    pub weight: &'a CubeTensor<R>,
    /// What is added to the mean square.
    pub epsilon: f64,
    /// Element type of the result.
    pub dtype: DType,
}
