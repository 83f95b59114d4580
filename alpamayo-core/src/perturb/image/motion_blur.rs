//! Blur along a line.

use super::plane::Plane;
use super::{ImageContext, length_scale};
use crate::frame::Frame;

/// Blurs along a line within 45° of the horizontal, drawn per camera: a car does not change its motion between frames.
pub(super) fn motion_blur(frame: &mut Frame, context: &ImageContext) {
    let scale = length_scale(frame);
    let radius = context.parameter(0.0, [10.0, 15.0, 15.0, 15.0, 20.0]) * scale;
    let sigma = context.parameter(0.0, [3.0, 5.0, 8.0, 12.0, 15.0]) * scale;
    let degrees = -45.0 + 90.0 * context.streams.camera().uniform();
    blur_along(&Plane::from_frame(frame), radius, sigma, degrees).write(frame);
}

/// Averages over 2·radius + 1 steps of one pixel in a direction, weighted with one side of a gaussian.
pub(super) fn blur_along(plane: &Plane, radius: f64, sigma: f64, degrees: f64) -> Plane {
    let steps = 2 * radius.ceil() as i32 + 1;
    let (sin, cos) = libm::sincos(degrees.to_radians());
    let weights: Vec<f64> = (0..steps)
        .map(|step| match step {
            0 => 1.0,
            _ => libm::exp(-0.5 * f64::from(step * step) / (sigma * sigma)),
        })
        .collect();
    let sum: f64 = weights.iter().sum();
    let taps: Vec<_> = (0..steps)
        .zip(weights)
        .map(|(step, weight)| {
            let along = f64::from(step);
            let dx = (along * cos - 0.5).ceil() as isize;
            let dy = (along * sin - 0.5).ceil() as isize;
            (dx, dy, (weight / sum) as f32)
        })
        .filter(|&(_, _, weight)| weight > 0.0)
        .collect();
    plane.correlate(&taps)
}
