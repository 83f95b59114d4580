//! Fog.

use super::ImageContext;
use super::pixels::{map_positions, to_byte};
use super::plasma::{covering_size, plasma};
use crate::frame::Frame;

/// Adds a plasma fractal and scales back so that the image's brightest value keeps its brightness.
pub(super) fn fog(frame: &mut Frame, context: &ImageContext) {
    let thickness = context.parameter(0.0, [1.5, 2.0, 2.5, 2.5, 3.0]) as f32;
    let decay = context.parameter(2.0, [2.0, 2.0, 1.7, 1.5, 1.4]);
    let size = covering_size(frame.width(), frame.height());
    let cloud = plasma(size, decay, &mut context.streams.camera());
    let brightest = f32::from(frame.rgb().iter().copied().max().unwrap_or(0)) / 255.0;
    let keep = brightest / (brightest + thickness);
    map_positions(frame, |x, y, pixel| {
        let veil = 255.0 * thickness * cloud[y * size + x];
        pixel.map(|channel| to_byte((f32::from(channel) + veil) * keep))
    });
}
