//! How well a model plans, over many clips.
//!
//! - [`checkpoint`]: which model, wherever its files lie;
//! - [`clips`]: which clips, from folders, globs and datasets;
//! - [`mod@drive`]: driving them;
//! - [`record`]: what is kept of each, one line of a [`ResultFile`](crate::run::ResultFile);
//! - [`measures`]: a plan against what happened and against the prediction that needs no model;
//! - [`metrics`]: the list of numbers per clip, one place for summary, page and export;
//! - [`summary`]: their means with bootstrap intervals, as text and as JSON;
//! - [`export`]: the same as NumPy arrays;
//! - [`page`]: the same to look at, with the worst and the best clips.

pub mod checkpoint;
pub mod clips;
#[cfg(feature = "dataset")]
pub mod dataset;
pub mod drive;
pub mod export;
pub mod measures;
pub mod metrics;
pub mod page;
pub mod record;
pub mod summary;
#[cfg(test)]
mod tests;

pub use checkpoint::CheckpointId;
pub use clips::ClipItem;
pub use drive::drive;
pub use record::{ClipRecord, Options};
pub use summary::Summary;
