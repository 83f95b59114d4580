//! Plasma fractal: clouds by the diamond-square algorithm.

use crate::random::RandomStream;

/// A map of size x size values from 0 to 1 that continues across its edges; `size` is a power of two.
///
/// Every halving of the grid adds wiggles that are `decay`² times smaller: 2 gives soft clouds, 1.4 ragged ones. The
/// number of draws does not depend on `decay`.
pub(super) fn plasma(size: usize, decay: f64, stream: &mut RandomStream) -> Vec<f32> {
    debug_assert!(size.is_power_of_two());
    let mut map = vec![0.0f32; size * size];
    let at = |x: usize, y: usize| (y & (size - 1)) * size + (x & (size - 1));
    // ImageNet-C's amplitude: 100, squared, because it multiplies a uniform number that is scaled by it already.
    let mut wiggle = 100.0;
    let mut step = size;
    while step >= 2 {
        let half = step / 2;
        let mut wiggled = |sum: f32| {
            let noise = wiggle * wiggle * (2.0 * stream.uniform() - 1.0);
            sum / 4.0 + noise as f32
        };
        for y in (0..size).step_by(step) {
            for x in (0..size).step_by(step) {
                let sum = map[at(x, y)] + map[at(x + step, y)] + map[at(x, y + step)] + map[at(x + step, y + step)];
                map[at(x + half, y + half)] = wiggled(sum);
            }
        }
        for (first_x, first_y) in [(half, 0), (0, half)] {
            for y in (first_y..size).step_by(step) {
                for x in (first_x..size).step_by(step) {
                    let across = map[at(x + size - half, y)] + map[at(x + half, y)];
                    let along = map[at(x, y + size - half)] + map[at(x, y + half)];
                    map[at(x, y)] = wiggled(across + along);
                }
            }
        }
        step = half;
        wiggle /= decay;
    }
    let lowest = map.iter().copied().fold(f32::INFINITY, f32::min);
    let span = map.iter().copied().fold(f32::NEG_INFINITY, f32::max) - lowest;
    if span > 0.0 {
        for value in &mut map {
            *value = (*value - lowest) / span;
        }
    }
    map
}

/// The smallest power of two that covers a frame of this size.
pub(super) fn covering_size(width: usize, height: usize) -> usize {
    width.max(height).max(2).next_power_of_two()
}
