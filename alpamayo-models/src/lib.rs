//! Alpamayo-R1 (arXiv 2511.00088) as Burn modules, generic over [`ModelBackend`](alpamayo_backends::ModelBackend).
//!
//! The way of the data: camera frames → [`vision`] → image tokens → [`decoder`] (prefill, then the chain of causation token by
//! token) → its key-value [`cache`] → [`expert`] with [`flow`] matching → actions → a trajectory. [`pipeline`] does it all;
//! [`parameters`] is where the [`network`]'s modules get their weights from: a checkpoint ([`import`]), or a
//! [`random`] source.
//!
//! ```no_run
//! use alpamayo_backends::instances::Flex;
//! use alpamayo_core::Clip;
//! use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Default::default();
//! let model = Alpamayo::<Flex>::load("Alpamayo-R1-10B", &device, LoadOptions::default())?;
//! let clip = Clip::read("clip")?;
//! let plan = model.drive(&clip, &DriveOptions { samples: 6, seed: 42, ..Default::default() })?;
//! println!("{}", plan.reasoning[0]); // chain of causation
//! let poses = plan.trajectories[0].xyz(); // 64 poses, metres, ego frame at t0
//! # Ok(())
//! # }
//! ```
//!
//! Every stage of a drive is public and can be used alone: with own noise, own tokens, other histories, kept vision features,
//! and with an [`Observer`] that sees the values in between.
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
pub mod storage;
#[cfg(test)]
mod test_data;
pub mod token_table;
pub mod vision;

pub use error::{Error, Result};
pub use network::Network;
pub use observer::{Event, Observer};
pub use parameters::ParameterSource;
pub use pipeline::{Alpamayo, DriveOptions, LoadOptions, Plan, View};
pub use token_table::TablePlacement;
