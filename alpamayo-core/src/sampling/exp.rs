//! The exponential function for softmax: the same bits on every platform, and loops over it vectorise.

use std::f32::consts::LOG2_E;

/// Below this, `exp` is close to the smallest normal number, and counts as zero.
const UNDERFLOW: f32 = -87.0;
/// Adding it rounds a small number to an integer, which then stands in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has so few digits that multiples of it are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Coefficients for (exp r - 1 - r) / r² on |r| ≤ ln 2 / 2, highest power first (Cephes' expf).
const POLYNOMIAL: [f32; 6] = [
    1.987_569_1e-4,
    1.398_2e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
];

/// exp(x) for x ≤ 0 within 2e-7 relative; exactly 1 at 0, exactly 0 below -87; NaN for NaN.
#[inline(always)]
pub(super) fn exp_nonpositive(x: f32) -> f32 {
    // A comparison rather than `max`, so that NaN passes through.
    let clamped = if x < UNDERFLOW { UNDERFLOW } else { x };
    let shifted = clamped * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2[0] - n * LN_2[1];
    let mut sum = POLYNOMIAL[0];
    for coefficient in &POLYNOMIAL[1..] {
        sum = sum * r + coefficient;
    }
    let two_to_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let value = (sum * r * r + r + 1.0) * two_to_n;
    if x < UNDERFLOW { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exponential() {
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert_eq!(exp_nonpositive(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_nonpositive(-87.1), 0.0);
        assert!(exp_nonpositive(f32::NAN).is_nan());
        let mut worst = 0.0f64;
        for i in 0..=870_000 {
            let x = -(i as f32) * 1e-4;
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp_nonpositive(x)) / truth - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst:e}");
    }
}
