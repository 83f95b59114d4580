//! Glare of a low sun.

use super::ImageContext;
use super::pixels::{map_positions, to_byte};
use crate::frame::Frame;
use crate::random::RandomStream;

/// Light that is scattered in lens and eye: the sun's disc, its halo, ghosts on the line through the image's centre,
/// and a veil that takes contrast everywhere. Each adds light by the screen rule 1 - (1 - image)(1 - light).
pub(super) fn sun_glare(frame: &mut Frame, context: &ImageContext) {
    let disc = context.parameter(0.0, [0.02, 0.035, 0.05, 0.07, 0.1]) as f32;
    let halo = context.parameter(0.0, [0.08, 0.14, 0.22, 0.32, 0.45]) as f32;
    let veil = context.parameter(0.0, [0.03, 0.07, 0.12, 0.18, 0.26]) as f32;
    let ghost = context.parameter(0.0, [0.06, 0.1, 0.14, 0.18, 0.22]) as f32;
    let mut stream = context.streams.camera();
    // Lengths in units of the image's height.
    let aspect = frame.width() as f32 / frame.height() as f32;
    let sun = [
        aspect * (0.2 + 0.6 * stream.uniform() as f32),
        0.05 + 0.3 * stream.uniform() as f32,
    ];
    let ghosts = Ghost::draw_all(&mut stream, sun, [aspect / 2.0, 0.5]);
    let height = frame.height() as f32;
    map_positions(frame, |x, y, pixel| {
        let at = [(x as f32 + 0.5) / height, (y as f32 + 0.5) / height];
        let distance = distance(at, sun);
        // Full in the disc; outside it falls with the square of the distance.
        let outside = (distance - disc).max(0.0) / halo;
        let glow = 1.0 / (1.0 + outside * outside);
        let light = [1.0, 0.96, 0.86].map(|tint| 1.0 - (1.0 - glow * tint) * (1.0 - veil));
        std::array::from_fn(|c| {
            let dark = ghosts
                .iter()
                .fold(1.0 - light[c], |dark, lens| dark * (1.0 - ghost * lens.light(at)[c]));
            to_byte(255.0 - (255.0 - f32::from(pixel[c])) * dark)
        })
    });
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    ((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1])).sqrt()
}

/// A reflection between the lens's surfaces: a faint coloured disc.
struct Ghost {
    center: [f32; 2],
    radius: f32,
    color: [f32; 3],
}

impl Ghost {
    /// Four of them on the line from the sun through the optical centre.
    fn draw_all(stream: &mut RandomStream, sun: [f32; 2], axis: [f32; 2]) -> [Self; 4] {
        std::array::from_fn(|index| {
            let along = 0.6 + 0.35 * index as f32 + 0.2 * stream.uniform() as f32;
            Self {
                center: [
                    sun[0] + (axis[0] - sun[0]) * 1.4 * along,
                    sun[1] + (axis[1] - sun[1]) * 1.4 * along,
                ],
                radius: 0.03 + 0.07 * stream.uniform() as f32,
                color: std::array::from_fn(|_| 0.4 + 0.6 * stream.uniform() as f32),
            }
        })
    }

    /// Its light at a place: even, with an edge of a tenth of its radius.
    fn light(&self, at: [f32; 2]) -> [f32; 3] {
        let inside = ((self.radius - distance(at, self.center)) / (0.1 * self.radius)).clamp(0.0, 1.0);
        self.color.map(|color| color * inside)
    }
}
