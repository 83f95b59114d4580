//! Alpamayo-R1 (arXiv 2511.00088) as Burn modules, generic over [`ModelBackend`](alpamayo_backends::ModelBackend).
//!
#![deny(missing_docs)]

pub mod error;
pub mod import;
pub mod parameters;

pub use error::{Error, Result};
pub use parameters::ParameterSource;
