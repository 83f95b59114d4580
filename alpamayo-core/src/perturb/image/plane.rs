//! Images and layers in floating point.

use super::pixels::to_byte;
use crate::frame::Frame;

/// Values of `channels` interleaved channels, row by row; 0..=255 where it came from a frame.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) values: Vec<f32>,
}

impl Plane {
    /// A plane of zeros.
    pub(super) fn new(width: usize, height: usize, channels: usize) -> Self {
        Self {
            width,
            height,
            channels,
            values: vec![0.0; width * height * channels],
        }
    }

    /// A frame's three channels.
    pub(super) fn from_frame(frame: &Frame) -> Self {
        Self {
            width: frame.width(),
            height: frame.height(),
            channels: 3,
            values: frame.rgb().iter().map(|&value| f32::from(value)).collect(),
        }
    }

    /// Writes three channels, rounded, into a frame of the same size.
    pub(super) fn write(&self, frame: &mut Frame) {
        for (byte, &value) in frame.rgb_mut().iter_mut().zip(&self.values) {
            *byte = to_byte(value);
        }
    }

    /// Row `y`, clamped to the plane.
    pub(super) fn row(&self, y: isize) -> &[f32] {
        let y = y.clamp(0, self.height as isize - 1) as usize;
        &self.values[y * self.width * self.channels..][..self.width * self.channels]
    }

    /// The sum over `taps` of weight times the plane moved by (dx, dy): out[y][x] = Σ w·in[y + dy][x + dx]. Beyond its
    /// edges the plane repeats them.
    pub(super) fn correlate(&self, taps: &[(isize, isize, f32)]) -> Self {
        let mut out = Self::new(self.width, self.height, self.channels);
        let row_length = self.width * self.channels;
        if row_length == 0 {
            return out;
        }
        for (y, target) in out.values.chunks_exact_mut(row_length).enumerate() {
            for &(dx, dy, weight) in taps {
                add_moved(target, self.row(y as isize + dy), dx, self.channels, weight);
            }
        }
        out
    }

    /// The value of channel `c` at a place between pixel centres (pixel 0's centre is 0), linearly interpolated, edges
    /// repeated.
    pub(super) fn bilinear(&self, x: f32, y: f32, c: usize) -> f32 {
        let x = x.clamp(0.0, (self.width - 1) as f32);
        let y = y.clamp(0.0, (self.height - 1) as f32);
        let (left, top) = (x.floor(), y.floor());
        let (u, v) = (x - left, y - top);
        let (x0, y0) = (left as usize, top as usize);
        let (x1, y1) = ((x0 + 1).min(self.width - 1), (y0 + 1).min(self.height - 1));
        let at = |x: usize, y: usize| self.values[(y * self.width + x) * self.channels + c];
        let upper = at(x0, y0) + (at(x1, y0) - at(x0, y0)) * u;
        let lower = at(x0, y1) + (at(x1, y1) - at(x0, y1)) * u;
        upper + (lower - upper) * v
    }
}

/// target[x] += weight · source[x + dx], the source's edges repeated; `dx` counts pixels of `channels` values.
fn add_moved(target: &mut [f32], source: &[f32], dx: isize, channels: usize, weight: f32) {
    let width = (target.len() / channels) as isize;
    // The pixels whose source lies inside the row.
    let begin = (-dx).clamp(0, width) as usize * channels;
    let end = (width - dx).clamp(0, width) as usize * channels;
    let offset = dx * channels as isize;
    if begin < end {
        let inside = &source[(begin as isize + offset) as usize..(end as isize + offset) as usize];
        for (value, &moved) in target[begin..end].iter_mut().zip(inside) {
            *value += weight * moved;
        }
    }
    let first = &source[..channels];
    let last = &source[source.len() - channels..];
    for pixel in target[..begin].chunks_exact_mut(channels) {
        for (value, &edge) in pixel.iter_mut().zip(first) {
            *value += weight * edge;
        }
    }
    for pixel in target[end.max(begin)..].chunks_exact_mut(channels) {
        for (value, &edge) in pixel.iter_mut().zip(last) {
            *value += weight * edge;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn correlation_is_its_definition(
            values in prop::collection::vec(-8i8..8, 5 * 4 * 3),
            taps in prop::collection::vec((-9isize..9, -9isize..9, -4i8..4), 1..5),
        ) {
            let values = values.iter().map(|&v| f32::from(v)).collect();
            let plane = Plane { width: 5, height: 4, channels: 3, values };
            let taps: Vec<_> = taps.iter().map(|&(dx, dy, w)| (dx, dy, f32::from(w))).collect();
            let out = plane.correlate(&taps);
            for (index, &found) in out.values.iter().enumerate() {
                let (c, x, y) = (index % 3, (index / 3 % 5) as isize, (index / 15) as isize);
                // Small integers: the sum is exact.
                let expected: f32 = taps
                    .iter()
                    .map(|&(dx, dy, w)| w * plane.row(y + dy)[(x + dx).clamp(0, 4) as usize * 3 + c])
                    .sum();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn interpolation_reproduces_planes_and_pixels(x in 0.0f32..4.0, y in 0.0f32..3.0) {
            let mut plane = Plane::new(5, 4, 1);
            for (index, value) in plane.values.iter_mut().enumerate() {
                *value = (index % 5) as f32 * 2.0 - (index / 5) as f32;
            }
            prop_assert!((plane.bilinear(x, y, 0) - (2.0 * x - y)).abs() < 1e-5);
            prop_assert_eq!(plane.bilinear(x.floor(), y.floor(), 0), 2.0 * x.floor() - y.floor());
            prop_assert_eq!(plane.bilinear(-7.0, 99.0, 0), -3.0);
        }
    }
}
