//! Activations in f32.

use cubecl::prelude::*;

use crate::layers::Activation;

/// The activation of one value.
#[cube]
pub fn activate(x: f32, #[comptime] activation: Activation) -> f32 {
    match comptime!(activation) {
        Activation::None => x,
        Activation::Silu => silu(x),
        Activation::GeluTanh => gelu_tanh(x),
        Activation::GeluErf => gelu_erf(x),
    }
}

/// `x · sigmoid(x)`.
#[cube]
pub fn silu(x: f32) -> f32 {
    x / (1.0f32 + (-x).exp())
}

/// GELU by its tanh approximation, as `x · sigmoid(2 u)`: the same as `x (1 + tanh u) / 2` without a tanh.
#[cube]
fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.797_884_6f32 * (x + 0.044_715f32 * x * x * x);
    x / (1.0f32 + (-2.0f32 * inner).exp())
}

/// GELU by the error function.
#[cube]
fn gelu_erf(x: f32) -> f32 {
    0.5f32 * x * (1.0f32 + Erf::erf(x * core::f32::consts::FRAC_1_SQRT_2))
}
