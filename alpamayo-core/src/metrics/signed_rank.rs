//! Whether two models differ on the same clips, by ranks.

use super::check_pair;
use crate::Result;

/// Up to this many differences, all signs are counted; beyond, their number is taken as normal.
const EXACT_PAIRS: usize = 100;

/// The outcome of a signed-rank test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRankTest {
    /// Differences that are not zero.
    pub pairs: usize,
    /// Sum of the ranks of the positive differences.
    pub positive_rank_sum: f64,
    /// Probability of a rank sum at least as far from its mean if the signs of the differences were fair coins (two-sided).
    pub p_value: f64,
}

/// Wilcoxon's signed-rank test (1945) on paired values, `a[i]` and `b[i]` being of the same clip.
///
/// Differences are ranked by magnitude, equal ones sharing their mean rank; zeros are left out. Next to
/// [`paired_permutation_test`](super::paired_permutation_test), which looks at the mean, one clip with a very large difference counts
/// for no more than its rank. Exact up to 100 differences, ties included; for more, by the normal approximation with corrections for
/// ties and continuity.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) where lengths differ, [`Error::Metric`](crate::Error::Metric) without pairs.
pub fn signed_rank_test(a: &[f64], b: &[f64]) -> Result<SignedRankTest> {
    check_pair("signed-rank test", a, b)?;
    let differences = a.iter().zip(b).map(|(a, b)| a - b);
    let mut differences: Vec<f64> = differences.filter(|difference| *difference != 0.0).collect();
    differences.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let ranks = doubled_ranks(&differences);
    let positive = differences
        .iter()
        .zip(&ranks)
        .filter(|(difference, _)| **difference > 0.0);
    let positive: usize = positive.map(|(_, rank)| rank).sum();
    let p_value = match differences.len() {
        0 => 1.0,
        1..=EXACT_PAIRS => exact(&ranks, positive),
        _ => normal(&ranks, positive),
    };
    Ok(SignedRankTest {
        pairs: differences.len(),
        positive_rank_sum: positive as f64 / 2.0,
        p_value,
    })
}

/// Twice the rank of each value, so that shared ranks are whole; values are sorted by magnitude.
fn doubled_ranks(sorted: &[f64]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(sorted.len());
    for tied in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        // The ranks of the group are first + 1 … first + length.
        let (first, length) = (ranks.len(), tied.len());
        ranks.extend(std::iter::repeat_n(2 * first + length + 1, length));
    }
    ranks
}

/// The share of all signs whose positive ranks sum to something at least as far from half of all as `positive`.
fn exact(ranks: &[usize], positive: usize) -> f64 {
    let total: usize = ranks.iter().sum();
    let mut share = vec![0.0; total + 1];
    share[0] = 1.0;
    let mut most = 0;
    for &rank in ranks {
        most += rank;
        for sum in (0..=most).rev() {
            let with = if sum >= rank { share[sum - rank] } else { 0.0 };
            share[sum] = (share[sum] + with) / 2.0;
        }
    }
    let far = |sum: usize| (2 * sum).abs_diff(total);
    let extreme = share.iter().enumerate().filter(|(sum, _)| far(*sum) >= far(positive));
    extreme.map(|(_, share)| share).sum::<f64>().min(1.0)
}

fn normal(ranks: &[usize], positive: usize) -> f64 {
    // In ranks, not in doubled ones: the mean is half of their sum, the variance a quarter of their squares.
    let ranks: Vec<f64> = ranks.iter().map(|&rank| rank as f64 / 2.0).collect();
    let mean = ranks.iter().sum::<f64>() / 2.0;
    let deviation = (ranks.iter().map(|rank| rank * rank).sum::<f64>() / 4.0).sqrt();
    let distance = ((positive as f64 / 2.0 - mean).abs() - 0.5).max(0.0);
    libm::erfc(distance / deviation / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_noise;

    fn of(differences: &[f64]) -> SignedRankTest {
        signed_rank_test(differences, &vec![0.0; differences.len()]).unwrap()
    }

    #[test]
    fn known_cases() {
        // Darwin's plants, as in the documentation of SciPy's `wilcoxon`: statistic 24, p 0.041259765625.
        let plants = [
            6.0, 8.0, 14.0, 16.0, 23.0, 24.0, 28.0, 29.0, 41.0, -48.0, 49.0, 56.0, 60.0, -67.0, 75.0,
        ];
        let found = of(&plants);
        assert_eq!((found.pairs, found.positive_rank_sum), (15, 120.0 - 24.0));
        assert!((found.p_value - 0.041_259_765_625).abs() < 1e-15);
        // All positive: 2 of 2⁵ signs.
        assert_eq!(of(&[1.0, 2.0, 3.0, 4.0, 5.0]).p_value, 2.0 / 32.0);
        // Ties share ranks: of (1.5, 1.5, 3) the sums 0 … 6; 0 and 6 are one sign each of eight.
        assert_eq!(of(&[1.0, 1.0, 2.0]).p_value, 2.0 / 8.0);
        assert_eq!(of(&[1.0, -1.0, 2.0]).positive_rank_sum, 4.5);
        assert_eq!(of(&[1.0, -1.0, 2.0]).p_value, 6.0 / 8.0);
        // Zeros say nothing.
        assert_eq!(
            of(&[0.0, 0.0]),
            SignedRankTest {
                pairs: 0,
                positive_rank_sum: 0.0,
                p_value: 1.0
            }
        );
        assert_eq!(of(&[0.0, 1.0, 2.0]).pairs, 2);
        assert!(signed_rank_test(&[], &[]).is_err());
        assert!(signed_rank_test(&[1.0], &[1.0, 2.0]).is_err());
    }

    #[test]
    fn many_pairs_are_nearly_normal() {
        for (trial, shift) in [(1, 0.0), (2, 0.15), (3, 0.3)] {
            let noise: Vec<f64> = flow_noise(9, trial, 100)
                .iter()
                .map(|&x| shift + f64::from(x))
                .collect();
            let mut sorted = noise.clone();
            sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
            let ranks = doubled_ranks(&sorted);
            let positive = sorted
                .iter()
                .zip(&ranks)
                .filter(|(x, _)| **x > 0.0)
                .map(|(_, rank)| rank)
                .sum();
            let (exact, normal) = (exact(&ranks, positive), normal(&ranks, positive));
            assert!((exact - normal).abs() < 2e-3, "{exact} {normal}");
            assert_eq!(of(&noise).p_value, exact);
        }
        let many: Vec<f64> = (1..=200)
            .map(|i| f64::from(i) * if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        assert!(of(&many).p_value > 0.8);
        assert!(of(&(1..=200).map(f64::from).collect::<Vec<_>>()).p_value < 1e-30);
    }

    #[test]
    fn p_values_are_uniform_without_an_effect() {
        let trials = 400;
        let below = (0..trials)
            .filter(|&trial| {
                let noise: Vec<f64> = flow_noise(5, trial, 30).iter().map(|&x| f64::from(x)).collect();
                of(&noise).p_value <= 0.2
            })
            .count() as f64;
        // 0.2 ± four standard errors of 0.02.
        let fraction = below / trials as f64;
        assert!((0.12..0.28).contains(&fraction), "{fraction}");
    }
}
