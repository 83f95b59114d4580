//! Poses over time.

use crate::{Scalar, rotation_from_yaw, yaw_of};

/// Poses at equal time steps in the ego frame at t0: x forward, y left, z up, metres.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trajectory<T = f32> {
    /// Positions `[steps, 3]`, metres.
    pub xyz: Vec<[T; 3]>,
    /// Rotation matrices `[steps, 3, 3]`, row-major, from the vehicle's frame to the ego frame at t0.
    pub rot: Vec<[[T; 3]; 3]>,
}

impl<T: Scalar> Trajectory<T> {
    /// Positions `[steps, 3]`, metres.
    pub fn xyz(&self) -> &[[T; 3]] {
        &self.xyz
    }

    /// Rotation matrices `[steps, 3, 3]`.
    pub fn rot(&self) -> &[[[T; 3]; 3]] {
        &self.rot
    }

    /// Headings in radians, each in (-π, π].
    pub fn yaw(&self) -> Vec<T> {
        self.rot.iter().map(yaw_of).collect()
    }

    /// Number of poses.
    pub fn len(&self) -> usize {
        self.xyz.len()
    }

    /// Whether there is no pose at all.
    pub fn is_empty(&self) -> bool {
        self.xyz.is_empty()
    }

    /// Poses on the ground plane: `xyz` with the rotations about the upward axis by `yaw`.
    pub fn from_yaws(xyz: Vec<[T; 3]>, yaws: impl IntoIterator<Item = T>) -> Self {
        let rot = yaws.into_iter().map(rotation_from_yaw).collect();
        Self { xyz, rot }
    }
}
