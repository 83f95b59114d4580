//! One's own drive: a video per camera and a table of timed poses.

mod geodetic;
mod pose_log;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Map;

pub use pose_log::PoseLog;

use super::camera::{CAMERA_FEATURES, FrameTimes};
use super::ffmpeg::Ffmpeg;
use super::poses::PoseTrack;
use super::sample::{SampleOptions, Sampled, SampledPoses, View, sample_poses};
use super::source::{Source, at, seconds};
use super::video::Video;
use crate::{Clip, Result};

/// Longest time between two poses, microseconds; what lies between is a guess beyond it.
const LONGEST_GAP_US: i64 = 2_000_000;

/// A camera of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingCamera {
    /// The index of the camera whose place it takes in the model's rig: 1, front-wide, for a dashcam.
    pub index: usize,
    /// Its video.
    pub video: PathBuf,
    /// When its first frame was taken, microseconds on the poses' clock.
    pub start_us: i64,
}

/// One's own drive.
#[derive(Debug)]
pub struct Recording {
    name: String,
    poses: PoseLog,
    poses_file: String,
    cameras: Vec<(usize, Video, FrameTimes)>,
}

impl Recording {
    /// Opens videos and the table of poses (see [`PoseLog::read`] for its columns).
    ///
    /// # Errors
    /// [`Error::Ffmpeg`](crate::Error::Ffmpeg) without the ffmpeg command,
    /// [`Error::Recording`](crate::Error::Recording) where a camera is there twice or a video cannot be read,
    /// [`Error::DataFile`](crate::Error::DataFile) where the table cannot.
    pub fn open(name: &str, cameras: &[RecordingCamera], poses: &Path) -> Result<Self> {
        let ffmpeg = Ffmpeg::find()?;
        let log = PoseLog::read(poses)?;
        let mut opened: Vec<(usize, Video, FrameTimes)> = Vec::new();
        for camera in cameras {
            let source = Source::new(name, camera.video.display().to_string());
            let twice = opened.iter().any(|(index, ..)| *index == camera.index);
            if twice || camera.index >= CAMERA_FEATURES.len() {
                let reason = format!(
                    "camera {}: indices are 0 to {}, each at most once",
                    camera.index,
                    CAMERA_FEATURES.len() - 1
                );
                return Err(source.error(None, reason));
            }
            let video = source.wrap(None, Video::open(&ffmpeg, &camera.video))?;
            let times = video
                .times_us()
                .into_iter()
                .map(|time| time.saturating_add(camera.start_us));
            let times = FrameTimes::new(source, times.collect())?;
            opened.push((camera.index, video, times));
        }
        opened.sort_by_key(|(index, ..)| *index);
        Ok(Self {
            name: name.to_owned(),
            poses: log,
            poses_file: poses.display().to_string(),
            cameras: opened,
        })
    }

    /// The indices of its cameras, ascending.
    pub fn cameras(&self) -> Vec<usize> {
        self.cameras.iter().map(|(index, ..)| *index).collect()
    }

    /// The first and the last t0 for which there are poses and frames as `options` ask for, microseconds; the first
    /// is later than the last where there is none.
    pub fn t0_range_us(&self, options: &SampleOptions) -> (i64, i64) {
        let (mut first, mut last) = self.poses.range_us();
        let (before, after) = options.reach_us();
        (first, last) = (first.saturating_add(before.0), last.saturating_sub(after));
        for (.., times) in self
            .cameras
            .iter()
            .filter(|(index, ..)| options.cameras.contains(index))
        {
            let times = times.times_us();
            first = first.max(times[0].saturating_add(before.1));
            last = last.min(times[times.len() - 1]);
        }
        (first, last)
    }

    /// The clip at t0, microseconds on the poses' clock: the latest frame of each camera at or before each time, and
    /// poses around t0. Of `options.cameras`, all must be among [`Recording::cameras`].
    ///
    /// [`Clip::extra`] holds the frames' own times (`camera_frame_timestamps_us`).
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording), with the time, where videos or poses do not reach t0, or poses are
    /// more than 2 s apart around it.
    pub fn clip(&self, t0_us: i64, options: &SampleOptions) -> Result<Clip> {
        at(t0_us, self.sample(t0_us, options))
    }

    fn sample(&self, t0_us: i64, options: &SampleOptions) -> Result<Clip> {
        let source = Source::new(self.name.as_str(), self.poses_file.as_str());
        let track = self.poses.track(&source, t0_us)?;
        let poses = sample_poses(&track, t0_us, options.future)?;
        check_gaps(&source, &track, &poses)?;
        let cameras = options.ascending_cameras();
        let frames_us = options.frame_times(&self.name, t0_us)?;
        let views = cameras.par_iter().map(|&camera| self.view(camera, t0_us, &frames_us));
        let views = views.collect::<Result<_>>()?;
        let sampled = Sampled {
            cameras,
            frames_us,
            views,
            poses,
            extra: Map::new(),
        };
        sampled.into_clip(&self.name, t0_us)
    }

    /// A camera's latest frame at or before each time.
    fn view(&self, camera: usize, t0_us: i64, times_us: &[i64]) -> Result<View> {
        let Some((_, video, times)) = self.cameras.iter().find(|(index, ..)| *index == camera) else {
            let source = Source::new(self.name.as_str(), format!("camera {camera}"));
            return Err(source.error(t0_us, format!("the recording has the cameras {:?}", self.cameras())));
        };
        let indices: Vec<usize> = times_us
            .iter()
            .map(|&time| times.latest_at(time))
            .collect::<Result<_>>()?;
        let source = Source::new(self.name.as_str(), CAMERA_FEATURES[camera]);
        Ok(View {
            frames: source.wrap(t0_us, video.frames(&indices))?,
            times_us: indices.iter().map(|&index| times.times_us()[index]).collect(),
        })
    }
}

fn check_gaps(source: &Source, track: &PoseTrack, poses: &SampledPoses) -> Result<()> {
    let future = poses.future.iter().flat_map(|(times, _)| times);
    for &time in poses.history_us.iter().chain(future) {
        if let Some((before, after)) = track.neighbours(time)
            && after - before > LONGEST_GAP_US
        {
            let reason = format!(
                "there is no pose from {} to {}; at most {} may lie between two",
                seconds(before),
                seconds(after),
                seconds(LONGEST_GAP_US)
            );
            return Err(source.error(time, reason));
        }
    }
    Ok(())
}
