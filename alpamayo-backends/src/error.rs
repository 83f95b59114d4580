//! What can go wrong between the model and a device.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thiserror::Error;

/// The result of a fallible call in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Runs `work`; a panic inside (no device, out of memory) becomes its words.
///
/// Nothing that `work` writes should be used after a panic.
///
/// # Errors
/// With what the panic said.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().copied();
        let owned = || payload.downcast_ref::<String>().map(String::as_str);
        text.or_else(owned).unwrap_or("it gave no reason").to_owned()
    })
}

/// The error of values that don't come from a device.
pub(crate) fn unreadable(error: impl Display) -> Error {
    Error::Device {
        context: "reading what it computed".into(),
        message: error.to_string(),
    }
}

/// An error of a device or of a weight's storage.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A weight's bytes do not fill its shape.
    #[error(
        "a weight of {rows} x {columns} needs {expected} bytes in {format}, got {actual}: the source is truncated or its dtype is wrong"
    )]
    WeightSize {
        /// Output features.
        rows: usize,
        /// Input features.
        columns: usize,
        /// The source's element type.
        format: &'static str,
        /// Bytes that the shape asks for.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// The storage format can't hold a weight of this shape.
    #[error("{format} can't store a weight of {rows} x {columns}: {reason}; choose another weight format")]
    UnsupportedFormat {
        /// The format asked for.
        format: &'static str,
        /// Output features.
        rows: usize,
        /// Input features.
        columns: usize,
        /// Why it can't.
        reason: String,
    },
    /// The device reported a failure.
    #[error("the device failed while {context}: {message}")]
    Device {
        /// What was being done.
        context: String,
        /// The device's own words.
        message: String,
    },
    /// No such name among the backends.
    #[error("unknown device `{name}`; known are {known}, with `:index` behind those that are numbered (cuda:0)")]
    UnknownDevice {
        /// What was asked for.
        name: String,
        /// The known names.
        known: String,
    },
    /// The backend isn't part of this build.
    #[error("this build has no {backend} backend; compile with `--features {feature}`")]
    NotCompiled {
        /// The backend's name.
        backend: &'static str,
        /// The feature that compiles it.
        feature: &'static str,
    },
    /// The machine has no such device.
    #[error("no device {device} on this machine (of this backend: {found}); {hint}")]
    NoDevice {
        /// What was asked for.
        device: String,
        /// The backend's devices that are there.
        found: String,
        /// What to check.
        hint: &'static str,
    },
    /// The build has the adapters that the device's backend would reach under another name.
    #[error(
        "this build has no {device}: it compiles kernels for this machine's graphics adapters in another way; ask for `{name}`"
    )]
    OtherName {
        /// What was asked for.
        device: String,
        /// What to ask for.
        name: String,
    },
    /// The build has no backend at all.
    #[error("this build has no backend; compile with `--features flex` or another backend's feature")]
    NoBackend,
    /// An operation gave wrong values.
    #[error(
        "{device} computes {operation} ({shape}) wrongly: relative error {relative_error:.1e}, at most {tolerance:.0e} is rounding; update the driver or choose another backend"
    )]
    Verification {
        /// The device.
        device: String,
        /// The operation's name.
        operation: &'static str,
        /// The shape at which it failed.
        shape: String,
        /// The error that was measured.
        relative_error: f64,
        /// The error that would have passed.
        tolerance: f64,
    },
}
