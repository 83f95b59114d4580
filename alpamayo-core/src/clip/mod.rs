//! Clips: what a car saw and where it came from, and, if known, where it went.
//!
//! On disk a clip is a folder with `clip.json` and one image per camera and frame, `cam{index}_f{k}.png` (or `.jpg`), oldest
//! first. [`Clip::read`] and [`Clip::write`] move it; [`Clip::validate`] checks it wherever it came from.

mod document;
mod read;
mod validate;
mod write;

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{Error, Frame, Result};

/// Poses of the ego future: 6.4 s at 10 Hz, the first at t0 + 0.1 s.
pub const FUTURE_POSES: usize = 64;
/// Camera indices are below this (arXiv 2511.00088's rig has seven).
pub const MAX_CAMERAS: usize = 64;

/// One scene at one time t0.
///
/// Poses are in the ego frame at t0: x forward, y left, z up, metres; rotations are matrices `[row][column]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Clip {
    /// A short name; the folder's, where `clip.json` has none.
    pub name: String,
    /// What is to be seen, in words.
    pub description: Option<String>,
    /// Frames, camera after camera in the order of `camera_indices`, each camera's oldest first and of one size.
    pub frames: Vec<Frame>,
    /// Indices of the cameras, ascending (0 cross-left, 1 front-wide, 2 cross-right, 6 front-tele …).
    pub camera_indices: Vec<usize>,
    /// Frames of each camera; the last one is at t0.
    pub frames_per_camera: usize,
    /// Positions of the last 1.6 s, `[16][x, y, z]`; the last one is the origin.
    pub ego_history_xyz: Vec<[f32; 3]>,
    /// Rotations of the last 1.6 s; the last one is the identity.
    pub ego_history_rot: Vec<[[f32; 3]; 3]>,
    /// Positions of the next 6.4 s, `[64][x, y, z]`, where they are known.
    pub ego_future_xyz: Option<Vec<[f32; 3]>>,
    /// Rotations of the next 6.4 s, where they are known.
    pub ego_future_rot: Option<Vec<[[f32; 3]; 3]>>,
    /// The time of the plan, µs on the recording's clock.
    pub t0_us: Option<i64>,
    /// Times of each camera's frames, µs.
    pub frame_timestamps_us: Option<Vec<i64>>,
    /// Times of the history's poses, µs.
    pub history_timestamps_us: Option<Vec<i64>>,
    /// Times of the future's poses, µs.
    pub future_timestamps_us: Option<Vec<i64>>,
    /// The chain of causation that a person wrote, where there is one.
    pub coc: Option<String>,
    /// Fields of `clip.json` that mean nothing to the model (`camera_rig` …), kept on a round trip.
    pub extra: Map<String, Value>,
}

impl Clip {
    /// The frames of the camera at `position` in `camera_indices`, oldest first; none where there is no such camera.
    pub fn camera_frames(&self, position: usize) -> &[Frame] {
        let frames = self.frames.chunks_exact(self.frames_per_camera.max(1)).nth(position);
        frames.unwrap_or(&[])
    }

    /// The frame at t0 of the camera with that index.
    pub fn latest_frame(&self, camera_index: usize) -> Option<&Frame> {
        let position = self.camera_indices.iter().position(|&index| index == camera_index)?;
        self.camera_frames(position).last()
    }

    fn error(&self, field: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Clip {
            path: PathBuf::from(&self.name),
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// The file name of a camera's frame, without its extension.
fn frame_stem(camera_index: usize, frame: usize) -> String {
    format!("cam{camera_index}_f{frame}")
}

fn at(path: PathBuf, result: Result<()>) -> Result<()> {
    result.map_err(|error| match error {
        Error::Clip { field, reason, .. } => Error::Clip { path, field, reason },
        other => other,
    })
}

#[cfg(test)]
mod tests;
