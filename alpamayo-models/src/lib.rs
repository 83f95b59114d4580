//! Alpamayo-R1 (arXiv 2511.00088) as Burn modules, generic over [`ModelBackend`](alpamayo_backends::ModelBackend).
//!
//! The way of the data: camera frames → [`vision`] → image tokens → [`decoder`] (prefill, then the chain of causation token by
//! token) → its key-value [`cache`] → [`expert`] with [`flow`] matching → actions → a trajectory. [`pipeline`] does it all;
//! [`parameters`] is where the [`network`]'s modules get their weights from: a checkpoint ([`import`]), or a
//! [`random`] source.
#![deny(missing_docs)]

pub mod cache;
pub mod decoder;
pub mod error;
pub mod expert;
pub mod flow;
mod host;
pub mod import;
mod linspace;
pub mod network;
pub mod observer;
pub mod parameters;
pub mod pipeline;
pub mod random;
mod rotary;
#[cfg(test)]
mod test_data;
pub mod vision;

pub use error::{Error, Result};
pub use network::Network;
pub use observer::{Event, Observer};
pub use parameters::ParameterSource;
pub use pipeline::{Alpamayo, DriveOptions, LoadOptions, Plan};
