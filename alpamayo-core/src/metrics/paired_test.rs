//! Whether two models differ on the same clips.

use super::{check_pair, mean};
use crate::Result;
use crate::random::{Purpose, RandomStream};

/// Up to this many pairs, all flips of signs are enumerated.
const EXACT_PAIRS: usize = 16;

/// The outcome of a paired comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedTest {
    /// Mean of `a - b`.
    pub mean_difference: f64,
    /// Probability of a mean at least as far from zero if the signs of the differences were fair coins (two-sided).
    pub p_value: f64,
}

/// Sign-flip permutation test on paired values, `a[i]` and `b[i]` being of the same clip.
///
/// It assumes no distribution, only that without an effect each difference is as likely to be negative as positive. Exact up
/// to 16 pairs; for more, from `permutations` random flips of the given seed, the observed one counted among them
/// (Phipson and Smyth 2010), so that the p-value is never zero.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) where lengths differ, [`Error::Metric`](crate::Error::Metric) without pairs.
pub fn paired_permutation_test(a: &[f64], b: &[f64], permutations: usize, seed: u64) -> Result<PairedTest> {
    check_pair("paired permutation test", a, b)?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let observed: f64 = differences.iter().sum();
    // Sums that are equal but for rounding count as equal.
    let magnitude: f64 = differences.iter().map(|d| d.abs()).sum();
    let threshold = observed.abs() - 1e-12 * magnitude;
    let p_value = if differences.len() <= EXACT_PAIRS {
        let all = 1usize << differences.len();
        let sums = (0..all).map(|flips| flipped_sum(&differences, |i| flips >> i & 1 == 1));
        sums.filter(|sum| sum.abs() >= threshold).count() as f64 / all as f64
    } else {
        let mut stream = RandomStream::new(seed, Purpose::Permutation, 0);
        let sums = (0..permutations).map(|_| flipped_sum(&differences, |_| stream.coin()));
        let extreme = sums.filter(|sum| sum.abs() >= threshold).count();
        (extreme + 1) as f64 / (permutations + 1) as f64
    };
    Ok(PairedTest {
        mean_difference: mean(differences.iter().copied()),
        p_value,
    })
}

/// The sum with the signs flipped of those that `flip` picks.
fn flipped_sum(differences: &[f64], mut flip: impl FnMut(usize) -> bool) -> f64 {
    let signed = differences.iter().enumerate();
    signed.map(|(i, d)| if flip(i) { -d } else { *d }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_noise;

    #[test]
    fn small_cases_are_exact() {
        // All differences positive: only all signs or none are as extreme, 2 of 2⁵.
        let result = paired_permutation_test(&[1.0, 2.0, 3.0, 4.0, 5.0], &[0.0; 5], 0, 0).unwrap();
        assert_eq!(result.p_value, 2.0 / 32.0);
        assert_eq!(result.mean_difference, 3.0);
        let result = paired_permutation_test(&[0.5; 3], &[0.5; 3], 0, 0).unwrap();
        assert_eq!(result.p_value, 1.0);
        assert!(paired_permutation_test(&[], &[], 10, 0).is_err());
        assert!(paired_permutation_test(&[1.0], &[1.0, 2.0], 10, 0).is_err());
    }

    #[test]
    fn p_values_are_uniform_without_an_effect_and_small_with_one() {
        let trials = 400;
        let p_value = |trial: u64, effect: f64| {
            let noise = flow_noise(5, trial, 60);
            let a: Vec<f64> = noise[..30].iter().map(|&x| effect + f64::from(x)).collect();
            let b: Vec<f64> = noise[30..].iter().map(|&x| f64::from(x)).collect();
            paired_permutation_test(&a, &b, 199, trial).unwrap().p_value
        };
        let below = (0..trials).filter(|&trial| p_value(trial, 0.0) <= 0.2).count() as f64;
        // 0.2 ± four standard errors of 0.02.
        let fraction = below / trials as f64;
        assert!((0.12..0.28).contains(&fraction), "{fraction}");
        assert!((0..20).all(|trial| p_value(trial, 3.0) == 1.0 / 200.0));
    }
}
