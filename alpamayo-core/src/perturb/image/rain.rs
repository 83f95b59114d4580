//! Rain.

use super::pixels::{luma, to_byte};
use super::plane::Plane;
use super::{ImageContext, length_scale};
use crate::frame::Frame;
use crate::random::RandomStream;

/// Dims and greys the image as an overcast sky does, and draws falling streaks, new ones in every frame. Their slant is
/// the camera's.
pub(super) fn rain(frame: &mut Frame, context: &ImageContext) {
    let light = context.parameter(1.0, [0.92, 0.85, 0.78, 0.7, 0.62]) as f32;
    let grey = context.parameter(0.0, [0.1, 0.2, 0.3, 0.4, 0.5]) as f32;
    let veil = context.parameter(0.0, [8.0, 14.0, 22.0, 30.0, 40.0]) as f32;
    let streaks = streaks(frame, context);
    for (pixel, &streak) in frame.rgb_mut().chunks_exact_mut(3).zip(&streaks.values) {
        let luma = luma([pixel[0], pixel[1], pixel[2]]);
        for channel in pixel {
            let value = f32::from(*channel);
            let dull = (value + (luma - value) * grey) * light + veil;
            // A streak is a lens that shows the sky.
            *channel = to_byte(dull + (215.0 - dull).max(0.0) * streak.min(0.8));
        }
    }
}

/// How much of each pixel is covered by streaks.
fn streaks(frame: &Frame, context: &ImageContext) -> Plane {
    // Streaks on a 224 x 224 image; a longer side has more of them.
    let density = context.parameter(0.0, [60.0, 120.0, 220.0, 340.0, 500.0]);
    let length = context.parameter(14.0, [14.0, 18.0, 22.0, 26.0, 32.0]);
    let opacity = context.parameter(0.3, [0.35, 0.4, 0.45, 0.5, 0.6]);
    let scale = length_scale(frame);
    let area = frame.width() as f64 * frame.height() as f64 / (224.0 * 224.0 * scale * scale);
    let slant = (-15.0 + 30.0 * context.streams.camera().uniform()).to_radians();
    let mut stream = context.streams.frame();
    let mut layer = Plane::new(frame.width(), frame.height(), 1);
    for _ in 0..(density * area).ceil() as usize {
        let streak = Streak::draw(&mut stream);
        streak.paint(&mut layer, slant, length * scale, 0.5 * scale, opacity);
    }
    layer
}

/// One streak, in units that do not depend on the severity.
struct Streak {
    /// Where it is centred, 0 to 1 across and down the image and a little beyond.
    place: [f64; 2],
    /// How near it is: longer, wider and brighter.
    nearness: f64,
}

impl Streak {
    fn draw(stream: &mut RandomStream) -> Self {
        Self {
            place: [stream.uniform(), -0.05 + 1.1 * stream.uniform()],
            nearness: 0.4 + 0.6 * stream.uniform(),
        }
    }

    /// Adds it to the layer: each row it crosses gets its width there, shared between neighbouring pixels, fading to
    /// both ends.
    fn paint(&self, layer: &mut Plane, slant: f64, length: f64, half_width: f64, opacity: f64) {
        let half_length = self.nearness * length / 2.0;
        let half_width = (self.nearness * half_width).max(0.5);
        let center = [self.place[0] * layer.width as f64, self.place[1] * layer.height as f64];
        let (sin, cos) = libm::sincos(slant);
        let top = (center[1] - half_length * cos).ceil().max(0.0) as usize;
        let bottom = ((center[1] + half_length * cos).floor() + 1.0).clamp(0.0, layer.height as f64) as usize;
        for y in top..bottom {
            let along = (y as f64 - center[1]) / cos;
            let x = center[0] + along * sin;
            let strength = opacity * self.nearness * (1.0 - (along / half_length).abs()).max(0.0).sqrt();
            let left = (x - half_width - 0.5).ceil().max(0.0) as usize;
            let right = ((x + half_width + 0.5).floor() + 1.0).clamp(0.0, layer.width as f64) as usize;
            for column in left..right {
                let covered = (half_width + 0.5 - (column as f64 - x).abs()).clamp(0.0, 1.0);
                layer.values[y * layer.width + column] += (strength * covered) as f32;
            }
        }
    }
}
