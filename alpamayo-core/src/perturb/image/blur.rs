//! Gaussian blur.

use super::plane::Plane;
use super::{ImageContext, length_scale};
use crate::frame::Frame;

/// Convolves with a gaussian, cut at four standard deviations.
pub(super) fn gaussian_blur(frame: &mut Frame, context: &ImageContext) {
    let sigma = context.parameter(0.0, [1.0, 2.0, 3.0, 4.0, 6.0]) * length_scale(frame);
    let kernel = gaussian_kernel(sigma);
    let reach = (kernel.len() / 2) as isize;
    let taps = |vertical: bool| -> Vec<_> {
        (-reach..)
            .zip(&kernel)
            .map(|(at, &weight)| if vertical { (0, at, weight) } else { (at, 0, weight) })
            .collect()
    };
    Plane::from_frame(frame)
        .correlate(&taps(false))
        .correlate(&taps(true))
        .write(frame);
}

/// An odd number of weights that sum to 1.
fn gaussian_kernel(sigma: f64) -> Vec<f32> {
    let reach = (4.0 * sigma + 0.5).floor() as i32;
    let weights: Vec<f64> = (-reach..=reach)
        .map(|at| match at {
            0 => 1.0,
            _ => libm::exp(-0.5 * f64::from(at * at) / (sigma * sigma)),
        })
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}
