//! Fewer pixels: pixelate and downscale.

use super::plane::Plane;
use super::{ImageContext, length_scale};
use crate::frame::Frame;

/// Averages over boxes and repeats the averages.
pub(super) fn pixelate(frame: &mut Frame, context: &ImageContext) {
    let small = shrink(frame, context);
    let (width, height) = (frame.width(), frame.height());
    let mut out = Plane::new(width, height, 3);
    for (index, pixel) in out.values.chunks_exact_mut(3).enumerate() {
        // The small pixel that holds this pixel's centre.
        let x = (2 * (index % width) + 1) * small.width / (2 * width);
        let y = (2 * (index / width) + 1) * small.height / (2 * height);
        pixel.copy_from_slice(&small.row(y as isize)[3 * x..][..3]);
    }
    out.write(frame);
}

/// Averages over boxes and interpolates the averages linearly.
pub(super) fn downscale(frame: &mut Frame, context: &ImageContext) {
    let small = shrink(frame, context);
    let (width, height) = (frame.width(), frame.height());
    let to_small = |at: usize, from: usize, to: usize| ((at as f64 + 0.5) * to as f64 / from as f64 - 0.5) as f32;
    let mut out = Plane::new(width, height, 3);
    for (index, pixel) in out.values.chunks_exact_mut(3).enumerate() {
        let x = to_small(index % width, width, small.width);
        let y = to_small(index / width, height, small.height);
        for (c, value) in pixel.iter_mut().enumerate() {
            *value = small.bilinear(x, y, c);
        }
    }
    out.write(frame);
}

/// The frame at the severity's resolution, by area average. ImageNet-C keeps 0.6 … 0.25 of a side of 224 pixels.
fn shrink(frame: &Frame, context: &ImageContext) -> Plane {
    let scale = length_scale(frame).max(1.0);
    let block = context.parameter(1.0, [0.6, 0.5, 0.4, 0.3, 0.25].map(|kept| scale / kept));
    let small = |side: usize| ((side as f64 / block).round() as usize).clamp(1, side);
    let plane = Plane::from_frame(frame);
    let columns = box_weights(frame.width(), small(frame.width()));
    let rows = box_weights(frame.height(), small(frame.height()));
    let mut out = Plane::new(columns.len(), rows.len(), 3);
    let mut band = vec![0.0f32; frame.width() * 3];
    for (target, (top, weights)) in out.values.chunks_exact_mut(columns.len() * 3).zip(&rows) {
        band.fill(0.0);
        for (y, &weight) in (*top..).zip(weights) {
            for (sum, &value) in band.iter_mut().zip(plane.row(y as isize)) {
                *sum += weight * value;
            }
        }
        for (pixel, (left, weights)) in target.chunks_exact_mut(3).zip(&columns) {
            for (x, &weight) in (*left..).zip(weights) {
                for (value, &sum) in pixel.iter_mut().zip(&band[3 * x..]) {
                    *value += weight * sum;
                }
            }
        }
    }
    out
}

/// For each of `to` equal boxes over `from` pixels: its first pixel and the share of each pixel it covers.
fn box_weights(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    // In units of 1/to pixel, so that every length is an integer.
    (0..to)
        .map(|index| {
            let (begin, end) = (index * from, (index + 1) * from);
            let first = begin / to;
            let weights = (first..end.div_ceil(to))
                .map(|pixel| {
                    let covered = end.min((pixel + 1) * to) - begin.max(pixel * to);
                    (covered as f64 / from as f64) as f32
                })
                .collect();
            (first, weights)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn boxes_tile_the_side(from in 1usize..300, part in 0.0..1.0f64) {
            let to = (1.0 + part * (from - 1) as f64) as usize;
            let mut covered = vec![0.0; from];
            for (first, weights) in box_weights(from, to) {
                prop_assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                for (at, weight) in (first..).zip(weights) {
                    covered[at] += f64::from(weight) * from as f64 / to as f64;
                }
            }
            for share in covered {
                prop_assert!((share - 1.0).abs() < 1e-4);
            }
        }
    }
}
