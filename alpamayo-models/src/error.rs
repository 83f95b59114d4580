//! The crate's one error type.

use thiserror::Error;

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
}
