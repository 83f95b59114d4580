//! The examples' one error type.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in what the examples share.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done: `read`, `write`, `create` ….
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A picture could not be turned into pixels or into a file's bytes.
    #[error("cannot {action}: {reason}")]
    Picture {
        /// What was being done.
        action: &'static str,
        /// What is wrong.
        reason: String,
    },

    /// A picture's file name ends in something that is no known format.
    #[error("{}: a picture is written as .svg or .png; end the file's name in one of them", .0.display())]
    PictureFormat(PathBuf),

    /// A file of results holds something that no run wrote.
    #[error("{}, line {line}: {reason}", path.display())]
    ResultLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// A file of results was written with other options than those given now.
    #[error(
        "{}, line {line} was written with other options ({differences}); give the same ones, or another file",
        path.display()
    )]
    OtherOptions {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What differs: `samples: 6 there, 3 now`.
        differences: String,
    },

    /// Another process writes to the same file of results.
    #[error("{}: another run is writing to this file; wait for it, or give this one another file", .0.display())]
    ResultsInUse(PathBuf),

    /// Two items of a run have the same key, so that their results could not be told apart.
    #[error("`{0}` is there twice; every item needs a key of its own")]
    DuplicateKey(String),

    /// There is nothing to be evaluated.
    #[error("no clips in `{pattern}`: {reason}")]
    NoClips {
        /// What was given: a folder, a glob, a dataset.
        pattern: String,
        /// Why there are none.
        reason: String,
    },

    /// An array could not be written.
    #[error("cannot write array `{array}` into {}: {source}", path.display())]
    Array {
        /// The array's name.
        array: String,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },

    /// Something of the core's that failed.
    #[error(transparent)]
    Core(#[from] alpamayo_core::Error),

    /// Ctrl-C cannot be listened for.
    #[error("cannot listen for Ctrl-C: {0}")]
    Interrupt(#[from] ctrlc::Error),
}

impl Error {
    /// [`Error::Io`] for `path`, to be used in `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// [`Error::Picture`], to be used in `map_err`.
    pub fn picture<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |reason| Self::Picture {
            action,
            reason: reason.to_string(),
        }
    }
}
