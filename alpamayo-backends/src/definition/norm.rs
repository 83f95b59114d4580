//! RMSNorm and LayerNorm, statistics in f32.

use burn::tensor::{DType, Tensor, backend::Backend};

use crate::layers::Norm;

/// See [`ModelBackend::normalize`](crate::ModelBackend::normalize).
pub fn normalize<B: Backend>(x: Tensor<B, 2>, norm: &Norm<B>) -> Tensor<B, 2> {
    let x = x.cast(DType::F32);
    match norm {
        Norm::Rms(norm) => root_mean_square(x, norm.weight.val(), norm.epsilon),
        Norm::Layer(norm) => {
            let centered = x.clone() - x.mean_dim(1);
            let variance = (centered.clone() * centered.clone()).mean_dim(1);
            centered * (variance + norm.epsilon).sqrt().recip() * norm.weight.val().unsqueeze()
                + norm.bias.val().unsqueeze()
        }
    }
}

/// RMSNorm over the last dimension of a tensor of any rank.
pub(super) fn root_mean_square<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
    x * (mean_square + epsilon).sqrt().recip() * weight.unsqueeze()
}
