//! Products with stored weights and the activations after them.

use burn::tensor::{DType, Tensor, activation};

use super::weight::float_weight;
use crate::ModelBackend;
use crate::layers::{Activation, Linear, Weight};

/// See [`ModelBackend::project`].
pub fn project<B: ModelBackend>(x: Tensor<B, 2>, linear: &Linear<B>, activation: Activation) -> Tensor<B, 2> {
    let x = x.cast(DType::F32);
    let product = match &linear.weight {
        Weight::Float(weight) if weight.transposed => x.matmul(weight.values.val().cast(DType::F32)),
        Weight::Split(parts) => {
            let parts = parts.weights().into_iter().map(|part| {
                let part = Linear::new(part, None);
                B::project(x.clone(), &part, Activation::None)
            });
            Tensor::cat(parts.collect(), 1)
        }
        weight => x.matmul(float_weight(weight).transpose()),
    };
    finish(product, linear, activation)
}

/// Adds the layer's bias to a product `[tokens, out]` and applies the activation.
pub fn finish<B: ModelBackend>(product: Tensor<B, 2>, linear: &Linear<B>, activation: Activation) -> Tensor<B, 2> {
    let sum = match &linear.bias {
        Some(bias) => product + bias.val().unsqueeze(),
        None => product,
    };
    activate(sum, activation)
}

/// Applies an activation element by element.
pub fn activate<B: ModelBackend>(x: Tensor<B, 2>, activation: Activation) -> Tensor<B, 2> {
    match activation {
        Activation::None => x,
        Activation::Silu => activation::silu(x),
        Activation::GeluTanh => {
            let inner = (x.clone() + x.clone().powi_scalar(3) * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            x * (inner.tanh() + 1.0) * 0.5
        }
        Activation::GeluErf => {
            let erf = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf();
            x * (erf + 1.0) * 0.5
        }
    }
}

/// `silu(g) · u` of `g | u` `[tokens, 2 · intermediate]`.
pub fn gate<B: ModelBackend>(gate_up: Tensor<B, 2>) -> Tensor<B, 2> {
    let mut halves = gate_up.chunk(2, 1).into_iter();
    match (halves.next(), halves.next()) {
        (Some(gate), Some(up)) => activation::silu(gate) * up,
        _ => unreachable!("a gate-up projection has an even number of columns"),
    }
}
