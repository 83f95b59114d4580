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
