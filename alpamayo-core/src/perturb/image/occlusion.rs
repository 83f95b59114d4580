//! Parts of the image that are covered.

use super::ImageContext;
use super::pixels::map_positions;
use super::plasma::{covering_size, plasma};
use crate::frame::Frame;

/// The covered share of the image.
fn share(context: &ImageContext) -> f64 {
    context.parameter(0.0, [0.1, 0.175, 0.25, 0.325, 0.4])
}

/// Covers a box. It grows around a place that is the camera's, so that a larger box covers all that a smaller one does.
pub(super) fn occlusion_box(frame: &mut Frame, context: &ImageContext) {
    let side = share(context).sqrt();
    let mut stream = context.streams.camera();
    let mut interval = |pixels: usize| {
        let length = (side * pixels as f64).round() as usize;
        let first = (stream.uniform() * (pixels - length) as f64).round() as usize;
        first..first + length
    };
    let (columns, rows) = (interval(frame.width()), interval(frame.height()));
    map_positions(frame, |x, y, pixel| {
        if columns.contains(&x) && rows.contains(&y) {
            [0; 3]
        } else {
            pixel
        }
    });
}

/// Covers the pixels nearest to a place that is the camera's, by a distance that a plasma fractal distorts.
pub(super) fn occlusion_blob(frame: &mut Frame, context: &ImageContext) {
    let (width, height) = (frame.width(), frame.height());
    let mut stream = context.streams.camera();
    let center = [0.25 + 0.5 * stream.uniform(), 0.25 + 0.5 * stream.uniform()];
    let size = covering_size(width, height);
    let cloud = plasma(size, 2.0, &mut stream);
    // Distances as integers, so that a count finds the one that covers the wanted share.
    const STEPS: usize = 1 << 16;
    let distances: Vec<u16> = (0..width * height)
        .map(|index| {
            let dx = (index % width) as f64 / width as f64 - center[0];
            let dy = (index / width) as f64 / height as f64 - center[1];
            let distorted = (dx * dx + dy * dy).sqrt() + 0.6 * f64::from(cloud[index / width * size + index % width]);
            ((distorted / 2.0).min(1.0) * (STEPS - 1) as f64) as u16
        })
        .collect();
    let mut counts = vec![0usize; STEPS];
    for &distance in &distances {
        counts[usize::from(distance)] += 1;
    }
    let wanted = (share(context) * distances.len() as f64).round() as usize;
    let mut covered = 0;
    let reach = counts
        .iter()
        .position(|count| {
            covered += count;
            covered > wanted
        })
        .unwrap_or(STEPS);
    map_positions(frame, |x, y, pixel| {
        if usize::from(distances[y * width + x]) < reach {
            [0; 3]
        } else {
            pixel
        }
    });
}
