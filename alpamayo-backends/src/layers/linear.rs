//! A linear layer over a stored weight.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};

use super::{Weight, norm::parameter};

/// `y = x · weightᵀ + bias`.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `[out, in]` in its stored format.
    pub weight: Weight<B>,
    /// `[out]`, f32.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// A linear layer from its stored weight and its bias `[out]`.
    pub fn new(weight: Weight<B>, bias: Option<Tensor<B, 1>>) -> Self {
        Self {
            weight,
            bias: bias.map(parameter),
        }
    }

    /// Input features.
    pub fn in_features(&self) -> usize {
        self.weight.shape().1
    }

    /// Output features.
    pub fn out_features(&self) -> usize {
        self.weight.shape().0
    }
}

/// What follows a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation (vision blocks).
    GeluTanh,
    /// GELU by the error function (vision mergers).
    GeluErf,
}
