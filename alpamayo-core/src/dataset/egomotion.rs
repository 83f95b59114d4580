//! How the car moved, as the dataset recorded it.

use super::poses::{Linear, Pose, PoseTrack, relative_seconds};
use super::source::Source;
use super::table::Table;
use crate::Result;

/// Recorded motion of the vehicle's frame (x forward, y left, z up; origin on the ground below the rear axle).
#[derive(Debug, Clone)]
pub struct Egomotion {
    poses: PoseTrack,
    velocity: Linear,
    acceleration: Linear,
    curvature: Linear,
}

/// The motion at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EgomotionState {
    /// Where the vehicle is and how it is turned.
    pub pose: Pose,
    /// m/s.
    pub velocity: [f64; 3],
    /// m/s².
    pub acceleration: [f64; 3],
    /// 1/m, positive to the left.
    pub curvature: f64,
}

impl Egomotion {
    /// The columns `timestamp`, `qx` … `qw`, `x` …, `vx` …, `ax` …, `curvature` of a table.
    pub(super) fn from_table(source: Source, table: &Table) -> Result<Self> {
        let times_us = source.wrap(None, table.integers("timestamp"))?;
        let columns = |names| source.wrap(None, vectors(table, names));
        let quaternions = source.wrap(None, vectors(table, ["qx", "qy", "qz", "qw"]))?;
        let positions = columns(["x", "y", "z"])?;
        let velocity = columns(["vx", "vy", "vz"])?;
        let acceleration = columns(["ax", "ay", "az"])?;
        let curvature = source.wrap(None, table.numbers("curvature"))?;
        let poses = PoseTrack::new(source, times_us.clone(), positions, &quaternions)?;
        Ok(Self {
            poses,
            velocity: Linear::new(&times_us, velocity),
            acceleration: Linear::new(&times_us, acceleration),
            curvature: Linear::new(
                &times_us,
                curvature.into_iter().map(|value| [value, 0.0, 0.0]).collect(),
            ),
        })
    }

    /// The poses alone.
    pub fn poses(&self) -> &PoseTrack {
        &self.poses
    }

    /// The first and the last time, microseconds.
    pub fn range_us(&self) -> (i64, i64) {
        self.poses.range_us()
    }

    /// The motion at a time, microseconds: rotation by slerp, position by a cubic spline, the rest linearly.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) outside of [`Egomotion::range_us`].
    pub fn at(&self, time_us: i64) -> Result<EgomotionState> {
        let pose = self.poses.at(time_us)?;
        let relative = relative_seconds(time_us, self.range_us().0);
        let linear = |values: &Linear| values.at(relative).unwrap_or([f64::NAN; 3]);
        Ok(EgomotionState {
            pose,
            velocity: linear(&self.velocity),
            acceleration: linear(&self.acceleration),
            curvature: linear(&self.curvature)[0],
        })
    }
}

/// Rows of `N` columns.
fn vectors<const N: usize>(table: &Table, names: [&str; N]) -> Result<Vec<[f64; N]>> {
    let mut rows = vec![[0.0; N]; table.rows()];
    for (column, name) in names.into_iter().enumerate() {
        for (row, value) in rows.iter_mut().zip(table.numbers(name)?) {
            row[column] = value;
        }
    }
    Ok(rows)
}
