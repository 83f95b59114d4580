//! Whether a passenger would be comfortable.

use serde::{Deserialize, Serialize};

use super::check_not_empty;
use crate::error::check_length;
use crate::local_fit::LocalFit;
use crate::{Result, Trajectory, unwrap_angles, yaw_of};

/// Derivatives are those of quadratics through 0.7 s: plain differences of measured poses are mostly noise.
const SMOOTHING: LocalFit = LocalFit { window: 7, degree: 2 };

/// Bounds that a comfortable trajectory stays within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComfortLimits {
    /// Strongest braking, m/s² (negative).
    pub min_longitudinal_accel: f64,
    /// Strongest acceleration, m/s².
    pub max_longitudinal_accel: f64,
    /// Lateral acceleration to either side, m/s².
    pub max_lateral_accel: f64,
    /// Longitudinal jerk in either direction, m/s³.
    pub max_longitudinal_jerk: f64,
    /// Yaw rate to either side, rad/s.
    pub max_yaw_rate: f64,
}

impl Default for ComfortLimits {
    /// The bounds of nuPlan's `ego_is_comfortable` metric (Motional's nuplan-devkit, configuration of its planning
    /// metrics), which were set from what human drivers do in that data set.
    fn default() -> Self {
        Self {
            min_longitudinal_accel: -4.05,
            max_longitudinal_accel: 2.40,
            max_lateral_accel: 4.89,
            max_longitudinal_jerk: 4.13,
            max_yaw_rate: 0.95,
        }
    }
}

/// The extremes along a trajectory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comfort {
    /// Least longitudinal acceleration (strongest braking), m/s².
    pub min_longitudinal_accel: f64,
    /// Greatest longitudinal acceleration, m/s².
    pub max_longitudinal_accel: f64,
    /// Greatest lateral acceleration to either side, speed times yaw rate, m/s².
    pub max_lateral_accel: f64,
    /// Greatest longitudinal jerk in either direction, m/s³.
    pub max_longitudinal_jerk: f64,
    /// Greatest yaw rate to either side, rad/s.
    pub max_yaw_rate: f64,
}

impl Comfort {
    /// Whether every extreme is within its bound.
    pub fn is_within(&self, limits: &ComfortLimits) -> bool {
        self.min_longitudinal_accel >= limits.min_longitudinal_accel
            && self.max_longitudinal_accel <= limits.max_longitudinal_accel
            && self.max_lateral_accel <= limits.max_lateral_accel
            && self.max_longitudinal_jerk <= limits.max_longitudinal_jerk
            && self.max_yaw_rate <= limits.max_yaw_rate
    }
}

/// Measures a trajectory whose poses are `dt` seconds apart; the pose at t0, the origin, counts as its first.
///
/// Speed is the derivative of position along the heading; it, acceleration, jerk and yaw rate are each taken from sliding
/// quadratic fits over seven poses.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) where positions and rotations differ in number,
/// [`Error::Metric`](crate::Error::Metric) without poses.
pub fn comfort(trajectory: &Trajectory, dt: f64) -> Result<Comfort> {
    check_not_empty("comfort", &trajectory.xyz)?;
    check_length("rotations", trajectory.xyz.len(), trajectory.rot.len())?;
    let with_origin =
        |values: &mut dyn Iterator<Item = f64>| -> Vec<f64> { std::iter::once(0.0).chain(values).collect() };
    let along = |axis: usize| with_origin(&mut trajectory.xyz.iter().map(|p| f64::from(p[axis])));
    let mut yaws = with_origin(&mut trajectory.rot.iter().map(|r| f64::from(yaw_of(r))));
    unwrap_angles(&mut yaws);

    let derivative = |values: &[f64]| SMOOTHING.derivative(values, dt);
    let (vx, vy) = (derivative(&along(0)), derivative(&along(1)));
    let velocities = vx.iter().zip(&vy).zip(&yaws);
    let speeds: Vec<f64> = velocities
        .map(|((vx, vy), yaw)| vx * yaw.cos() + vy * yaw.sin())
        .collect();
    let accels = derivative(&speeds);
    let yaw_rates = derivative(&yaws);
    let lateral: Vec<f64> = speeds.iter().zip(&yaw_rates).map(|(v, rate)| v * rate).collect();
    let greatest = |values: &[f64]| values.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    Ok(Comfort {
        min_longitudinal_accel: accels.iter().copied().fold(f64::INFINITY, f64::min),
        max_longitudinal_accel: accels.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        max_lateral_accel: greatest(&lateral),
        max_longitudinal_jerk: greatest(&derivative(&accels)),
        max_yaw_rate: greatest(&yaw_rates),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Poses of constant acceleration on a straight line, or of constant speed on a circle.
    fn drive(speed: f64, accel: f64, yaw_rate: f64) -> Trajectory {
        let times = (1..=64).map(|step| f64::from(step) * 0.1);
        let (xyz, yaws): (Vec<_>, Vec<_>) = times
            .map(|t| {
                let yaw = yaw_rate * t;
                let [x, y] = if yaw_rate == 0.0 {
                    [speed * t + accel * t * t / 2.0, 0.0]
                } else {
                    let radius = speed / yaw_rate;
                    [radius * yaw.sin(), radius * (1.0 - yaw.cos())]
                };
                ([x as f32, y as f32, 0.0], yaw as f32)
            })
            .unzip();
        Trajectory::from_yaws(xyz, yaws)
    }

    proptest! {
        #[test]
        fn constant_acceleration_is_found(speed in 0.0f64..30.0, accel in -3.0f64..3.0) {
            let found = comfort(&drive(speed, accel, 0.0), 0.1).unwrap();
            // Positions are f32: 4e-6 m at 100 m, divided by dt twice or thrice and smoothed.
            prop_assert!((found.min_longitudinal_accel - accel).abs() < 1e-2);
            prop_assert!((found.max_longitudinal_accel - accel).abs() < 1e-2);
            prop_assert!(found.max_longitudinal_jerk < 5e-2);
            prop_assert!(found.max_yaw_rate < 1e-6 && found.max_lateral_accel < 1e-4);
        }

        #[test]
        fn a_circle_has_its_lateral_acceleration(speed in 2.0f64..15.0, yaw_rate in 0.05f64..0.6) {
            for yaw_rate in [yaw_rate, -yaw_rate] {
                let found = comfort(&drive(speed, 0.0, yaw_rate), 0.1).unwrap();
                prop_assert!((found.max_yaw_rate - yaw_rate.abs()).abs() < 1e-3);
                let lateral = speed * yaw_rate.abs();
                prop_assert!((found.max_lateral_accel / lateral - 1.0).abs() < 0.03, "{} {}", found.max_lateral_accel, lateral);
            }
        }
    }

    #[test]
    fn limits_judge_each_extreme() {
        let limits = ComfortLimits::default();
        let within = |speed, accel, yaw_rate| comfort(&drive(speed, accel, yaw_rate), 0.1).unwrap().is_within(&limits);
        assert!(within(20.0, -2.0, 0.0));
        assert!(!within(40.0, -5.0, 0.0));
        assert!(!within(10.0, 3.0, 0.0));
        assert!(within(10.0, 0.0, 0.4));
        assert!(!within(15.0, 0.0, 0.4));
        assert!(!within(2.0, 0.0, 1.1));
        // Braking that sets in at once jerks.
        let mut jerky = drive(20.0, 0.0, 0.0);
        for (i, position) in jerky.xyz.iter_mut().enumerate().skip(30) {
            let t = (i as f32 - 29.0) * 0.1;
            position[0] -= 3.5 / 2.0 * t * t;
        }
        let found = comfort(&jerky, 0.1).unwrap();
        assert!(found.min_longitudinal_accel > limits.min_longitudinal_accel);
        assert!(found.max_longitudinal_jerk > limits.max_longitudinal_jerk, "{found:?}");
        assert!(!found.is_within(&limits));
        assert!(comfort(&Trajectory::default(), 0.1).is_err());
    }
}
