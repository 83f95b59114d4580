//! Trajectory → actions: the smooth acceleration and curvature behind driven poses.

use super::least_squares::{NormalEquations, SECOND_DIFFERENCE, THIRD_DIFFERENCE};
use super::{UnicycleActionSpace, ground, widen};
use crate::{Result, Scalar, Trajectory, check_length, unwrap_angles, yaw_of};

impl<T: Scalar> UnicycleActionSpace<T> {
    /// The normalised actions `[waypoints, 2]` that drive along `future`, the poses at t0 + dt … t0 + waypoints · dt.
    ///
    /// Headings, speeds, accelerations and curvatures are smoothed one after the other by regularised least squares, so
    /// that driving the actions gives the future back up to its noise. Solved in f64 whatever `T` is.
    ///
    /// # Errors
    /// Those of [`estimate_v0`](Self::estimate_v0); [`Error::Length`](crate::Error::Length) where the future does not have
    /// [`n_waypoints`](Self::n_waypoints) poses, [`Error::ActionSpace`](crate::Error::ActionSpace) where a value is not finite.
    pub fn trajectory_to_action(
        &self,
        future: &Trajectory<T>,
        history_xyz: &[[T; 3]],
        history_rot: &[[[T; 3]; 3]],
    ) -> Result<Vec<[T; 2]>> {
        let n = self.config.n_waypoints;
        check_length("future positions", n, future.xyz.len())?;
        check_length("future rotations", n, future.rot.len())?;
        let v0: f64 = self.speed_at_t0(history_xyz, history_rot)?;

        let yaws = self.smooth_yaws(future)?;
        let speeds = self.smooth_speeds(future, &yaws, v0)?;
        let accels = self.smooth_accels(&speeds)?;
        let curvatures = self.smooth_curvatures(&yaws, &speeds, &accels)?;

        let normalize = |value: f64, mean: T, std: T| T::from_double((value - mean.to_double()) / std.to_double());
        let actions = accels.iter().zip(&curvatures).map(|(&accel, &curvature)| {
            [
                normalize(accel, self.accel_mean, self.accel_std),
                normalize(curvature, self.curvature_mean, self.curvature_std),
            ]
        });
        Ok(actions.collect())
    }

    /// Headings at t0 … t0 + waypoints · dt, smooth in their third difference; the first one is 0.
    fn smooth_yaws(&self, future: &Trajectory<T>) -> Result<Vec<f64>> {
        let config = &self.config;
        let mut yaws = vec![0.0];
        yaws.extend(future.rot.iter().map(|rotation| yaw_of(&widen(rotation))));
        unwrap_angles(&mut yaws);
        let mut equations = NormalEquations::<f64>::new(yaws.len());
        for (t, &yaw) in yaws.iter().enumerate().skip(1) {
            equations.add_residual([(t, 1.0)], yaw);
        }
        equations.add_difference_penalty(THIRD_DIFFERENCE, config.theta_lambda / config.dt.powi(6));
        let rest = equations
            .with_first_fixed(0.0)
            .solve(config.theta_ridge, "the future's headings")?;
        Ok(std::iter::once(0.0).chain(rest).collect())
    }

    /// Speeds at the same times, the first one being `v0`.
    fn smooth_speeds(&self, future: &Trajectory<T>, yaws: &[f64], v0: f64) -> Result<Vec<f64>> {
        let mut positions = vec![[0.0; 2]];
        positions.extend(future.xyz.iter().map(ground::<T, f64>));
        let mut equations = NormalEquations::<f64>::new(positions.len());
        self.add_displacements(&mut equations, &positions, yaws);
        let rest = equations
            .with_first_fixed(v0)
            .solve(self.config.v_ridge, "the future's speeds")?;
        Ok(std::iter::once(v0).chain(rest).collect())
    }

    /// Accelerations over the `waypoints` intervals.
    fn smooth_accels(&self, speeds: &[f64]) -> Result<Vec<f64>> {
        let config = &self.config;
        let mut equations = NormalEquations::<f64>::new(config.n_waypoints);
        for (t, pair) in speeds.windows(2).enumerate() {
            equations.add_residual([(t, 1.0)], (pair[1] - pair[0]) / config.dt);
        }
        equations.add_difference_penalty(SECOND_DIFFERENCE, config.a_lambda / config.dt.powi(4));
        equations.solve(config.a_ridge, "the future's accelerations")
    }

    /// Curvatures over the intervals: heading changes per distance driven.
    fn smooth_curvatures(&self, yaws: &[f64], speeds: &[f64], accels: &[f64]) -> Result<Vec<f64>> {
        let config = &self.config;
        let mut equations = NormalEquations::<f64>::new(config.n_waypoints);
        for (t, pair) in yaws.windows(2).enumerate() {
            let distance = speeds[t] * config.dt + accels[t] * config.dt * config.dt / 2.0;
            equations.add_residual([(t, distance)], pair[1] - pair[0]);
        }
        let weight = config.kappa_lambda / config.dt.powi(4);
        equations.add_difference_penalty(SECOND_DIFFERENCE, weight);
        equations.solve(config.kappa_ridge, "the future's curvatures")
    }
}
