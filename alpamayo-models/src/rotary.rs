//! Rotation angles on the host, once per prompt or image size, and their tables on the device.

use alpamayo_backends::layers::Rotary;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

/// `1 / theta^(2j / dimension)` for `j < dimension / 2`, in f32 as the reference computes them.
pub(crate) fn inverse_frequencies(theta: f64, dimension: usize) -> Vec<f32> {
    (0..dimension / 2)
        .map(|j| {
            let exponent = (2 * j) as f32 / dimension as f32;
            1.0 / theta.powf(f64::from(exponent)) as f32
        })
        .collect()
}

/// Cosines and sines of `angles` `[tokens, half]` (radians), rounded from f64: a device's own are not exact at large angles.
pub(crate) fn rotary_table<B: Backend>(angles: &[f32], half: usize, device: &B::Device) -> Rotary<B> {
    let table = |function: fn(f64) -> f64| {
        let value = |&angle: &f32| function(f64::from(angle)) as f32;
        let values: Vec<f32> = angles.par_iter().with_min_len(4096).map(value).collect();
        Tensor::from_data(TensorData::new(values, [angles.len() / half.max(1), half]), device)
    };
    Rotary {
        cos: table(f64::cos),
        sin: table(f64::sin),
    }
}
