//! Headings and rotation matrices. Angles are radians, counter-clockwise seen from above.

use std::f64::consts::TAU;

use crate::Scalar;

/// The heading of a rotation matrix: `atan2(R[1][0], R[0][0])`.
pub fn yaw_of<T: Scalar>(rotation: &[[T; 3]; 3]) -> T {
    rotation[1][0].atan2(rotation[0][0])
}

/// The rotation by `yaw` about the upward axis.
pub fn rotation_from_yaw<T: Scalar>(yaw: T) -> [[T; 3]; 3] {
    let (sin, cos) = (yaw.sin(), yaw.cos());
    let (zero, one) = (T::zero(), T::one());
    [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]
}

/// Removes the jumps by whole turns from a sequence of angles, the first of which stays as it is.
pub fn unwrap_angles<T: Scalar>(angles: &mut [T]) {
    let Some(&first) = angles.first() else {
        return;
    };
    let (mut wrapped, mut unwrapped) = (first, first.to_double());
    for angle in &mut angles[1..] {
        let step = (*angle - wrapped).to_double();
        wrapped = *angle;
        unwrapped += step - TAU * (step / TAU).round_ties_even();
        *angle = T::from_double(unwrapped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn yaw_survives_a_rotation(yaw in -3.1f64..3.1) {
            prop_assert!((yaw_of(&rotation_from_yaw(yaw)) - yaw).abs() < 1e-12);
        }

        #[test]
        fn unwrapping_undoes_wrapping(start in -3.0f64..3.0, steps in prop::collection::vec(-3.0f64..3.0, 0..30)) {
            let mut angle = start;
            let truth: Vec<f64> = std::iter::once(start).chain(steps.iter().map(|step| { angle += step; angle })).collect();
            let mut angles: Vec<f64> = truth.iter().map(|angle| angle.sin().atan2(angle.cos())).collect();
            unwrap_angles(&mut angles);
            for (angle, truth) in angles.iter().zip(&truth) {
                prop_assert!((angle - truth).abs() < 1e-9);
            }
        }
    }
}
