//! What moves when one thing is changed: a sweep of perturbations over many clips.
//!
//! - [`mod@grid`]: what is driven: perturbations x severities x clips x repetitions;
//! - [`mod@drive`]: driving it, what is unchanged is not computed again;
//! - [`record`]: what is kept of each drive, one line of a [`ResultFile`](crate::run::ResultFile);
//! - [`measure`]: the numbers of a pair, one place for tables, charts and page;
//! - [`flip`]: the severity at which an intent flips, by bisection;
//! - [`rows`]: the pairs as numbers;
//! - [`summary`]: their means with intervals, beside the noise floor and tested against it;
//! - [`tables`]: the same as CSV;
//! - [`curves`]: the same as charts;
//! - [`page`]: the same to look at, with clean and perturbed figures side by side.

pub mod curves;
pub mod drive;
pub mod flip;
pub mod grid;
pub mod measure;
pub mod page;
pub mod record;
pub mod rows;
pub mod summary;
pub mod tables;
#[cfg(test)]
mod tests;

pub use drive::drive_grid;
pub use flip::{FlipItem, FlipRecord, find_flips, flip_items};
pub use grid::{GridItem, grid};
pub use record::{IntentKind, Record};
pub use rows::Rows;
pub use summary::Summary;

use std::path::{Path, PathBuf};

/// A sweep that is in the repository: `first` for the guide's.
pub fn bundled_sweep(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/sweeps/{name}.toml"))
}
