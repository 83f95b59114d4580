//! Brightness, contrast, gamma, saturation and hue.

use super::pixels::{map_pixels, map_values, to_byte};
use super::{Direction, ImageContext};
use crate::frame::Frame;

/// Adds to the HSV value. Hue and saturation stay, so the three channels keep their ratios.
pub(super) fn brightness(frame: &mut Frame, context: &ImageContext) {
    let amount = 255.0 * context.parameter(0.0, [0.1, 0.2, 0.3, 0.4, 0.5]) as f32;
    let amount = match context.direction {
        Direction::Up => amount,
        Direction::Down => -amount,
    };
    map_pixels(frame, |pixel| {
        let value = f32::from(pixel[0].max(pixel[1]).max(pixel[2]));
        let target = (value + amount).clamp(0.0, 255.0);
        if value == 0.0 {
            return [to_byte(target); 3];
        }
        pixel.map(|channel| to_byte(f32::from(channel) * target / value))
    });
}

/// Pulls every channel towards its mean over the image.
pub(super) fn contrast(frame: &mut Frame, context: &ImageContext) {
    let factor = context.parameter(1.0, [0.4, 0.3, 0.2, 0.1, 0.05]) as f32;
    let count = (frame.width() * frame.height()).max(1) as u64;
    let mut sums = [0u64; 3];
    for pixel in frame.rgb().chunks_exact(3) {
        for (sum, &channel) in sums.iter_mut().zip(pixel) {
            *sum += u64::from(channel);
        }
    }
    let means = sums.map(|sum| (sum as f64 / count as f64) as f32);
    map_pixels(frame, |pixel| {
        std::array::from_fn(|c| to_byte((f32::from(pixel[c]) - means[c]) * factor + means[c]))
    });
}

/// Raises every value, scaled to 0..=1, to a power.
pub(super) fn gamma(frame: &mut Frame, context: &ImageContext) {
    let exponent = context.parameter(1.0, [1.25, 1.5, 2.0, 2.5, 3.0]);
    let exponent = match context.direction {
        Direction::Up => exponent,
        Direction::Down => 1.0 / exponent,
    };
    let table = std::array::from_fn(|value| to_byte((255.0 * libm::pow(value as f64 / 255.0, exponent)) as f32));
    map_values(frame, &table);
}

/// Scales the HSV saturation. As in ImageNet-C, grey has the hue of red, which the top levels show.
pub(super) fn saturate(frame: &mut Frame, context: &ImageContext) {
    let (factor, offset) = match context.direction {
        Direction::Up => (
            context.parameter(1.0, [4.0 / 3.0, 5.0 / 3.0, 2.0, 5.0, 20.0]) as f32,
            context.parameter(0.0, [0.0, 0.0, 0.0, 0.1, 0.2]) as f32,
        ),
        Direction::Down => (context.parameter(1.0, [0.7, 0.5, 0.3, 0.1, 0.0]) as f32, 0.0),
    };
    map_pixels(frame, |pixel| {
        let value = f32::from(pixel[0].max(pixel[1]).max(pixel[2]));
        let span = value - f32::from(pixel[0].min(pixel[1]).min(pixel[2]));
        if value == 0.0 {
            return pixel;
        }
        let saturation = (span / value * factor + offset).clamp(0.0, 1.0);
        std::array::from_fn(|c| {
            // How far below the value this channel lies, in units of the saturation.
            let depth = match span {
                0.0 => f32::from(u8::from(c != 0)),
                _ => (value - f32::from(pixel[c])) / span,
            };
            to_byte(value * (1.0 - saturation * depth))
        })
    });
}

/// Rotates the HSV hue.
pub(super) fn hue(frame: &mut Frame, context: &ImageContext) {
    // In sixths of the circle.
    let turn = context.parameter(0.0, [24.0, 48.0, 72.0, 96.0, 120.0]) as f32 / 60.0;
    let turn = match context.direction {
        Direction::Up => turn,
        Direction::Down => 6.0 - turn,
    };
    map_pixels(frame, |pixel| {
        let [r, g, b] = pixel.map(f32::from);
        let value = r.max(g).max(b);
        let span = value - r.min(g).min(b);
        if span == 0.0 {
            return pixel;
        }
        let sector = if value == r {
            (g - b) / span + 6.0
        } else if value == g {
            (b - r) / span + 2.0
        } else {
            (r - g) / span + 4.0
        };
        let sector = sector + turn;
        // The channel's depth is a trapezium over the circle, centred on its own hue: 0, 2 and 4.
        [5.0, 3.0, 1.0].map(|offset| {
            let k = (sector + offset) % 6.0;
            to_byte(value - span * k.min(4.0 - k).clamp(0.0, 1.0))
        })
    });
}
