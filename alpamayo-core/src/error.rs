//! The crate's one error type.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::sampling::LogitsFault;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can be wrong with a configuration, a tokenizer, a clip, an image or a request.
///
/// Every variant says what is wrong, where (file and field), and what would be right.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done: `read`, `write`, `create`, `rename` ….
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A file is not JSON, or a field has another type than it must have.
    #[error("{}: not the JSON that is expected there: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where in it, and what the parser expected.
        source: serde_json::Error,
    },

    /// A configuration file holds a value that no model can be built from.
    #[error("{}: field `{field}`: {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The field, with the objects around it: `text_config.head_dim`.
        field: String,
        /// What is wrong with its value, and which values are possible.
        reason: String,
    },

    /// A `_target_` names a class that this crate does not implement.
    #[error("{}: field `{field}._target_`: unknown class `{target}`; known: {known}", path.display())]
    UnknownTarget {
        /// The configuration file.
        path: PathBuf,
        /// The object that holds the `_target_`.
        field: String,
        /// The class it names.
        target: String,
        /// The class or classes that are implemented, separated by commas.
        known: String,
    },

    /// The backbone is given as a hub name, and its files are not on this machine.
    #[error(
        "{}: field `vlm_name_or_path`: `{name}` is no directory, so {wanted} cannot be read; download that \
         repository's config.json and tokenizer.json and give their directory (`--vlm DIR`; `--tokenizer FILE` \
         is enough for the tokenizer)", path.display()
    )]
    BackboneNotLocal {
        /// The configuration file that names the backbone.
        path: PathBuf,
        /// The backbone's name.
        name: String,
        /// The file that is missing.
        wanted: &'static str,
    },

    /// The tokenizer file does not belong to this checkpoint, or cannot be used.
    #[error("{}: {field}: {reason}", path.display())]
    Tokenizer {
        /// The tokenizer file.
        path: PathBuf,
        /// The token, or the field of `config.json` that it contradicts.
        field: String,
        /// What is wrong.
        reason: String,
    },

    /// A text cannot be encoded, or token ids cannot be decoded.
    #[error("cannot {action}: {reason}")]
    Tokenize {
        /// `encode text` or `decode token ids`.
        action: &'static str,
        /// What is wrong.
        reason: String,
    },

    /// Pixels do not make a frame.
    #[error("a frame of {height}x{width} RGB pixels {reason}")]
    Frame {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// What is wrong.
        reason: String,
    },

    /// An image cannot be resized to what the vision tower accepts.
    #[error("an image of {height}x{width} pixels cannot be resized for the vision tower: {reason}")]
    Resize {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// What is wrong.
        reason: String,
    },

    /// A prompt cannot be built from what was given.
    #[error("cannot build the prompt: {0}")]
    Prompt(String),

    /// Token positions cannot be assigned.
    #[error("cannot assign token positions: {0}")]
    Positions(String),

    /// A sequence has another length than it must have.
    #[error("{found} {what}, but there must be {expected}")]
    Length {
        /// What was counted: `actions`, `future positions` ….
        what: &'static str,
        /// How many there must be.
        expected: String,
        /// How many there are.
        found: usize,
    },

    /// A trajectory and its tokens cannot be turned into each other.
    #[error("trajectory tokens: {0}")]
    TrajectoryTokens(String),

    /// Actions and trajectories cannot be turned into each other.
    #[error("action space: {0}")]
    ActionSpace(String),

    /// An option of token sampling is out of its range.
    #[error("sampling option `{field}`: {reason}")]
    Sampling {
        /// The option.
        field: &'static str,
        /// What is wrong with its value, and which values are possible.
        reason: String,
    },

    /// No token can be chosen from a row of logits.
    #[error("no token can be chosen from the logits: {0}; a model with broken weights gives such logits")]
    Logits(LogitsFault),

    /// A metric or a statistic is not defined for what was given.
    #[error("{metric}: {reason}")]
    Metric {
        /// The metric or statistic.
        metric: &'static str,
        /// What is missing.
        reason: String,
    },

    /// A clip on disk or in memory is incomplete or contradicts itself.
    #[error("{}: {field}: {reason}", path.display())]
    Clip {
        /// The file, or the clip's name where it is in memory only.
        path: PathBuf,
        /// The field or the camera and frame.
        field: String,
        /// What is wrong, and what would be right.
        reason: String,
    },

    /// A file of perturbations is malformed, or names something that does not exist.
    #[error("{}:{line}:{column}: {reason}", path.display())]
    PerturbationSpec {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong, and what would be right.
        reason: String,
    },

    /// A perturbation cannot be what it is asked to be, or not on this clip.
    #[error("{0}")]
    Perturbation(String),

    /// Something of a recorded drive is missing, contradicts itself, or does not reach the time that was asked for.
    #[error("clip {clip}, {feature}{}: {reason}", at_time(*.time_us))]
    Recording {
        /// The dataset's clip id, or the recording's name.
        clip: String,
        /// The dataset's feature (`egomotion`, `camera_front_wide_120fov` …), or the file.
        feature: String,
        /// The time that was asked for, microseconds on the recording's clock, where there is one.
        time_us: Option<i64>,
        /// What is wrong, and what would be right.
        reason: String,
    },

    /// A table, an archive or a video cannot be read, or lacks something.
    #[error("{}: {field}: {reason}", path.display())]
    DataFile {
        /// The file.
        path: PathBuf,
        /// The column, line, archive member or stream.
        field: String,
        /// What is wrong.
        reason: String,
    },

    /// A command that video needs cannot be run.
    #[error(
        "cannot run `{program}`: {reason}; video needs the commands ffmpeg and ffprobe on the PATH: install them with \
         `apt install ffmpeg`, `brew install ffmpeg` or `winget install ffmpeg`"
    )]
    Ffmpeg {
        /// The command.
        program: String,
        /// Why it cannot be run.
        reason: String,
    },
}

/// A time for a message, in seconds.
fn at_time(time_us: Option<i64>) -> String {
    time_us.map_or_else(String::new, |time| format!(", at {:.6} s", time as f64 / 1e6))
}

impl Error {
    /// [`Error::Io`] for `path`, to be used in `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

/// [`Error::Length`] unless `found` is `expected`.
pub(crate) fn check_length(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Length {
        what,
        expected: expected.to_string(),
        found,
    })
}
