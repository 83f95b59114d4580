//! Errors along and across the direction of travel.

use super::{check_pair, mean};
use crate::error::check_length;
use crate::{Result, yaw_of};

/// Errors of a prediction in the truth's heading frame, step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Decomposition {
    /// Metres ahead of the true position (behind it where negative), per step.
    pub longitudinal: Vec<f64>,
    /// Metres to the left of the true position (right of it where negative), per step.
    pub lateral: Vec<f64>,
}

impl Decomposition {
    /// Mean absolute error along the direction of travel, metres: timing and speed.
    pub fn mean_longitudinal(&self) -> f64 {
        mean(self.longitudinal.iter().map(|error| error.abs()))
    }

    /// Mean absolute error across it, metres: the path.
    pub fn mean_lateral(&self) -> f64 {
        mean(self.lateral.iter().map(|error| error.abs()))
    }
}

/// Splits the errors of `predicted [steps, 3]` against `truth [steps, 3]` by the true headings, `truth_rot [steps, 3, 3]`.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) where lengths differ, [`Error::Metric`](crate::Error::Metric) without steps.
pub fn decompose(predicted: &[[f32; 3]], truth: &[[f32; 3]], truth_rot: &[[[f32; 3]; 3]]) -> Result<Decomposition> {
    check_pair("longitudinal and lateral error", predicted, truth)?;
    check_length("true rotations", truth.len(), truth_rot.len())?;
    let errors = predicted.iter().zip(truth).zip(truth_rot).map(|((p, t), rot)| {
        let (sin, cos) = f64::from(yaw_of(rot)).sin_cos();
        let x = f64::from(p[0]) - f64::from(t[0]);
        let y = f64::from(p[1]) - f64::from(t[1]);
        (x * cos + y * sin, y * cos - x * sin)
    });
    let (longitudinal, lateral) = errors.unzip();
    Ok(Decomposition { longitudinal, lateral })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ade;
    use crate::rotation_from_yaw;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn errors_ahead_and_to_the_left_come_back(ahead in -5.0f32..5.0, left in -5.0f32..5.0, yaw in -3.0f32..3.0) {
            let truth = [[10.0, -4.0, 0.0]; 3];
            let (sin, cos) = yaw.sin_cos();
            let predicted = [[10.0 + ahead * cos - left * sin, -4.0 + ahead * sin + left * cos, 0.0]; 3];
            let result = decompose(&predicted, &truth, &[rotation_from_yaw(yaw); 3]).unwrap();
            prop_assert!((result.longitudinal[1] - f64::from(ahead)).abs() < 1e-5);
            prop_assert!((result.lateral[2] - f64::from(left)).abs() < 1e-5);
            let whole = result.mean_longitudinal().hypot(result.mean_lateral());
            prop_assert!((whole - ade(&predicted, &truth).unwrap()).abs() < 1e-6);
        }
    }
}
