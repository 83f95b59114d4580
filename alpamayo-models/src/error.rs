//! The crate's one error type.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::import::TensorProblems;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong between a checkpoint, a clip and a plan.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration, tokenizer, clip or image is not usable.
    #[error(transparent)]
    Core(#[from] alpamayo_core::Error),

    /// A device or a weight's storage failed.
    #[error(transparent)]
    Backend(#[from] alpamayo_backends::Error),

    /// The configuration asks for sizes that don't fit together.
    #[error("cannot build {module}: {reason}")]
    Module {
        /// The module, by its path: `vision.blocks`.
        module: String,
        /// What doesn't fit, and what would.
        reason: String,
    },

    /// The device can't hold a weight.
    #[error("cannot store `{field}`: {source}")]
    Weight {
        /// The field of the model that it fills.
        field: String,
        /// Why not.
        source: alpamayo_backends::Error,
    },

    /// The device has less memory than the model takes.
    #[error(
        "the model takes {} with weights in {format}, {device} has {}; choose {choice}",
        gigabytes(*needed),
        gigabytes(*available)
    )]
    DeviceMemory {
        /// The device.
        device: String,
        /// How the weights would be stored.
        format: &'static str,
        /// Bytes of the weights and of the smallest cache.
        needed: u64,
        /// Bytes of the device's memory.
        available: u64,
        /// What to do.
        choice: String,
    },

    /// An argument of the pipeline has the wrong size or contradicts another.
    #[error("{argument}: {reason}")]
    Argument {
        /// The argument or option.
        argument: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },

    /// Text is wanted from or for a model that was built without a tokenizer.
    #[error("cannot {action}: the model was built without a tokenizer; give one when it is built")]
    NoTokenizer {
        /// What needs the tokenizer.
        action: &'static str,
    },

    /// The backend panicked: most often no device, or a device out of memory.
    #[error(
        "the backend failed during {stage}: {message}; if the device is out of memory, choose a smaller weight or cache \
         format, fewer samples, or fewer clips at once"
    )]
    BackendPanic {
        /// The stage of the pipeline.
        stage: &'static str,
        /// The backend's own words.
        message: String,
    },

    /// A checkpoint's file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    CheckpointIo {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A checkpoint's file is absent, damaged or contradicts itself.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file, or the checkpoint's directory.
        path: PathBuf,
        /// The field, what is wrong with it, and what to do.
        reason: String,
    },

    /// A checkpoint could not be written.
    #[error("cannot write {}: {source}", path.display())]
    CheckpointWrite {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A checkpoint's tensors are not those of the model that its configuration describes.
    #[error("{}: {count} problems with its tensors:{problems}", path.display())]
    CheckpointTensors {
        /// The checkpoint.
        path: PathBuf,
        /// How many problems there are.
        count: usize,
        /// All of them.
        problems: TensorProblems,
    },

    /// A weight is NaN or infinite.
    #[error("{}: tensor `{name}`: value {position} is NaN or infinite; the file is damaged, or the training diverged", path.display())]
    NonFiniteWeight {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The first such value's position in the flattened tensor.
        position: usize,
    },
}

impl Error {
    /// [`Error::Checkpoint`] for `path`.
    pub(crate) fn checkpoint(path: &Path, reason: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }
}

/// Bytes for people.
pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
