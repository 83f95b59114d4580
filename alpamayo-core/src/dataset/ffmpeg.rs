//! The commands ffmpeg and ffprobe.

use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// ffmpeg and ffprobe, found and asked for their version.
#[derive(Debug, Clone)]
pub struct Ffmpeg {
    /// Whether the version knows `-fps_mode` (5.1 and later) in the place of `-vsync`.
    has_fps_mode: bool,
}

impl Ffmpeg {
    /// Finds both commands on the `PATH`.
    ///
    /// # Errors
    /// [`Error::Ffmpeg`] with how to install them.
    pub fn find() -> Result<Self> {
        version("ffprobe")?;
        let has_fps_mode = has_fps_mode(&version("ffmpeg")?);
        Ok(Self { has_fps_mode })
    }

    /// The option that hands on every frame once, whatever its time.
    pub(super) fn every_frame_once(&self) -> [&'static str; 2] {
        [if self.has_fps_mode { "-fps_mode" } else { "-vsync" }, "passthrough"]
    }
}

/// What a command wrote.
pub(super) struct Output {
    pub(super) stdout: Vec<u8>,
    /// The last line of its complaints, if any.
    pub(super) complaint: Option<String>,
    pub(super) success: bool,
}

/// Runs a command to its end.
pub(super) fn run(program: &str, arguments: impl IntoIterator<Item = OsString>) -> Result<Output> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|cause| Error::Ffmpeg {
        program: program.into(),
        reason: cause.to_string(),
    })?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let complaint = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
    Ok(Output {
        complaint: complaint.map(str::to_owned),
        stdout: output.stdout,
        success: output.status.success(),
    })
}

/// A path that ffmpeg takes for nothing but a file.
pub(super) fn file(path: &Path) -> OsString {
    let mut file = OsString::from("file:");
    file.push(path);
    file
}

/// Some bytes of a file, for ffmpeg a file of their own.
pub(super) fn part_of_file(path: &Path, bytes: &Range<u64>) -> OsString {
    let mut part = OsString::from(format!("subfile,,start,{},end,{},,:", bytes.start, bytes.end));
    part.push(file(path));
    part
}

fn version(program: &str) -> Result<String> {
    let output = run(program, ["-version".into()])?;
    if !output.success {
        return Err(Error::Ffmpeg {
            program: program.into(),
            reason: output.complaint.unwrap_or_else(|| "it fails".into()),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `ffmpeg -version` speaks of 5.1 or later; builds between releases have no such number and are taken for new.
fn has_fps_mode(version: &str) -> bool {
    let word = version.split_whitespace().nth(2).unwrap_or_default();
    let mut numbers = word.trim_start_matches('n').split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 1),
        (Some(Ok(major)), _) => major > 5,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for old in ["4.4.2-0ubuntu0.22.04.1", "4.3.6", "5.0", "n5.0.1"] {
            assert!(!has_fps_mode(&format!("ffmpeg version {old} Copyright (c)")), "{old}");
        }
        for new in [
            "5.1.9-0+deb12u1",
            "n7.1",
            "8.0-essentials_build",
            "N-118000-g1234567",
            "6.0",
        ] {
            assert!(has_fps_mode(&format!("ffmpeg version {new} Copyright (c)")), "{new}");
        }
    }

    #[test]
    fn a_missing_command_comes_with_a_hint() {
        let error = version("alpamayo-has-no-such-command").unwrap_err().to_string();
        assert!(error.contains("apt install ffmpeg"), "{error}");
    }
}
