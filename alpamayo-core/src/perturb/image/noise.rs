//! Noise of the sensor: gaussian, shot, impulse and speckle.

use std::sync::OnceLock;

use super::ImageContext;
use super::pixels::to_byte;
use crate::frame::Frame;
use crate::random::RandomStream;

/// Adds normal noise to every value.
pub(super) fn gaussian_noise(frame: &mut Frame, context: &ImageContext) {
    let deviation = 255.0 * context.parameter(0.0, [0.08, 0.12, 0.18, 0.26, 0.38]) as f32;
    let mut noise = NormalNoise::new(context.streams.frame());
    for value in frame.rgb_mut() {
        *value = to_byte(f32::from(*value) + deviation * noise.next());
    }
}

/// Adds normal noise in proportion to the value.
pub(super) fn speckle_noise(frame: &mut Frame, context: &ImageContext) {
    let deviation = context.parameter(0.0, [0.15, 0.2, 0.35, 0.45, 0.6]) as f32;
    let mut noise = NormalNoise::new(context.streams.frame());
    for value in frame.rgb_mut() {
        let clean = f32::from(*value);
        *value = to_byte(clean + clean * deviation * noise.next());
    }
}

/// Turns values into black or white with equal chances.
pub(super) fn impulse_noise(frame: &mut Frame, context: &ImageContext) {
    let amount = context.parameter(0.0, [0.03, 0.06, 0.09, 0.17, 0.27]);
    let threshold = (amount * 65_536.0) as u16;
    let mut words = Words::new(context.streams.frame());
    for value in frame.rgb_mut() {
        // Two words a value, so that a higher severity strikes the same values and more.
        let (strike, color) = (words.next(), words.next());
        if strike < threshold {
            *value = if color & 1 == 0 { 0 } else { 255 };
        }
    }
}

/// Replaces every value by a Poisson count of photons with that mean.
pub(super) fn shot_noise(frame: &mut Frame, context: &ImageContext) {
    // ImageNet-C names the photons at full scale; the noise's amplitude is what is interpolated.
    let levels = [60.0, 25.0, 12.0, 5.0, 3.0].map(|photons: f64| 1.0 / photons.sqrt());
    let amplitude = context.parameter(0.0, levels).max(1e-3);
    let photons = 1.0 / (amplitude * amplitude);
    let tables: Vec<_> = (0..=255u8)
        .map(|value| poisson_table(f64::from(value) / 255.0 * photons, photons))
        .collect();
    let mut words = Words::new(context.streams.frame());
    for value in frame.rgb_mut() {
        let draw = u32::from(words.next()) << 16 | u32::from(words.next());
        let table = &tables[usize::from(*value)];
        let entry = table.partition_point(|&(upper, _)| upper < draw).min(table.len() - 1);
        *value = table[entry].1;
    }
}

/// The distribution of the byte that a Poisson count of this mean becomes: for each possible byte in ascending order
/// the largest 32-bit draw that gives it.
fn poisson_table(mean: f64, photons: f64) -> Vec<(u32, u8)> {
    if mean == 0.0 {
        return vec![(u32::MAX, 0)];
    }
    // Beyond nine standard deviations, and fifty counts for small means, nothing is left in 32 bits.
    let reach = (9.0 * mean.sqrt() + 50.0).ceil();
    let first = (mean - reach).floor().max(0.0);
    let mut probability = libm::exp(first * libm::log(mean) - mean - libm::lgamma(first + 1.0));
    let mut cumulative = 0.0;
    let mut table: Vec<(u32, u8)> = Vec::new();
    for step in 0..=(2.0 * reach) as usize {
        let count = first + step as f64;
        cumulative += probability;
        probability *= mean / (count + 1.0);
        let upper = (cumulative * f64::from(u32::MAX)).min(f64::from(u32::MAX)) as u32;
        let byte = to_byte((255.0 * count / photons) as f32);
        match table.last_mut() {
            Some(last) if last.1 == byte => last.0 = upper,
            _ => table.push((upper, byte)),
        }
    }
    table
}

/// Standard normal numbers, one for each 16-bit word of a stream: the quantiles at the centres of 65,536 equally likely
/// cells. The largest is 4.3, beyond what a byte can show at these deviations.
pub(super) struct NormalNoise {
    words: Words,
    quantiles: &'static [f32],
}

impl NormalNoise {
    /// The numbers drawn from this stream.
    pub(super) fn new(stream: RandomStream) -> Self {
        static QUANTILES: OnceLock<Vec<f32>> = OnceLock::new();
        let quantiles = QUANTILES.get_or_init(|| {
            (0..65_536u32)
                .map(|cell| normal_quantile((f64::from(cell) + 0.5) / 65_536.0) as f32)
                .collect()
        });
        Self {
            words: Words::new(stream),
            quantiles,
        }
    }

    /// The next number.
    pub(super) fn next(&mut self) -> f32 {
        self.quantiles[usize::from(self.words.next())]
    }
}

/// The value below which a standard normal number falls with this probability, by Newton's method on `erfc`.
fn normal_quantile(probability: f64) -> f64 {
    let tail = probability.min(1.0 - probability);
    // Winitzki's approximation of the inverse error function is within 0.01; four steps then reach f64's precision.
    let log = libm::log(4.0 * tail * (1.0 - tail));
    let half = 2.0 / (std::f64::consts::PI * 0.147) + log / 2.0;
    let mut x = std::f64::consts::SQRT_2 * ((half * half - log / 0.147).sqrt() - half).max(0.0).sqrt();
    for _ in 0..4 {
        let excess = 0.5 * libm::erfc(x / std::f64::consts::SQRT_2) - tail;
        x += excess * (2.0 * std::f64::consts::PI).sqrt() * libm::exp(x * x / 2.0);
    }
    if probability < 0.5 { -x } else { x }
}

/// A stream's 16-bit words, fetched in blocks.
struct Words {
    stream: RandomStream,
    block: [u8; 4096],
    position: usize,
}

impl Words {
    fn new(stream: RandomStream) -> Self {
        Self {
            stream,
            block: [0; 4096],
            position: 4096,
        }
    }

    fn next(&mut self) -> u16 {
        if self.position == self.block.len() {
            self.stream.fill_bytes(&mut self.block);
            self.position = 0;
        }
        let word = u16::from_le_bytes([self.block[self.position], self.block[self.position + 1]]);
        self.position += 2;
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_invert_the_normal_distribution() {
        for (probability, expected) in [
            (0.5, 0.0),
            (0.841_344_746_068_542_9, 1.0),
            (0.022_750_131_948_179_21, -2.0),
        ] {
            let found = normal_quantile(probability);
            assert!((found - expected).abs() < 1e-12, "{probability}: {found}");
        }
        for cell in 0..65_536 {
            let probability = (f64::from(cell) + 0.5) / 65_536.0;
            let back = 0.5 * libm::erfc(-normal_quantile(probability) / std::f64::consts::SQRT_2);
            assert!((back - probability).abs() < 1e-14, "{probability}: {back}");
        }
    }

    #[test]
    fn poisson_tables_have_the_mean_and_the_variance() {
        for (value, photons) in [(30u8, 3.0), (128, 25.0), (200, 60.0), (100, 1e5)] {
            let mean = f64::from(value) / 255.0 * photons;
            // Unclipped here: four times the scale leaves room above the byte 255.
            let table = poisson_table(mean, 4.0 * photons);
            let unit = 255.0 / (4.0 * photons);
            let (mut first, mut second, mut below) = (0.0, 0.0, 0.0);
            for (upper, byte) in table {
                let upper = f64::from(upper) / f64::from(u32::MAX);
                first += (upper - below) * f64::from(byte);
                second += (upper - below) * f64::from(byte) * f64::from(byte);
                below = upper;
            }
            assert!((below - 1.0).abs() < 1e-6);
            assert!(
                (first - mean * unit).abs() < 0.51,
                "mean of {value} at {photons}: {first}"
            );
            let variance = second - first * first;
            let expected = mean * unit * unit;
            assert!(
                (variance - expected).abs() < 0.1 * expected + 0.3,
                "{value} at {photons}: {variance}, {expected}"
            );
        }
    }
}
