//! Speed, heading and path length along a trajectory.

use crate::error::check_length;
use crate::local_fit::LocalFit;
use crate::{Error, Result, Trajectory, unwrap_angles, yaw_of};

/// Derivatives are those of quadratics through 0.7 s, as in [`crate::metrics::comfort`].
const SMOOTHING: LocalFit = LocalFit { window: 7, degree: 2 };

/// How a car moves along a trajectory. Index 0 of every list is t0, where the car is at the origin with heading 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Motion {
    /// Speed along the heading in m/s; negative backwards.
    pub speeds: Vec<f64>,
    /// Acceleration along the heading in m/s².
    pub accels: Vec<f64>,
    /// Heading in radians, unwrapped, to the left.
    pub headings: Vec<f64>,
    /// Metres driven since t0.
    pub lengths: Vec<f64>,
}

impl Motion {
    /// Measures a trajectory whose poses are `dt` seconds apart.
    ///
    /// # Errors
    /// [`Error::Metric`] without poses, [`Error::Length`](crate::Error::Length) where positions and rotations differ in
    /// number.
    pub fn of(trajectory: &Trajectory, dt: f64) -> Result<Self> {
        if trajectory.is_empty() {
            return Err(Error::Metric {
                metric: "motion",
                reason: "a trajectory without poses does not move; give at least one".into(),
            });
        }
        check_length("rotations", trajectory.len(), trajectory.rot.len())?;
        let along = |axis: usize| -> Vec<f64> {
            let coordinates = trajectory.xyz.iter().map(|position| f64::from(position[axis]));
            std::iter::once(0.0).chain(coordinates).collect()
        };
        let (x, y) = (along(0), along(1));
        let yaws = trajectory.rot.iter().map(|rotation| f64::from(yaw_of(rotation)));
        let mut headings: Vec<f64> = std::iter::once(0.0).chain(yaws).collect();
        unwrap_angles(&mut headings);
        let (vx, vy) = (SMOOTHING.derivative(&x, dt), SMOOTHING.derivative(&y, dt));
        let speeds: Vec<f64> = vx
            .iter()
            .zip(&vy)
            .zip(&headings)
            .map(|((vx, vy), heading)| vx * heading.cos() + vy * heading.sin())
            .collect();
        let mut lengths = vec![0.0; x.len()];
        for step in 1..x.len() {
            lengths[step] = lengths[step - 1] + (x[step] - x[step - 1]).hypot(y[step] - y[step - 1]);
        }
        Ok(Self {
            accels: SMOOTHING.derivative(&speeds, dt),
            speeds,
            headings,
            lengths,
        })
    }

    /// The mean speed in m/s.
    pub fn mean_speed(&self) -> f64 {
        self.speeds.iter().sum::<f64>() / self.speeds.len() as f64
    }

    /// The heading gained per metre, in 1/m, positive to the left; 0 where less than a metre is driven.
    pub fn mean_curvature(&self) -> f64 {
        match (self.headings.last(), self.lengths.last()) {
            (Some(heading), Some(length)) if *length >= 1.0 => heading / length,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_circle_has_its_speed_and_curvature(speed in 1.0f64..20.0, yaw_rate in -0.4f64..0.4) {
            let trajectory = super::super::tests::circle(speed, 0.0, yaw_rate);
            let motion = Motion::of(&trajectory, 0.1).unwrap();
            prop_assert!((motion.mean_speed() / speed - 1.0).abs() < 0.01);
            prop_assert!((motion.mean_curvature() - yaw_rate / speed).abs() < 1e-3 * (yaw_rate / speed).abs() + 1e-6);
            prop_assert!((motion.lengths[64] / (6.4 * speed) - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn standing_has_no_curvature() {
        let standing = Trajectory::from_yaws(vec![[0.0; 3]; 64], [0.3; 64]);
        let motion = Motion::of(&standing, 0.1).unwrap();
        assert_eq!((motion.mean_speed(), motion.mean_curvature()), (0.0, 0.0));
        assert!(Motion::of(&Trajectory::default(), 0.1).is_err());
    }
}
