//! The heavy operations of Alpamayo-R1 over Burn's backends.
//!
//! [`ModelBackend`] names every operation that decides the model's speed. Each has a default body in plain Burn operations
//! (module [`definition`]): that body *is* the definition of the operation, runs on any backend, and is what the kernels
//! of the faster backends are tested against. [`layers`] holds the parameters those operations read (linear weights in
//! their stored formats, norms, rotary tables, the key-value cache).
#![deny(missing_docs)]

pub mod backend;
pub mod definition;
pub mod device;
pub mod error;
pub mod instances;
#[cfg(feature = "cubecl")]
pub mod kernels;
pub mod layers;
pub mod repetition;
pub mod sampling;
pub mod verify;

pub use backend::ModelBackend;
pub use device::{BackendKind, Device, DeviceVisitor};
pub use error::{Error, Result};
