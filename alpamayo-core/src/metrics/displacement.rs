//! Average and final displacement errors.

use super::{check_pair, distance, mean};
use crate::Result;

/// Average displacement error: the mean distance over all steps, metres.
///
/// For a horizon, pass the first steps of both.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) where the two differ in length, [`Error::Metric`](crate::Error::Metric) where there
/// is no step.
pub fn ade(predicted: &[[f32; 3]], truth: &[[f32; 3]]) -> Result<f64> {
    check_pair("ADE", predicted, truth)?;
    Ok(mean(predicted.iter().zip(truth).map(|(a, b)| distance(a, b))))
}

/// Final displacement error: the distance at the last step, metres.
///
/// # Errors
/// Those of [`ade`].
pub fn fde(predicted: &[[f32; 3]], truth: &[[f32; 3]]) -> Result<f64> {
    check_pair("FDE", predicted, truth)?;
    let last = truth.len() - 1;
    Ok(distance(&predicted[last], &truth[last]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_growing_offset(n in 1usize..64, x in -3.0f32..3.0, y in -3.0f32..3.0) {
            // Step i is off by (i + 1)(x, y); height does not count.
            let truth: Vec<[f32; 3]> = (0..n).map(|i| [i as f32, -2.0, 0.0]).collect();
            let predicted: Vec<[f32; 3]> = (0..n)
                .map(|i| [i as f32 + (i + 1) as f32 * x, -2.0 + (i + 1) as f32 * y, 99.0])
                .collect();
            let offset = f64::from(x).hypot(f64::from(y));
            prop_assert!((fde(&predicted, &truth).unwrap() - n as f64 * offset).abs() < 1e-4);
            prop_assert!((ade(&predicted, &truth).unwrap() - (n + 1) as f64 / 2.0 * offset).abs() < 1e-4);
            prop_assert_eq!(ade(&truth, &truth).unwrap(), 0.0);
        }
    }

    #[test]
    fn other_lengths_are_errors() {
        assert!(ade(&[[0.0; 3]], &[]).is_err());
        assert!(fde(&[], &[]).is_err());
    }
}
