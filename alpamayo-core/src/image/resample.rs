//! Antialiased bicubic resampling along one axis, as it is defined.
//!
//! This is the definition that [`resize`](super::resize()) is tested against, and what it does itself where a side
//! shrinks so much that the fast implementation's weights lose a bit.

/// The weights of one output position.
struct Taps {
    /// First input position.
    start: usize,
    /// Weights, in units of 2^-precision.
    weights: Vec<i16>,
}

/// The weights of every output position, and their precision in bits.
fn taps(input: usize, output: usize) -> (u32, Vec<Taps>) {
    let scale = input as f64 / output as f64;
    let spread = scale.max(1.0);
    let support = 2.0 * spread;
    let rows: Vec<(usize, Vec<f64>)> = (0..output)
        .map(|position| {
            let centre = scale * (position as f64 + 0.5);
            // Conversion to an integer cuts off; a negative number becomes zero.
            let start = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            let weights = (start..end).map(|k| keys((k as f64 - centre + 0.5) / spread));
            let mut weights: Vec<f64> = weights.collect();
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            (start, weights)
        })
        .collect();
    let highest = rows
        .iter()
        .flat_map(|(_, weights)| weights)
        .copied()
        .fold(0.0, f64::max);
    let precision = precision(highest);
    let unit = f64::from(1u32 << precision);
    let quantised = |weights: Vec<f64>| weights.iter().map(|weight| (weight * unit).round() as i16).collect();
    (
        precision,
        rows.into_iter()
            .map(|(start, weights)| Taps {
                start,
                weights: quantised(weights),
            })
            .collect(),
    )
}

/// The most bits with which the highest weight fits into an i16, up to 22: a sum of 8-bit pixels then fits an i32.
fn precision(highest: f64) -> u32 {
    (0..22)
        .find(|&precision| (0.5 + highest * f64::from(1u32 << (precision + 1))) as i64 >= 1 << 15)
        .unwrap_or(22)
}

/// Keys' cubic with a = -1/2.
fn keys(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// `[outer, input, inner]` bytes resampled along the middle axis to `[outer, output, inner]`.
pub(super) fn resample(pixels: &[u8], input: usize, inner: usize, output: usize) -> Vec<u8> {
    let (precision, taps) = taps(input, output);
    let half = if precision == 0 { 0 } else { 1 << (precision - 1) };
    let mut resampled = Vec::with_capacity(pixels.len() / input * output);
    for block in pixels.chunks_exact(input * inner) {
        for Taps { start, weights } in &taps {
            for offset in 0..inner {
                let column = block[start * inner + offset..].iter().step_by(inner);
                let sum: i32 = column
                    .zip(weights)
                    .map(|(&pixel, &weight)| i32::from(pixel) * i32::from(weight))
                    .sum();
                resampled.push(((sum + half) >> precision).clamp(0, 255) as u8);
            }
        }
    }
    resampled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_of_known_sizes() {
        assert_eq!(taps(1920, 576).0, 16);
        assert_eq!(taps(7680, 32).0, 22);
        assert_eq!(taps(1, 7).0, 14);
    }

    #[test]
    fn a_constant_stays_nearly_constant() {
        // Rounded weights do not add up to one exactly.
        for (input, output) in [(97, 32), (32, 97), (640, 512), (9000, 32)] {
            let pixels = resample(&vec![200; input * 3], input, 3, output);
            assert!(
                pixels.iter().all(|pixel| pixel.abs_diff(200) <= 1),
                "{input} to {output}"
            );
        }
    }
}
