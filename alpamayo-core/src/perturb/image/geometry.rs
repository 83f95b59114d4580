//! A camera that is not where its calibration says: shift, rotate and crop.

use super::ImageContext;
use super::pixels::to_byte;
use super::plane::Plane;
use crate::frame::Frame;

/// Moves the image in a direction drawn per camera.
pub(super) fn shift(frame: &mut Frame, context: &ImageContext) {
    let length = context.parameter(0.0, [0.02, 0.04, 0.08, 0.12, 0.2]);
    let length = length * frame.width().min(frame.height()) as f64;
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * context.streams.camera().uniform());
    let (dx, dy) = ((length * cos) as f32, (length * sin) as f32);
    resample(frame, |x, y| [x + dx, y + dy]);
}

/// Turns the image about its centre, to one side or the other per camera.
pub(super) fn rotate(frame: &mut Frame, context: &ImageContext) {
    let degrees = context.parameter(0.0, [1.0, 2.0, 4.0, 7.0, 10.0]);
    let degrees = if context.streams.camera().coin() {
        degrees
    } else {
        -degrees
    };
    let (sin, cos) = libm::sincos(degrees.to_radians());
    let (sin, cos) = (sin as f32, cos as f32);
    resample(frame, |x, y| [cos * x - sin * y, sin * x + cos * y]);
}

/// Enlarges the image's central part to the whole: a lens of longer focal length.
pub(super) fn crop(frame: &mut Frame, context: &ImageContext) {
    let kept = context.parameter(1.0, [0.95, 0.9, 0.8, 0.7, 0.6]) as f32;
    resample(frame, |x, y| [kept * x, kept * y]);
}

/// Fills every pixel from the place that `source` names, in pixels from the image's centre; edges are repeated.
fn resample(frame: &mut Frame, source: impl Fn(f32, f32) -> [f32; 2]) {
    let plane = Plane::from_frame(frame);
    let width = frame.width();
    let (middle_x, middle_y) = ((width - 1) as f32 / 2.0, (frame.height() - 1) as f32 / 2.0);
    for (index, pixel) in frame.rgb_mut().chunks_exact_mut(3).enumerate() {
        let [x, y] = source((index % width) as f32 - middle_x, (index / width) as f32 - middle_y);
        for (c, value) in pixel.iter_mut().enumerate() {
            *value = to_byte(plane.bilinear(x + middle_x, y + middle_y, c));
        }
    }
}
