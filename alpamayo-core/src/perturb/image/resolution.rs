//! Fewer pixels: pixelate and downscale.

use super::plane::Plane;
use super::{ImageContext, length_scale};
use crate::frame::Frame;

/// Averages over cells of whole pixels and repeats the averages.
///
/// A pixel belongs to the cell that holds its centre, as in ImageNet-C. So it always has its full part in what replaces
/// it, and the change grows from one number of cells to the next; shares of pixels would make it dip where cells happen
/// to be whole pixels.
pub(super) fn pixelate(frame: &mut Frame, context: &ImageContext) {
    let (width, height) = (frame.width(), frame.height());
    let block = block(frame, context);
    let columns = whole_pixels(width, cells(width, block));
    let rows = whole_pixels(height, cells(height, block));
    let small = average(&Plane::from_frame(frame), &columns, &rows);
    let mut out = Plane::new(width, height, 3);
    for (index, pixel) in out.values.chunks_exact_mut(3).enumerate() {
        // The cell that holds this pixel's centre.
        let x = (2 * (index % width) + 1) * small.width / (2 * width);
        let y = (2 * (index / width) + 1) * small.height / (2 * height);
        pixel.copy_from_slice(&small.row(y as isize)[3 * x..][..3]);
    }
    out.write(frame);
}

/// Averages over boxes and interpolates the averages linearly.
pub(super) fn downscale(frame: &mut Frame, context: &ImageContext) {
    let (width, height) = (frame.width(), frame.height());
    let block = block(frame, context);
    let columns = box_weights(width, cells(width, block));
    let rows = box_weights(height, cells(height, block));
    let small = average(&Plane::from_frame(frame), &columns, &rows);
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

/// Side of a cell in pixels. ImageNet-C keeps 0.6 … 0.25 of a side of 224 pixels.
fn block(frame: &Frame, context: &ImageContext) -> f64 {
    let scale = length_scale(frame).max(1.0);
    context.parameter(1.0, [0.6, 0.5, 0.4, 0.3, 0.25].map(|kept| scale / kept))
}

/// Cells along a side.
fn cells(side: usize, block: f64) -> usize {
    ((side as f64 / block).round() as usize).clamp(1, side)
}

/// For each cell along an axis: its first pixel, and the weights of the pixels from there on.
type Cells = [(usize, Vec<f32>)];

/// The plane's averages over cells.
fn average(plane: &Plane, columns: &Cells, rows: &Cells) -> Plane {
    let mut out = Plane::new(columns.len(), rows.len(), 3);
    let mut band = vec![0.0f32; plane.width * 3];
    for (target, (top, weights)) in out.values.chunks_exact_mut(columns.len() * 3).zip(rows) {
        band.fill(0.0);
        for (y, &weight) in (*top..).zip(weights) {
            for (sum, &value) in band.iter_mut().zip(plane.row(y as isize)) {
                *sum += weight * value;
            }
        }
        for (pixel, (left, weights)) in target.chunks_exact_mut(3).zip(columns) {
            for (x, &weight) in (*left..).zip(weights) {
                for (value, &sum) in pixel.iter_mut().zip(&band[3 * x..]) {
                    *value += weight * sum;
                }
            }
        }
    }
    out
}

/// `to` cells over `from` pixels, each of the pixels whose centres it holds, with equal weights.
fn whole_pixels(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    // The first pixel whose centre, first + 1/2, is not before index · from/to.
    let first = |index: usize| (2 * index * from).saturating_sub(to).div_ceil(2 * to);
    (0..to)
        .map(|index| {
            let count = first(index + 1) - first(index);
            (first(index), vec![1.0 / count as f32; count])
        })
        .collect()
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

        #[test]
        fn cells_of_whole_pixels_hold_their_centres(from in 1usize..300, part in 0.0..1.0f64) {
            let to = (1.0 + part * (from - 1) as f64) as usize;
            let mut next = 0;
            for (index, (first, weights)) in whole_pixels(from, to).into_iter().enumerate() {
                prop_assert_eq!(first, next);
                prop_assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                next += weights.len();
                for pixel in first..next {
                    prop_assert_eq!((2 * pixel + 1) * to / (2 * from), index);
                }
            }
            prop_assert_eq!(next, from);
        }
    }
}
