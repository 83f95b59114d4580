//! Per-head RMSNorm and rotation of pairs `(j, j + head_dim / 2)`.

use burn::tensor::{Tensor, backend::Backend};

use super::norm::root_mean_square;
use crate::layers::{RmsNorm, Rotary};

/// RMSNorm over each head of `x` `[tokens, heads, head_dim]`.
pub fn normalize_heads<B: Backend>(x: Tensor<B, 3>, norm: &RmsNorm<B>) -> Tensor<B, 3> {
    root_mean_square(x, norm.weight.val(), norm.epsilon)
}

/// Rotates every head of `x` `[tokens, heads, head_dim]` by its token's angles.
pub fn rotate<B: Backend>(x: Tensor<B, 3>, rotary: &Rotary<B>) -> Tensor<B, 3> {
    let [tokens, heads, head_dim] = x.dims();
    let half = head_dim / 2;
    let first = x.clone().slice([0..tokens, 0..heads, 0..half]);
    let second = x.slice([0..tokens, 0..heads, half..head_dim]);
    let cos = rotary.cos.clone().unsqueeze_dim::<3>(1);
    let sin = rotary.sin.clone().unsqueeze_dim::<3>(1);
    Tensor::cat(
        vec![
            first.clone() * cos.clone() - second.clone() * sin.clone(),
            second * cos + first * sin,
        ],
        2,
    )
}
