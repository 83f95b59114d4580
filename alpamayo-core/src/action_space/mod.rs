//! From actions to trajectories and back: a unicycle driven by acceleration and curvature.
//!
//! The flow's output is one normalised `(acceleration, curvature)` per waypoint. [`UnicycleActionSpace`] integrates them
//! from the speed that the history shows ([`action_to_trajectory`](UnicycleActionSpace::action_to_trajectory)), and finds
//! the smooth actions behind a driven trajectory
//! ([`trajectory_to_action`](UnicycleActionSpace::trajectory_to_action)), as evaluation and training data need them.
//!
//! Source: Alpamayo-R1, arXiv 2511.00088, the section on the action-based trajectory representation.

mod forward;
mod inverse;
mod least_squares;
mod reciprocal_root;
#[cfg(test)]
mod tests;

use crate::{Error, ModelDtype, Result, Scalar, UnicycleConfig, check_length, unwrap_angles, yaw_of};
use least_squares::{NormalEquations, THIRD_DIFFERENCE};
pub(crate) use reciprocal_root::reciprocal_root;

/// Mean and standard deviation that map normalised actions to physical ones.
///
/// A checkpoint stores them as buffers rounded to bf16, and those rounded values are what the model was run with; a
/// checkpoint without the buffers gets the configuration's values rounded to its weights' type
/// ([`rounded`](Self::rounded)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActionNormalization {
    /// Mean acceleration, m/s².
    pub accel_mean: f32,
    /// Standard deviation of the acceleration, m/s².
    pub accel_std: f32,
    /// Mean curvature, 1/m.
    pub curvature_mean: f32,
    /// Standard deviation of the curvature, 1/m.
    pub curvature_std: f32,
}

impl ActionNormalization {
    /// The configuration's values in f32.
    pub fn from_config(config: &UnicycleConfig) -> Self {
        Self {
            accel_mean: config.accel_mean as f32,
            accel_std: config.accel_std as f32,
            curvature_mean: config.curvature_mean as f32,
            curvature_std: config.curvature_std as f32,
        }
    }

    /// The same values rounded to the type of a checkpoint's weights.
    pub fn rounded(self, dtype: ModelDtype) -> Self {
        let round = |value| dtype.round(f64::from(value)) as f32;
        Self {
            accel_mean: round(self.accel_mean),
            accel_std: round(self.accel_std),
            curvature_mean: round(self.curvature_mean),
            curvature_std: round(self.curvature_std),
        }
    }
}

/// The unicycle model with acceleration and curvature as its controls.
///
/// Generic over the float type of histories, actions and trajectories. The speed at t0 is solved in that type, as the reference
/// does it (in f32 a speed of 18 m/s is off by 10⁻⁵, and a plan by what that makes in 6.4 s); running sums and the inverse's
/// least squares, which lose all but three digits in f32, are formed in f64 in either case.
#[derive(Clone, Debug)]
pub struct UnicycleActionSpace<T = f32> {
    config: UnicycleConfig,
    accel_mean: T,
    accel_std: T,
    curvature_mean: T,
    curvature_std: T,
}

impl<T: Scalar> UnicycleActionSpace<T> {
    /// With the configuration's own normalisation, in f32 as the reference holds it.
    pub fn new(config: &UnicycleConfig) -> Self {
        Self::with_normalization(config, ActionNormalization::from_config(config))
    }

    /// With a checkpoint's normalisation in place of the configuration's.
    pub fn with_normalization(config: &UnicycleConfig, normalization: ActionNormalization) -> Self {
        let value = |value: f32| T::from_double(f64::from(value));
        Self {
            config: config.clone(),
            accel_mean: value(normalization.accel_mean),
            accel_std: value(normalization.accel_std),
            curvature_mean: value(normalization.curvature_mean),
            curvature_std: value(normalization.curvature_std),
        }
    }

    /// Poses per trajectory.
    pub fn n_waypoints(&self) -> usize {
        self.config.n_waypoints
    }

    /// Seconds between two poses.
    pub fn dt(&self) -> f64 {
        self.config.dt
    }

    /// The speed at t0 in m/s: the last of the smooth speeds that explain the history's displacements best.
    ///
    /// `history_xyz [poses, 3]` in metres and `history_rot [poses, 3, 3]`, `dt` apart, the last one at t0.
    ///
    /// # Errors
    /// [`Error::Length`] where there is no pose or the two differ in length, [`Error::ActionSpace`] where a value is not
    /// finite.
    pub fn estimate_v0(&self, history_xyz: &[[T; 3]], history_rot: &[[[T; 3]; 3]]) -> Result<T> {
        self.speed_at_t0(history_xyz, history_rot)
    }

    /// As [`estimate_v0`](Self::estimate_v0), solved in `S`.
    fn speed_at_t0<S: Scalar>(&self, history_xyz: &[[T; 3]], history_rot: &[[[T; 3]; 3]]) -> Result<S> {
        let n = history_xyz.len();
        if n == 0 {
            return Err(Error::Length {
                what: "history positions",
                expected: "at least 1".into(),
                found: 0,
            });
        }
        check_length("history rotations", n, history_rot.len())?;
        let mut yaws: Vec<f64> = history_rot.iter().map(|r| yaw_of(&widen(r))).collect();
        unwrap_angles(&mut yaws);
        let positions: Vec<[S; 2]> = history_xyz.iter().map(ground).collect();
        let mut equations = NormalEquations::new(n);
        self.add_displacements(&mut equations, &positions, &yaws);
        let speeds = equations.solve(self.config.v_ridge, "the history's speeds")?;
        Ok(speeds[n - 1])
    }

    /// Whether every waypoint's acceleration and curvature lie within the configured bounds; `action [waypoints, 2]` is
    /// normalised.
    pub fn within_bounds(&self, action: &[[T; 2]]) -> bool {
        let inside = |value: T, [low, high]: [f64; 2]| value >= T::from_double(low) && value <= T::from_double(high);
        action.iter().all(|&pair| {
            let [accel, curvature] = self.physical(pair);
            inside(accel, self.config.accel_bounds) && inside(curvature, self.config.curvature_bounds)
        })
    }

    /// Normalised action → acceleration in m/s² and curvature in 1/m.
    fn physical(&self, [accel, curvature]: [T; 2]) -> [T; 2] {
        [
            accel * self.accel_std + self.accel_mean,
            curvature * self.curvature_std + self.curvature_mean,
        ]
    }

    /// Residuals of speeds against displacements, `v_t u_t + v_{t+1} u_{t+1} = 2/dt (p_{t+1} - p_t)` with headings u, and
    /// the penalty on the third difference of the speeds.
    fn add_displacements<S: Scalar>(&self, equations: &mut NormalEquations<S>, positions: &[[S; 2]], yaws: &[f64]) {
        let dt = self.config.dt;
        let scale = S::from_double(2.0 / dt);
        let heading = |yaw: f64| [yaw.cos(), yaw.sin()].map(S::from_double);
        for (t, pair) in positions.windows(2).enumerate() {
            let (u0, u1) = (heading(yaws[t]), heading(yaws[t + 1]));
            for axis in 0..2 {
                let target = scale * (pair[1][axis] - pair[0][axis]);
                equations.add_residual([(t, u0[axis]), (t + 1, u1[axis])], target);
            }
        }
        equations.add_difference_penalty(THIRD_DIFFERENCE, self.config.v_lambda / dt.powi(6));
    }
}

/// The position on the ground plane, in the type that is solved in.
fn ground<T: Scalar, S: Scalar>(position: &[T; 3]) -> [S; 2] {
    [position[0], position[1]].map(|value| S::from_double(value.to_double()))
}

/// The rotation in double precision.
fn widen<T: Scalar>(rotation: &[[T; 3]; 3]) -> [[f64; 3]; 3] {
    rotation.map(|row| row.map(T::to_double))
}
