//! The best of several samples.

use super::{ade, check_not_empty, fde, steps_in};
use crate::Result;

/// Horizons in seconds at which minADE is reported.
pub const HORIZONS: [f64; 5] = [0.5, 1.0, 3.0, 5.0, 6.4];

/// The sample closest to the truth, and how close it is.
#[derive(Clone, Debug, PartialEq)]
pub struct MinAde {
    /// k*: the sample with the least ADE over **all** steps, the first if several are; every value below is its.
    pub sample: usize,
    /// ADE over all steps, metres: the headline number.
    pub ade: f64,
    /// FDE, metres.
    pub fde: f64,
    /// `(seconds, ADE up to there)` for those [`HORIZONS`] that the truth reaches.
    pub at_horizons: Vec<(f64, f64)>,
}

/// minADE over samples `[samples][steps, 3]`, steps `dt` seconds apart.
///
/// One sample is chosen for all horizons (that is the definition the released model is measured with); choosing the best
/// one for each would give smaller numbers.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) where a sample and the truth differ in length,
/// [`Error::Metric`](crate::Error::Metric) without samples or steps.
pub fn min_ade<S: AsRef<[[f32; 3]]>>(samples: &[S], truth: &[[f32; 3]], dt: f64) -> Result<MinAde> {
    check_not_empty("minADE", samples)?;
    let mut best = (0, f64::INFINITY);
    for (sample, predicted) in samples.iter().enumerate() {
        let ade = ade(predicted.as_ref(), truth)?;
        if ade < best.1 {
            best = (sample, ade);
        }
    }
    let (sample, _) = best;
    let predicted = samples[sample].as_ref();
    let mut at_horizons = Vec::new();
    for seconds in HORIZONS {
        let steps = steps_in(seconds, dt);
        if (1..=truth.len()).contains(&steps) {
            at_horizons.push((seconds, ade(&predicted[..steps], &truth[..steps])?));
        }
    }
    Ok(MinAde {
        sample,
        ade: ade(predicted, truth)?,
        fde: fde(predicted, truth)?,
        at_horizons,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(early: f32, late: f32) -> Vec<[f32; 3]> {
        (0..64).map(|i| [if i < 10 { early } else { late }, 0.0, 0.0]).collect()
    }

    #[test]
    fn one_sample_for_all_horizons() {
        let truth = offset(0.0, 0.0);
        // The first is better at 0.5 and 1 s, the second over all steps.
        let samples = [offset(0.1, 2.0), offset(1.0, -0.5)];
        let result = min_ade(&samples, &truth, 0.1).unwrap();
        assert_eq!(result.sample, 1);
        let expected = [1.0, 1.0, 20.0 / 30.0, 30.0 / 50.0, 37.0 / 64.0];
        for ((seconds, value), (horizon, expected)) in result.at_horizons.iter().zip(HORIZONS.iter().zip(expected)) {
            assert_eq!(seconds, horizon);
            assert!((value - expected).abs() < 1e-6, "{seconds} s: {value}");
        }
        assert_eq!(result.at_horizons.len(), 5);
        assert!((result.ade - 37.0 / 64.0).abs() < 1e-6);
        assert_eq!(result.fde, 0.5);
    }

    #[test]
    fn horizons_beyond_the_truth_are_left_out() {
        let truth = &offset(0.0, 0.0)[..30];
        let result = min_ade(&[truth], truth, 0.1).unwrap();
        assert_eq!(result.at_horizons, [(0.5, 0.0), (1.0, 0.0), (3.0, 0.0)]);
        assert!(min_ade::<&[[f32; 3]]>(&[], truth, 0.1).is_err());
    }
}
