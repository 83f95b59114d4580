//! Where a value comes from, for errors.

use crate::{Error, Result};

/// A clip's feature, named in every error about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The dataset's clip id, or the recording's name.
    pub clip: String,
    /// The dataset's feature, or the file.
    pub feature: String,
}

impl Source {
    /// The feature of a clip.
    pub fn new(clip: impl Into<String>, feature: impl Into<String>) -> Self {
        Self {
            clip: clip.into(),
            feature: feature.into(),
        }
    }

    pub(super) fn error(&self, time_us: impl Into<Option<i64>>, reason: impl Into<String>) -> Error {
        Error::Recording {
            clip: self.clip.clone(),
            feature: self.feature.clone(),
            time_us: time_us.into(),
            reason: reason.into(),
        }
    }

    /// Says whose file it was that could not be read, and for which time.
    pub(super) fn wrap<T>(&self, time_us: impl Into<Option<i64>>, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error {
            Error::Recording { .. } | Error::Ffmpeg { .. } => error,
            other => self.error(time_us, other.to_string()),
        })
    }
}

/// What was asked for at `t0_us`: an error that names no time of its own gets this one.
pub(super) fn at<T>(t0_us: i64, result: Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        Error::Recording {
            clip,
            feature,
            time_us: None,
            reason,
        } => Error::Recording {
            clip,
            feature,
            time_us: Some(t0_us),
            reason,
        },
        other => other,
    })
}

/// Seconds for a message.
pub(super) fn seconds(time_us: i64) -> String {
    format!("{:.6} s", time_us as f64 / 1e6)
}
