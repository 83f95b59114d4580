//! Confidence intervals by resampling.

use serde::{Deserialize, Serialize};

use super::{check_not_empty, mean};
use crate::random::{Purpose, RandomStream};
use crate::{Error, Result};

/// An estimate and the interval it lies in with the given confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceInterval {
    /// The statistic of all values.
    pub estimate: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// Percentile bootstrap: the statistic of `resamples` draws of as many values, with replacement (Efron 1979).
///
/// Values must be independent, so give one per clip, not one per sample. `confidence` lies between 0 and 1, 0.95 for
/// instance. The same seed gives the same interval on every platform.
///
/// # Errors
/// [`Error::Metric`] without values or resamples, or with another confidence.
pub fn bootstrap_interval<V: Clone>(
    values: &[V],
    statistic: impl Fn(&[V]) -> f64,
    confidence: f64,
    resamples: usize,
    seed: u64,
) -> Result<ConfidenceInterval> {
    const METRIC: &str = "bootstrap interval";
    check_not_empty(METRIC, values)?;
    if resamples == 0 || !(confidence > 0.0 && confidence < 1.0) {
        let reason = format!(
            "{resamples} resamples at confidence {confidence}; give 1 or more and a confidence between 0 and 1"
        );
        return Err(Error::Metric { metric: METRIC, reason });
    }
    let mut stream = RandomStream::new(seed, Purpose::Bootstrap, 0);
    let mut resample = values.to_vec();
    let mut estimates: Vec<f64> = (0..resamples)
        .map(|_| {
            for value in &mut resample {
                value.clone_from(&values[stream.below(values.len())]);
            }
            statistic(&resample)
        })
        .collect();
    estimates.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Ok(ConfidenceInterval {
        estimate: statistic(values),
        lower: quantile(&estimates, tail),
        upper: quantile(&estimates, 1.0 - tail),
    })
}

/// [`bootstrap_interval`] of the mean.
///
/// # Errors
/// Those of [`bootstrap_interval`].
pub fn bootstrap_mean(values: &[f64], confidence: f64, resamples: usize, seed: u64) -> Result<ConfidenceInterval> {
    let statistic = |values: &[f64]| mean(values.iter().copied());
    bootstrap_interval(values, statistic, confidence, resamples, seed)
}

/// Quantile of sorted values, linear between neighbours.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let position = fraction * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_noise;

    #[test]
    fn the_mean_of_normal_values_is_covered_as_often_as_promised() {
        let trials = 400;
        let covered = (0..trials)
            .filter(|&trial| {
                let noise = flow_noise(11, trial, 60);
                let values: Vec<f64> = noise.iter().map(|&x| 3.0 + f64::from(x)).collect();
                let interval = bootstrap_mean(&values, 0.9, 400, trial).unwrap();
                interval.lower <= 3.0 && 3.0 <= interval.upper
            })
            .count() as f64;
        // 0.9 ± four standard errors of 0.015; the percentile interval is slightly narrow for 60 values.
        let fraction = covered / trials as f64;
        assert!((0.83..0.96).contains(&fraction), "{fraction}");
    }

    #[test]
    fn it_is_seeded_and_its_width_is_that_of_the_standard_error() {
        let values: Vec<f64> = flow_noise(3, 0, 400).iter().map(|&x| f64::from(x)).collect();
        let interval = bootstrap_mean(&values, 0.95, 2000, 1).unwrap();
        assert_eq!(interval, bootstrap_mean(&values, 0.95, 2000, 1).unwrap());
        assert_ne!(interval, bootstrap_mean(&values, 0.95, 2000, 2).unwrap());
        let width = interval.upper - interval.lower;
        assert!((width / (2.0 * 1.96 / 20.0) - 1.0).abs() < 0.15, "{width}");
        assert!(interval.lower < interval.estimate && interval.estimate < interval.upper);
    }

    #[test]
    fn any_statistic_of_anything() {
        let pairs = [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)];
        let ratio =
            |pairs: &[(f64, f64)]| pairs.iter().map(|p| p.1).sum::<f64>() / pairs.iter().map(|p| p.0).sum::<f64>();
        let interval = bootstrap_interval(&pairs, ratio, 0.95, 100, 0).unwrap();
        assert_eq!((interval.lower, interval.upper), (2.0, 2.0));
        assert!(bootstrap_mean(&[], 0.95, 10, 0).is_err());
        assert!(bootstrap_mean(&[1.0], 1.0, 10, 0).is_err());
    }
}
