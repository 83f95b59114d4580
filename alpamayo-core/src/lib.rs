//! Everything of Alpamayo-R1 (arXiv 2511.00088) around the network, without a device: what goes in (configuration,
//! clips, images, prompts) and what is made of what comes out (sampling, reasoning, trajectories, metrics).
//!
//! Every module stands alone; together they are the model's pre- and postprocessing:
//!
//! - [`error`]: the crate's one error type.
#![deny(missing_docs)]

pub mod error;

pub use error::{Error, Result};
