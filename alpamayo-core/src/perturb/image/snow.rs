//! Snow.

use super::motion_blur::blur_along;
use super::noise::NormalNoise;
use super::pixels::{luma, map_positions, to_byte};
use super::plane::Plane;
use super::{ImageContext, length_scale};
use crate::frame::Frame;

/// Whitens the image and adds flakes: normal noise, enlarged, cut below a threshold and blurred along the wind, once as
/// it is and once turned upside down.
pub(super) fn snow(frame: &mut Frame, context: &ImageContext) {
    let daylight = context.parameter(1.0, [0.8, 0.7, 0.7, 0.65, 0.55]) as f32;
    let flakes = flakes(frame, context);
    let (width, height) = (frame.width(), frame.height());
    map_positions(frame, |x, y, pixel| {
        let white = luma(pixel) * 1.5 + 127.5;
        let added = flakes.values[y * width + x] + flakes.values[(height - 1 - y) * width + width - 1 - x];
        pixel.map(|channel| {
            let channel = f32::from(channel);
            to_byte(daylight * channel + (1.0 - daylight) * channel.max(white) + 255.0 * added)
        })
    });
}

/// The layer of flakes, 0 to 1. They fall: each frame has its own; the wind is the camera's.
fn flakes(frame: &Frame, context: &ImageContext) -> Plane {
    let mean = context.parameter(0.1, [0.1, 0.2, 0.55, 0.55, 0.55]) as f32;
    let deviation = 0.3;
    let zoom = context.parameter(3.0, [3.0, 2.0, 4.0, 4.5, 2.5]) as f32;
    // Without snow the threshold lies where no flake reaches it.
    // At level 3 ImageNet-C has 0.9, with which level 3 changes less than level 2.
    let threshold = context.parameter(1.5, [0.5, 0.5, 0.86, 0.85, 0.85]) as f32;
    let radius = context.parameter(10.0, [10.0, 12.0, 12.0, 12.0, 12.0]);
    let sigma = context.parameter(4.0, [4.0, 4.0, 8.0, 8.0, 12.0]);
    let scale = length_scale(frame);

    let mut noise = NormalNoise::new(context.streams.frame());
    let side = |pixels: usize| ((pixels as f64 / scale).ceil() as usize).max(1);
    let mut field = Plane::new(side(frame.width()), side(frame.height()), 1);
    for value in &mut field.values {
        *value = mean + deviation * noise.next();
    }
    let mut layer = Plane::new(frame.width(), frame.height(), 1);
    let (width, enlargement) = (layer.width, zoom * scale as f32);
    let to_field = |at: usize, side: usize, field_side: usize| {
        (at as f32 - (side - 1) as f32 / 2.0) / enlargement + (field_side - 1) as f32 / 2.0
    };
    for (index, value) in layer.values.iter_mut().enumerate() {
        let x = to_field(index % width, frame.width(), field.width);
        let y = to_field(index / width, frame.height(), field.height);
        let found = field.bilinear(x, y, 0);
        *value = if found < threshold { 0.0 } else { found.clamp(0.0, 1.0) };
    }
    let degrees = -135.0 + 90.0 * context.streams.camera().uniform();
    blur_along(&layer, radius * scale, sigma * scale, degrees)
}
