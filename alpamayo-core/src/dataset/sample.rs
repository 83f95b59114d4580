//! What is taken from a recording at one time.

use serde_json::{Map, Value, json};

use super::camera::DEFAULT_CAMERAS;
use super::poses::{LocalPoses, PoseTrack};
use super::source::Source;
use crate::clip::FUTURE_POSES;
use crate::{Clip, Error, Frame, HISTORY_POSES, Result};

/// Time between poses, and between a camera's frames, microseconds.
pub const INTERVAL_US: i64 = 100_000;
/// Most frames of one camera.
const MAX_FRAMES: usize = 1000;

/// What is taken from a recording at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleOptions {
    /// Indices of the cameras.
    pub cameras: Vec<usize>,
    /// Frames of each camera, 0.1 s apart, the last one at t0.
    pub frames_per_camera: usize,
    /// Where the car went after t0.
    pub future: Future,
}

/// Whether a clip has the 6.4 s after t0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Future {
    /// A recording that ends before is refused.
    Required,
    /// It does where the recording is long enough.
    IfRecorded,
    /// It does not.
    Without,
}

impl Default for SampleOptions {
    /// What Alpamayo-R1 was trained on (arXiv 2511.00088): four cameras, four frames of each; with the future.
    fn default() -> Self {
        Self {
            cameras: DEFAULT_CAMERAS.to_vec(),
            frames_per_camera: 4,
            future: Future::Required,
        }
    }
}

impl SampleOptions {
    /// The cameras in the order in which the model gets them, each once.
    pub(super) fn ascending_cameras(&self) -> Vec<usize> {
        let mut cameras = self.cameras.clone();
        cameras.sort_unstable();
        cameras.dedup();
        cameras
    }

    /// How far poses and frames reach back from t0, and how far poses must reach beyond it, microseconds.
    pub(super) fn reach_us(&self) -> ((i64, i64), i64) {
        let back = |count: usize| INTERVAL_US.saturating_mul(count.saturating_sub(1).min(MAX_FRAMES) as i64);
        let ahead = match self.future {
            Future::Required => INTERVAL_US * FUTURE_POSES as i64,
            Future::IfRecorded | Future::Without => 0,
        };
        ((back(HISTORY_POSES), back(self.frames_per_camera)), ahead)
    }

    /// Times of each camera's frames, microseconds.
    pub(super) fn frame_times(&self, clip: &str, t0_us: i64) -> Result<Vec<i64>> {
        if !(1..=MAX_FRAMES).contains(&self.frames_per_camera) {
            let reason = format!("{}; it must be 1 to {MAX_FRAMES}", self.frames_per_camera);
            return Err(Source::new(clip, "frames per camera").error(t0_us, reason));
        }
        Ok(steps_until(t0_us, self.frames_per_camera))
    }
}

/// Poses before and after t0, in the vehicle's frame at t0.
pub(super) struct SampledPoses {
    pub(super) history_us: Vec<i64>,
    pub(super) history: LocalPoses,
    pub(super) future: Option<(Vec<i64>, LocalPoses)>,
}

/// What one camera saw.
pub(super) struct View {
    pub(super) frames: Vec<Frame>,
    /// When they were taken, microseconds.
    pub(super) times_us: Vec<i64>,
}

/// Everything of a clip that is taken from a recording.
pub(super) struct Sampled {
    pub(super) cameras: Vec<usize>,
    /// The times that frames were asked for.
    pub(super) frames_us: Vec<i64>,
    /// As many as cameras.
    pub(super) views: Vec<View>,
    pub(super) poses: SampledPoses,
    /// Further fields.
    pub(super) extra: Map<String, Value>,
}

impl Sampled {
    /// The clip at t0, checked; the frames' own times go into its further fields.
    pub(super) fn into_clip(mut self, name: &str, t0_us: i64) -> Result<Clip> {
        let taken = self.cameras.iter().zip(&self.views);
        let taken = taken.map(|(camera, view)| (camera.to_string(), json!(view.times_us)));
        let taken = Value::Object(taken.collect());
        self.extra.insert("camera_frame_timestamps_us".into(), taken);
        let (future_us, future) = self.poses.future.unzip();
        let (ego_future_xyz, ego_future_rot) = future.map(|poses| (poses.xyz, poses.rot)).unzip();
        let clip = Clip {
            name: name.to_owned(),
            frames: self.views.into_iter().flat_map(|view| view.frames).collect(),
            camera_indices: self.cameras,
            frames_per_camera: self.frames_us.len(),
            ego_history_xyz: self.poses.history.xyz,
            ego_history_rot: self.poses.history.rot,
            ego_future_xyz,
            ego_future_rot,
            t0_us: Some(t0_us),
            frame_timestamps_us: Some(self.frames_us),
            history_timestamps_us: Some(self.poses.history_us),
            future_timestamps_us: future_us,
            extra: self.extra,
            ..Clip::default()
        };
        match clip.validate() {
            Ok(()) => Ok(clip),
            Err(Error::Clip { field, reason, .. }) => Err(Source::new(name, field).error(t0_us, reason)),
            Err(other) => Err(other),
        }
    }
}

/// 16 poses until t0 and 64 after it, 0.1 s apart.
pub(super) fn sample_poses(track: &PoseTrack, t0_us: i64, future: Future) -> Result<SampledPoses> {
    let history_us = history_times(t0_us);
    let history = track.seen_from(t0_us, &history_us)?;
    let future_us = future_times(t0_us);
    let recorded = future_us.last().is_some_and(|&end| end <= track.range_us().1);
    let future = match future {
        Future::Without => None,
        Future::IfRecorded if !recorded => None,
        Future::Required | Future::IfRecorded => Some(track.seen_from(t0_us, &future_us)?),
    };
    Ok(SampledPoses {
        history_us,
        history,
        future: future.map(|poses| (future_us, poses)),
    })
}

pub(super) fn history_times(t0_us: i64) -> Vec<i64> {
    steps_until(t0_us, HISTORY_POSES)
}

pub(super) fn future_times(t0_us: i64) -> Vec<i64> {
    (1..=FUTURE_POSES as i64)
        .map(|step| t0_us.saturating_add(step * INTERVAL_US))
        .collect()
}

/// `count` times, the last of them t0.
fn steps_until(t0_us: i64, count: usize) -> Vec<i64> {
    let back = |step: usize| i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(INTERVAL_US);
    (0..count).rev().map(|step| t0_us.saturating_sub(back(step))).collect()
}
