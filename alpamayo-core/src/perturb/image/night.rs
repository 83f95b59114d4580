//! Night.

use super::ImageContext;
use super::noise::NormalNoise;
use super::pixels::to_byte;
use crate::frame::Frame;

/// Takes light away where it is linear (a display exponent of 2.2), shifts what is left to blue, and adds the sensor's
/// noise: shot noise of the few photons and read noise.
pub(super) fn night(frame: &mut Frame, context: &ImageContext) {
    let light = context.parameter(1.0, [0.5, 0.28, 0.15, 0.08, 0.04]);
    let blue = context.parameter(0.0, [0.05, 0.1, 0.15, 0.2, 0.25]);
    let read = context.parameter(0.0, [0.4, 0.8, 1.3, 2.0, 3.0]) as f32;
    let shot = context.parameter(0.0, [0.25, 0.4, 0.55, 0.7, 0.85]) as f32;
    let tables = [1.0 - blue, 1.0 - 0.5 * blue, 1.0 + 0.5 * blue].map(|tint| {
        let table: [f32; 256] = std::array::from_fn(|value| {
            let linear = libm::pow(value as f64 / 255.0, 2.2) * light * tint;
            (255.0 * libm::pow(linear, 1.0 / 2.2)) as f32
        });
        table
    });
    let mut noise = NormalNoise::new(context.streams.frame());
    for pixel in frame.rgb_mut().chunks_exact_mut(3) {
        for (channel, table) in pixel.iter_mut().zip(&tables) {
            let dark = table[usize::from(*channel)];
            let deviation = (read * read + shot * shot * dark).sqrt();
            *channel = to_byte(dark + deviation * noise.next());
        }
    }
}
