//! Actions → trajectory: the unicycle's motion, integrated.

use super::UnicycleActionSpace;
use crate::{Error, Result, Scalar, Trajectory, check_length};

impl<T: Scalar> UnicycleActionSpace<T> {
    /// Drives normalised actions `[waypoints, 2]` from the state that the history ends in.
    ///
    /// `history_xyz [poses, 3]` and `history_rot [poses, 3, 3]` as for [`estimate_v0`](Self::estimate_v0). Returns the poses
    /// at t0 + dt … t0 + waypoints · dt; the pose at t0, the origin, is not among them, and z is that of the last history
    /// pose.
    ///
    /// # Errors
    /// Those of [`estimate_v0`](Self::estimate_v0); [`Error::Length`] where the number of actions is not
    /// [`n_waypoints`](Self::n_waypoints).
    pub fn action_to_trajectory(
        &self,
        action: &[[T; 2]],
        history_xyz: &[[T; 3]],
        history_rot: &[[[T; 3]; 3]],
    ) -> Result<Trajectory<T>> {
        let v0 = self.estimate_v0(history_xyz, history_rot)?;
        let z = history_xyz.last().map_or(T::zero(), |position| position[2]);
        self.roll_out(action, v0, z)
    }

    /// Drives normalised actions `[waypoints, 2]` from the origin at speed `v0` (m/s) and height `z` (m).
    ///
    /// One estimate of the speed serves all samples of a clip.
    ///
    /// # Errors
    /// [`Error::Length`] where the number of actions is not [`n_waypoints`](Self::n_waypoints), [`Error::ActionSpace`] where
    /// the trajectory is not finite.
    pub fn roll_out(&self, action: &[[T; 2]], v0: T, z: T) -> Result<Trajectory<T>> {
        check_length("actions", self.config.n_waypoints, action.len())?;
        let dt = T::from_double(self.config.dt);
        let half_dt = T::from_double(self.config.dt / 2.0);
        let two = T::from_double(2.0);

        // The running sums are f64, as the reference's are; every value that leaves them is rounded to T.
        let (mut speed_gain, mut yaw_sum, mut x, mut y) = (0.0, 0.0, 0.0, 0.0);
        let (mut speed, mut yaw) = (v0, T::zero());
        let (mut xyz, mut yaws) = (Vec::new(), Vec::new());
        for &pair in action {
            let [accel, curvature] = self.physical(pair);
            let velocity = [speed * yaw.cos(), speed * yaw.sin()];
            let turn = curvature * speed * dt + curvature * accel * dt * dt / two;
            speed_gain += (accel * dt).to_double();
            yaw_sum += turn.to_double();
            speed = v0 + T::from_double(speed_gain);
            yaw = T::from_double(yaw_sum);
            x += (half_dt * (speed * yaw.cos() + velocity[0])).to_double();
            y += (half_dt * (speed * yaw.sin() + velocity[1])).to_double();
            xyz.push([T::from_double(x), T::from_double(y), z]);
            yaws.push(yaw);
        }
        if !(x.is_finite() && y.is_finite() && yaw_sum.is_finite()) {
            return Err(Error::ActionSpace(
                "the actions lead to positions that are not finite; actions and speed must be finite".into(),
            ));
        }
        Ok(Trajectory::from_yaws(xyz, yaws))
    }
}
