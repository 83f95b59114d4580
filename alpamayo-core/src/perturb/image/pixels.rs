//! Helpers over a frame's interleaved bytes.

use crate::frame::Frame;

/// Replaces every pixel.
pub(super) fn map_pixels(frame: &mut Frame, mut map: impl FnMut([u8; 3]) -> [u8; 3]) {
    for pixel in frame.rgb_mut().chunks_exact_mut(3) {
        pixel.copy_from_slice(&map([pixel[0], pixel[1], pixel[2]]));
    }
}

/// Replaces every pixel, given its column and row.
pub(super) fn map_positions(frame: &mut Frame, mut map: impl FnMut(usize, usize, [u8; 3]) -> [u8; 3]) {
    let width = frame.width();
    for (index, pixel) in frame.rgb_mut().chunks_exact_mut(3).enumerate() {
        pixel.copy_from_slice(&map(index % width, index / width, [pixel[0], pixel[1], pixel[2]]));
    }
}

/// Replaces every value by its entry in a table.
pub(super) fn map_values(frame: &mut Frame, table: &[u8; 256]) {
    for value in frame.rgb_mut() {
        *value = table[usize::from(*value)];
    }
}

/// The nearest byte, halves upwards.
pub(super) fn to_byte(value: f32) -> u8 {
    // A cast from float saturates at 0 and 255.
    (value + 0.5).floor() as u8
}

/// Luma (Rec. 601) of a pixel, 0..=255.
pub(super) fn luma(pixel: [u8; 3]) -> f32 {
    0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2])
}
