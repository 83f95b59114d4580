//! Rotary tables and what surrounds an attention: head layout, per-head norms.

use burn::tensor::{Tensor, backend::Backend};

use super::RmsNorm;
use burn::module::Module;

/// Cosines and sines of the rotation angles, one row per token. Element `j` of a head is paired with `j + head_dim / 2`.
#[derive(Debug, Clone)]
pub struct Rotary<B: Backend> {
    /// `[tokens, head_dim / 2]`, f32.
    pub cos: Tensor<B, 2>,
    /// `[tokens, head_dim / 2]`, f32.
    pub sin: Tensor<B, 2>,
}

/// The heads of an attention. The score scale is `head_dim^-0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attention {
    /// Query heads.
    pub num_heads: usize,
    /// Key-value heads; `num_heads / num_key_value_heads` consecutive query heads share one.
    pub num_key_value_heads: usize,
    /// Features per head.
    pub head_dim: usize,
}

impl Attention {
    /// Width of a fused `q | k | v` row: heads inside each part.
    pub fn qkv_features(&self) -> usize {
        (self.num_heads + 2 * self.num_key_value_heads) * self.head_dim
    }
}

/// RMSNorms over each head's features, applied to queries and keys before the rotation.
#[derive(Module, Debug)]
pub struct HeadNorms<B: Backend> {
    /// For queries, weight `[head_dim]`.
    pub query: RmsNorm<B>,
    /// For keys, weight `[head_dim]`.
    pub key: RmsNorm<B>,
}
