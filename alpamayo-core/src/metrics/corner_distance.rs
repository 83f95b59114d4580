//! How far the vehicle's corners are from where they should be: position and heading in one number.

use super::{check_pair, mean};
use crate::{Result, Trajectory};

/// Length, width and height of the box around the vehicle, metres.
pub const BOX_SIZE: [f64; 3] = [4.0, 3.0, 2.0];

/// Mean distance, in space, between the eight corners of a box of [`BOX_SIZE`] at the predicted and at the true poses, over
/// corners and steps, metres. The boxes are centred on the poses.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) where lengths differ, [`Error::Metric`](crate::Error::Metric) without steps.
pub fn corner_distance(predicted: &Trajectory, truth: &Trajectory) -> Result<f64> {
    const METRIC: &str = "corner distance";
    check_pair(METRIC, &predicted.xyz, &truth.xyz)?;
    check_pair(METRIC, &predicted.rot, &truth.xyz)?;
    check_pair(METRIC, &truth.rot, &truth.xyz)?;
    let steps = (0..truth.len()).map(|step| {
        mean((0..8).map(|corner| {
            let a = corner_position(predicted, step, corner);
            let b = corner_position(truth, step, corner);
            let squares = (0..3).map(|axis| (a[axis] - b[axis]).powi(2));
            squares.sum::<f64>().sqrt()
        }))
    });
    Ok(mean(steps))
}

/// The position of a corner; its number's three bits are the signs along the box's three axes.
fn corner_position(trajectory: &Trajectory, step: usize, corner: usize) -> [f64; 3] {
    let (position, rotation) = (&trajectory.xyz[step], &trajectory.rot[step]);
    std::array::from_fn(|axis| {
        let offset = (0..3).map(|side| {
            let half = BOX_SIZE[side] / 2.0;
            let signed = if corner >> side & 1 == 1 { half } else { -half };
            f64::from(rotation[axis][side]) * signed
        });
        f64::from(position[axis]) + offset.sum::<f64>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pose(x: f32, y: f32, z: f32, yaw: f32) -> Trajectory {
        Trajectory::from_yaws(vec![[x, y, z]; 4], [yaw; 4])
    }

    proptest! {
        #[test]
        fn a_shift_moves_every_corner_by_it(x in -5.0f32..5.0, y in -5.0f32..5.0, z in -1.0f32..1.0, yaw in -3.0f32..3.0) {
            let distance = corner_distance(&pose(x, y, z, yaw), &pose(0.0, 0.0, 0.0, yaw)).unwrap();
            let shift = f64::from(x * x + y * y + z * z).sqrt();
            prop_assert!((distance - shift).abs() < 1e-5);
        }

        #[test]
        fn a_turn_moves_every_corner_along_its_chord(yaw in -3.0f32..3.0) {
            // All corners are 2.5 m from the vertical axis.
            let distance = corner_distance(&pose(7.0, 1.0, 0.0, yaw), &pose(7.0, 1.0, 0.0, 0.0)).unwrap();
            let chord = 2.0 * 2.5 * (f64::from(yaw) / 2.0).sin().abs();
            prop_assert!((distance - chord).abs() < 1e-5);
        }
    }
}
