//! What can go wrong between the model and a device.

use thiserror::Error;

/// The result of a fallible call in this crate.
pub type Result<T> = std::result::Result<T, Error>;

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
}
