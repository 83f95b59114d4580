//! How much a clip's samples differ from each other.

use serde::{Deserialize, Serialize};

use super::{ade, check_not_empty, check_pair, distance, mean};
use crate::Result;

/// Differences among samples, metres; zero for a single one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean over all pairs of samples of the average distance between them.
    pub mean_pairwise_ade: f64,
    /// Largest distance between the end points of two samples.
    pub max_final_distance: f64,
    /// Root mean square distance of the end points from their mean.
    pub final_deviation: f64,
}

/// The spread of samples `[samples][steps, 3]`.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) where samples differ in length, [`Error::Metric`](crate::Error::Metric) without
/// samples or steps.
pub fn spread<S: AsRef<[[f32; 3]]>>(samples: &[S]) -> Result<Spread> {
    const METRIC: &str = "spread";
    check_not_empty(METRIC, samples)?;
    let first = samples[0].as_ref();
    let mut ends = Vec::new();
    for sample in samples {
        check_pair(METRIC, sample.as_ref(), first)?;
        ends.push(sample.as_ref()[first.len() - 1]);
    }
    let mut pairwise = Vec::new();
    let mut max_final_distance = 0.0f64;
    for (i, a) in samples.iter().enumerate() {
        for (j, b) in samples.iter().enumerate().skip(i + 1) {
            pairwise.push(ade(a.as_ref(), b.as_ref())?);
            max_final_distance = max_final_distance.max(distance(&ends[i], &ends[j]));
        }
    }
    let centre = |axis: usize| mean(ends.iter().map(|end| f64::from(end[axis])));
    let centre = [centre(0), centre(1)];
    let squares = ends
        .iter()
        .map(|end| (f64::from(end[0]) - centre[0]).powi(2) + (f64::from(end[1]) - centre[1]).powi(2));
    Ok(Spread {
        mean_pairwise_ade: if pairwise.is_empty() {
            0.0
        } else {
            mean(pairwise.into_iter())
        },
        max_final_distance,
        final_deviation: mean(squares).sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_samples_apart() {
        let a = [[0.0, 0.0, 0.0], [1.0, 3.0, 0.0]];
        let b = [[0.0, 2.0, 5.0], [1.0, -3.0, 0.0]];
        let result = spread(&[a, b]).unwrap();
        assert_eq!(result.mean_pairwise_ade, 4.0);
        assert_eq!(result.max_final_distance, 6.0);
        assert_eq!(result.final_deviation, 3.0);
        let single = spread(&[a]).unwrap();
        assert_eq!(
            single.mean_pairwise_ade + single.max_final_distance + single.final_deviation,
            0.0
        );
        let lengths: [&[[f32; 3]]; 2] = [&a, &b[..1]];
        assert!(spread(&lengths).is_err());
    }
}
