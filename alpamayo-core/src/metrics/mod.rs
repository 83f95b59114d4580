//! How good trajectories are: one metric per file, and the statistics to compare models with.
//!
//! Positions are `[steps, 3]` in metres in the ego frame at t0, as [`Trajectory::xyz`](crate::Trajectory::xyz) gives them;
//! distances are taken on the ground plane (x, y) unless a metric says otherwise, and computed in f64. Steps are those of
//! the prediction: step 0 is t0 + dt.

mod baseline;
mod bootstrap;
mod comfort;
mod corner_distance;
mod decomposition;
mod displacement;
mod min_ade;
mod paired_test;
mod signed_rank;
mod spread;

pub use baseline::constant_velocity;
pub use bootstrap::{ConfidenceInterval, bootstrap_interval, bootstrap_mean};
pub use comfort::{Comfort, ComfortLimits, comfort};
pub use corner_distance::{BOX_SIZE, corner_distance};
pub use decomposition::{Decomposition, decompose};
pub use displacement::{ade, fde};
pub use min_ade::{HORIZONS, MinAde, min_ade};
pub use paired_test::{PairedTest, paired_permutation_test};
pub use signed_rank::{SignedRankTest, signed_rank_test};
pub use spread::{Spread, spread};

use crate::error::check_length;
use crate::{Error, Result};

/// Steps in `seconds`, rounded to the nearest.
pub fn steps_in(seconds: f64, dt: f64) -> usize {
    (seconds / dt).round() as usize
}

/// Distance on the ground plane.
fn distance(a: &[f32; 3], b: &[f32; 3]) -> f64 {
    let difference = |axis: usize| f64::from(a[axis]) - f64::from(b[axis]);
    difference(0).hypot(difference(1))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len();
    values.sum::<f64>() / count as f64
}

/// Checks that a prediction and the truth have the same steps, and at least one.
fn check_pair<T, U>(metric: &'static str, predicted: &[T], truth: &[U]) -> Result<()> {
    check_length("predicted poses", truth.len(), predicted.len())?;
    check_not_empty(metric, truth)
}

fn check_not_empty<T>(metric: &'static str, values: &[T]) -> Result<()> {
    if values.is_empty() {
        let reason = "it is not defined for nothing; give at least one value".into();
        return Err(Error::Metric { metric, reason });
    }
    Ok(())
}
