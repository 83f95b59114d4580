//! RMSNorm and LayerNorm parameters, always held in f32.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};

/// `x / sqrt(mean(x²) + epsilon) · weight`, statistics in f32.
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// Scale `[features]`, f32.
    pub weight: Param<Tensor<B, 1>>,
    /// Added to the mean square.
    pub epsilon: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// An RMSNorm from its weight `[features]`.
    pub fn new(weight: Tensor<B, 1>, epsilon: f64) -> Self {
        Self {
            weight: parameter(weight),
            epsilon,
        }
    }
}

/// `(x - mean) / sqrt(variance + epsilon) · weight + bias`, statistics in f32.
#[derive(Module, Debug)]
pub struct LayerNorm<B: Backend> {
    /// Scale `[features]`, f32.
    pub weight: Param<Tensor<B, 1>>,
    /// Shift `[features]`, f32.
    pub bias: Param<Tensor<B, 1>>,
    /// Added to the variance.
    pub epsilon: f64,
}

/// A normalisation over the last dimension.
#[derive(Module, Debug)]
pub enum Norm<B: Backend> {
    /// RMSNorm (decoder, expert, action projection).
    Rms(RmsNorm<B>),
    /// LayerNorm (vision tower, mergers, end of the action projection).
    Layer(LayerNorm<B>),
}

impl<B: Backend> Norm<B> {
    /// An RMSNorm from its weight `[features]`.
    pub fn rms(weight: Tensor<B, 1>, epsilon: f64) -> Self {
        Self::Rms(RmsNorm::new(weight, epsilon))
    }

    /// A LayerNorm from its weight and bias `[features]`.
    pub fn layer(weight: Tensor<B, 1>, bias: Tensor<B, 1>, epsilon: f64) -> Self {
        Self::Layer(LayerNorm {
            weight: parameter(weight),
            bias: parameter(bias),
            epsilon,
        })
    }
}

/// A tensor as a module's parameter; inference only, so it requires no gradient.
pub(crate) fn parameter<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Param<Tensor<B, D>> {
    Param::initialized(burn::module::ParamId::new(), tensor)
}
