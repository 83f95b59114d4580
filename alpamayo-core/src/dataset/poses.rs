//! Timed poses and what lies between them.

use nalgebra::{Quaternion, Unit, UnitQuaternion};

use super::source::{Source, seconds};
use super::spline::{CubicSpline, locate};
use crate::Result;

/// Norm below which a quaternion is no rotation.
const SMALLEST_QUATERNION: f64 = 1e-6;

/// Position and rotation of the vehicle at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Position, metres.
    pub position: [f64; 3],
    /// From the vehicle's frame (x forward, y left, z up) to the recording's, `[row][column]`.
    pub rotation: [[f64; 3]; 3],
}

/// Poses of one recording, to be asked for at any time between the first and the last.
///
/// Positions follow a not-a-knot cubic spline through all of them, rotations the shortest arc between neighbours
/// (slerp), in f64 and in seconds since the first pose.
#[derive(Debug, Clone)]
pub struct PoseTrack {
    source: Source,
    times_us: Vec<i64>,
    seconds: Vec<f64>,
    positions: CubicSpline,
    rotations: Vec<UnitQuaternion<f64>>,
}

impl PoseTrack {
    /// A track through `positions` (metres) and `quaternions` (x, y, z, w; of any length) at `times_us`.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) unless there are at least two, the times increase and every number is finite.
    pub fn new(source: Source, times_us: Vec<i64>, positions: Vec<[f64; 3]>, quaternions: &[[f64; 4]]) -> Result<Self> {
        let seconds = check_times(&source, &times_us)?;
        if times_us.len() < 2 || positions.len() != times_us.len() || quaternions.len() != times_us.len() {
            let reason = format!(
                "{} times, {} positions and {} rotations; each must be as many as the others, and at least two",
                times_us.len(),
                positions.len(),
                quaternions.len()
            );
            return Err(source.error(None, reason));
        }
        let finite = |position: &[f64; 3]| position.iter().all(|value| value.is_finite());
        if let Some(row) = positions.iter().position(|position| !finite(position)) {
            let reason = format!("row {row}: {:?} is no position", positions[row]);
            return Err(source.error(times_us[row], reason));
        }
        let mut rotations = Vec::with_capacity(quaternions.len());
        for (row, &[x, y, z, w]) in quaternions.iter().enumerate() {
            let rotation = Unit::try_new(Quaternion::new(w, x, y, z), SMALLEST_QUATERNION);
            let rotation = rotation.filter(|rotation| rotation.coords.iter().all(|value| value.is_finite()));
            let reason = || format!("row {row}: qx, qy, qz, qw are {x}, {y}, {z}, {w}, which is no rotation");
            rotations.push(rotation.ok_or_else(|| source.error(times_us[row], reason()))?);
        }
        let Some(positions) = CubicSpline::new(seconds.clone(), positions) else {
            return Err(source.error(None, "no spline goes through the positions"));
        };
        Ok(Self {
            source,
            times_us,
            seconds,
            positions,
            rotations,
        })
    }

    /// The first and the last time, microseconds.
    pub fn range_us(&self) -> (i64, i64) {
        (self.times_us[0], self.times_us[self.times_us.len() - 1])
    }

    /// The pose at a time, microseconds.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) outside of [`PoseTrack::range_us`]: nothing is extrapolated.
    pub fn at(&self, time_us: i64) -> Result<Pose> {
        let relative = relative_seconds(time_us, self.times_us[0]);
        let (Some(position), Some((row, share))) = (self.positions.at(relative), locate(&self.seconds, relative))
        else {
            return Err(outside(&self.source, &self.times_us, time_us));
        };
        let (from, to) = (self.rotations[row], self.rotations[row + 1]);
        // Through the relative rotation's axis and angle, which stays exact where neighbours hardly differ.
        let rotation = from * (from.inverse() * to).powf(share);
        let matrix = rotation.to_rotation_matrix();
        Ok(Pose {
            position,
            rotation: std::array::from_fn(|row| std::array::from_fn(|column| matrix[(row, column)])),
        })
    }

    /// The poses at `times_us` in the vehicle's frame at `origin_us`, cast to f32.
    ///
    /// # Errors
    /// As [`PoseTrack::at`].
    pub fn seen_from(&self, origin_us: i64, times_us: &[i64]) -> Result<LocalPoses> {
        let origin = self.at(origin_us)?;
        let mut local = LocalPoses::default();
        for &time_us in times_us {
            let pose = self.at(time_us)?;
            let offset: [f64; 3] = std::array::from_fn(|i| pose.position[i] - origin.position[i]);
            let into_origin = |column: [f64; 3]| -> [f64; 3] {
                std::array::from_fn(|i| (0..3).map(|k| origin.rotation[k][i] * column[k]).sum())
            };
            let columns: [[f64; 3]; 3] =
                std::array::from_fn(|column| into_origin(std::array::from_fn(|row| pose.rotation[row][column])));
            local.xyz.push(into_origin(offset).map(|value| value as f32));
            local.rot.push(std::array::from_fn(|row| {
                std::array::from_fn(|column| columns[column][row] as f32)
            }));
        }
        Ok(local)
    }

    /// The rows before and after a time, microseconds.
    pub(super) fn neighbours(&self, time_us: i64) -> Option<(i64, i64)> {
        let (row, _) = locate(&self.seconds, relative_seconds(time_us, self.times_us[0]))?;
        Some((self.times_us[row], self.times_us[row + 1]))
    }
}

/// Poses in the vehicle's frame at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LocalPoses {
    /// Positions, metres.
    pub xyz: Vec<[f32; 3]>,
    /// Rotations, `[row][column]`.
    pub rot: Vec<[[f32; 3]; 3]>,
}

/// Values that run in straight lines from one time to the next.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    seconds: Vec<f64>,
    values: Vec<[f64; 3]>,
}

impl Linear {
    pub(super) fn new(times_us: &[i64], values: Vec<[f64; 3]>) -> Self {
        let seconds = times_us
            .iter()
            .map(|&time| relative_seconds(time, times_us[0]))
            .collect();
        Self { seconds, values }
    }

    /// `relative` is in seconds since the first time.
    pub(super) fn at(&self, relative: f64) -> Option<[f64; 3]> {
        let (row, share) = locate(&self.seconds, relative)?;
        let (from, to) = (self.values.get(row)?, self.values.get(row + 1)?);
        Some(std::array::from_fn(|i| from[i] + share * (to[i] - from[i])))
    }
}

pub(super) fn relative_seconds(time_us: i64, first_us: i64) -> f64 {
    time_us.saturating_sub(first_us) as f64 / 1e6
}

/// The times in seconds since the first.
pub(super) fn check_times(source: &Source, times_us: &[i64]) -> Result<Vec<f64>> {
    let Some(&first) = times_us.first() else {
        return Err(source.error(None, "there are no timestamps"));
    };
    if let Some(row) = times_us.windows(2).position(|pair| pair[0] >= pair[1]) {
        let (before, after) = (times_us[row], times_us[row + 1]);
        let reason = format!(
            "timestamps must increase, but row {} has {after} us after {before} us",
            row + 1
        );
        return Err(source.error(after, reason));
    }
    Ok(times_us.iter().map(|&time| relative_seconds(time, first)).collect())
}

/// The error of a time that is not within `times_us`.
pub(super) fn outside(source: &Source, times_us: &[i64], time_us: i64) -> crate::Error {
    let (first, last) = (times_us[0], times_us[times_us.len() - 1]);
    let reason = format!(
        "the recording lasts from {} to {}; nothing is extrapolated, choose another t0",
        seconds(first),
        seconds(last)
    );
    source.error(time_us, reason)
}
