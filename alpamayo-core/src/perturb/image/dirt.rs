//! Dirt on the lens.

use super::ImageContext;
use super::pixels::to_byte;
use super::plasma::{covering_size, plasma};
use crate::frame::Frame;
use crate::random::RandomStream;

/// The colour of dried mud.
const MUD: [f32; 3] = [74.0, 61.0, 47.0];

/// Spots of mud on the lens, so near that they are out of focus: soft discs with ragged edges that let some light
/// through. They stay where they are for all frames of a camera.
pub(super) fn dirt(frame: &mut Frame, context: &ImageContext) {
    let spots = context.parameter(0.0, [12.0, 20.0, 30.0, 42.0, 56.0]);
    let opacity = context.parameter(0.4, [0.6, 0.7, 0.8, 0.88, 0.94]) as f32;
    let growth = context.parameter(0.6, [0.8, 0.9, 1.0, 1.1, 1.25]) as f32;
    let (width, height) = (frame.width(), frame.height());
    let mut stream = context.streams.camera();
    let size = covering_size(width, height);
    let cloud = plasma(size, 1.35, &mut stream);
    let mut clear = vec![1.0f32; width * height];
    for index in 0..spots.ceil() as usize {
        let spot = Spot::draw(&mut stream, frame, growth);
        // The newest spot grows in, so that nothing jumps with the severity.
        let weight = opacity * (spots - index as f64).min(1.0) as f32;
        spot.cover(&mut clear, width, |x, y| cloud[y * size + x], weight);
    }
    for (pixel, &clear) in frame.rgb_mut().chunks_exact_mut(3).zip(&clear) {
        for (channel, mud) in pixel.iter_mut().zip(MUD) {
            *channel = to_byte(mud + (f32::from(*channel) - mud) * clear);
        }
    }
}

/// One spot, in pixels.
struct Spot {
    center: [f32; 2],
    radius: f32,
    /// How much of the severity's opacity it has.
    thickness: f32,
}

impl Spot {
    fn draw(stream: &mut RandomStream, frame: &Frame, growth: f32) -> Self {
        let (width, height) = (frame.width() as f32, frame.height() as f32);
        let [x, y, large, thick] = std::array::from_fn(|_| stream.uniform() as f32);
        Self {
            center: [x * width, y * height],
            // Many small ones, few large ones: 1.5 to 13.5 % of the shorter side.
            radius: growth * width.min(height) * (0.015 + 0.12 * large * large),
            thickness: 0.55 + 0.45 * thick,
        }
    }

    /// Takes light from the pixels it covers. Its radius swells and shrinks with the cloud under it.
    fn cover(&self, clear: &mut [f32], width: usize, cloud: impl Fn(usize, usize) -> f32, opacity: f32) {
        let height = clear.len() / width;
        let reach = 2.0 * self.radius;
        let range = |center: f32, side: usize| {
            let first = (center - reach).ceil().clamp(0.0, side as f32) as usize;
            let end = (center + reach + 1.0).floor().clamp(0.0, side as f32) as usize;
            first..end.max(first)
        };
        for y in range(self.center[1], height) {
            for x in range(self.center[0], width) {
                let (dx, dy) = (x as f32 - self.center[0], y as f32 - self.center[1]);
                let distance = (dx * dx + dy * dy).sqrt() / self.radius;
                let edge = 0.2 + 1.6 * cloud(x, y);
                let inside = ((edge - distance) / 0.35 + 0.5).clamp(0.0, 1.0);
                let soft = inside * inside * (3.0 - 2.0 * inside);
                clear[y * width + x] *= 1.0 - opacity * self.thickness * soft;
            }
        }
    }
}
