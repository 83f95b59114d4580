//! What the examples share: long runs over many clips, and the drawing of figures, charts and pages.
#![deny(missing_docs)]

pub mod chart;
pub mod cli;
pub mod doctor;
pub mod error;
pub mod evaluate;
pub mod figure;
pub mod hash;
pub mod latency;
pub mod parity;
pub mod perturb;
pub mod report;
pub mod run;
pub mod scene;

pub use error::{Error, Result};
