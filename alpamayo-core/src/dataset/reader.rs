//! A local copy of PhysicalAI-Autonomous-Vehicles.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::archive::read_member;
use super::calibration::{self, Rows};
use super::camera::{CAMERA_FEATURES, FrameTimes};
use super::egomotion::Egomotion;
use super::features::Features;
use super::ffmpeg::Ffmpeg;
use super::index::{ClipEntry, ClipIndex, clip_ids};
use super::sample::{SampleOptions, Sampled, View, sample_poses};
use super::source::{Source, at, seconds};
use super::table::Table;
use super::video::Video;
use crate::{Clip, Frame, Result};

/// t0 must be later than this, as in the reference.
pub const EARLIEST_T0_US: i64 = 1_600_000;

/// A directory with (part of) `nvidia/PhysicalAI-Autonomous-Vehicles`: `features.csv`, `clip_index.parquet` and the
/// chunks of the features that were downloaded. Nothing is unpacked.
#[derive(Debug)]
pub struct Dataset {
    root: PathBuf,
    features: Features,
    index: ClipIndex,
    ffmpeg: Option<Ffmpeg>,
}

impl Dataset {
    /// Opens a dataset's directory.
    ///
    /// # Errors
    /// [`Error::Ffmpeg`](crate::Error::Ffmpeg) without the ffmpeg command; [`Error::Io`](crate::Error::Io) and
    /// [`Error::DataFile`](crate::Error::DataFile) where `features.csv` or `clip_index.parquet` cannot be read.
    pub fn open(root: &Path) -> Result<Self> {
        let ffmpeg = Ffmpeg::find()?;
        let dataset = Self::open_without_video(root)?;
        Ok(Self {
            ffmpeg: Some(ffmpeg),
            ..dataset
        })
    }

    /// Opens a dataset's directory for everything but frames; needs no ffmpeg.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_without_video(root: &Path) -> Result<Self> {
        Ok(Self {
            root: root.to_path_buf(),
            features: Features::read(root)?,
            index: ClipIndex::read(root)?,
            ffmpeg: None,
        })
    }

    /// Every clip that the index lists, whether its files are there or not.
    pub fn clips(&self) -> &[ClipEntry] {
        self.index.clips()
    }

    /// The clip of that id.
    ///
    /// # Errors
    /// [`Error::DataFile`](crate::Error::DataFile) where the index does not list it.
    pub fn entry(&self, clip_id: &str) -> Result<&ClipEntry> {
        self.index.get(clip_id)
    }

    /// The features that `features.csv` lists.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether the dataset has a feature for a clip, here or elsewhere; `None` where its metadata don't say.
    ///
    /// # Errors
    /// [`Error::DataFile`](crate::Error::DataFile) where the metadata cannot be read.
    pub fn has_feature(&self, clip_id: &str, feature: &str) -> Result<Option<bool>> {
        let metadata = self.root.join("metadata");
        let names = ["feature_presence.parquet", "sensor_presence.parquet"];
        let Some(path) = names
            .map(|name| metadata.join(name))
            .into_iter()
            .find(|path| path.is_file())
        else {
            return Ok(None);
        };
        let table = Table::open(&path)?;
        let row = clip_ids(&table, &path)?.iter().position(|id| id == clip_id);
        match row {
            Some(row) if table.has(feature) => Ok(table.booleans(feature)?.get(row).copied()),
            _ => Ok(None),
        }
    }

    /// How the car moved.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) with the clip and the feature.
    pub fn egomotion(&self, clip_id: &str) -> Result<Egomotion> {
        let source = Source::new(clip_id, "egomotion");
        let table = self.member_table(&source, "egomotion")?;
        Egomotion::from_table(source, &table)
    }

    /// When a camera's frames were taken.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) with the clip and the camera.
    pub fn frame_times(&self, clip_id: &str, camera: usize) -> Result<FrameTimes> {
        let source = camera_source(clip_id, camera)?;
        let table = self.member_table(&source, "frame_timestamps")?;
        let times = source.wrap(None, table.integers("timestamp"))?;
        FrameTimes::new(source, times)
    }

    /// The clip at t0 (microseconds on the clip's clock): frames, history and future as the reference samples them.
    ///
    /// Besides the model's inputs, [`Clip::extra`] holds `split`, the frames' own times
    /// (`camera_frame_timestamps_us`) and, where the calibration was downloaded and knows the clip, `camera_intrinsics`,
    /// `sensor_extrinsics` (by camera index) and `vehicle_dimensions`.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) with clip, feature and time where the index does not list the clip, or
    /// a file is missing, lies, or does not reach t0; [`Error::Ffmpeg`](crate::Error::Ffmpeg).
    pub fn clip(&self, clip_id: &str, t0_us: i64, options: &SampleOptions) -> Result<Clip> {
        at(t0_us, self.sample(clip_id, t0_us, options))
    }

    fn sample(&self, clip_id: &str, t0_us: i64, options: &SampleOptions) -> Result<Clip> {
        let entry = Source::new(clip_id, "clip index").wrap(None, self.entry(clip_id))?;
        if t0_us <= EARLIEST_T0_US {
            let reason = format!("t0 must be later than {}", seconds(EARLIEST_T0_US));
            return Err(Source::new(clip_id, "t0").error(t0_us, reason));
        }
        let poses = sample_poses(self.egomotion(clip_id)?.poses(), t0_us, options.future)?;
        let cameras = options.ascending_cameras();
        let frames_us = options.frame_times(clip_id, t0_us)?;
        let views = cameras.par_iter().map(|&camera| self.view(clip_id, camera, &frames_us));
        let views = views.collect::<Result<_>>()?;
        let mut extra = self.calibration(clip_id, &cameras)?;
        extra.insert("split".into(), json!(entry.split));
        let sampled = Sampled {
            cameras,
            frames_us,
            views,
            poses,
            extra,
        };
        sampled.into_clip(clip_id, t0_us)
    }

    /// A camera's latest frame at or before each time.
    fn view(&self, clip_id: &str, camera: usize, times_us: &[i64]) -> Result<View> {
        let source = camera_source(clip_id, camera)?;
        let frame_times = self.frame_times(clip_id, camera)?;
        let indices: Vec<usize> = times_us
            .iter()
            .map(|&time| frame_times.latest_at(time))
            .collect::<Result<_>>()?;
        let t0_us = times_us.last().copied();
        let ffmpeg = self
            .ffmpeg
            .as_ref()
            .ok_or_else(|| source.error(t0_us, "the dataset was opened without video"))?;
        let (path, member) = self.locate(&source, "video")?;
        let rows = frame_times.times_us().len();
        let decode = || -> Result<Vec<Frame>, String> {
            let video = Video::open_member(ffmpeg, &path, &member).map_err(|error| error.to_string())?;
            // Row n of the timestamps is frame n: with another number of frames it may be any frame.
            if video.frame_count() != rows {
                let count = video.frame_count();
                return Err(format!(
                    "the video has {count} frames; there must be one per timestamp, is it complete?"
                ));
            }
            video.frames(&indices).map_err(|error| error.to_string())
        };
        let frames = decode().map_err(|reason| {
            let reason = format!("{member} of {}, {rows} timestamps: {reason}", path.display());
            source.error(t0_us, reason)
        })?;
        Ok(View {
            times_us: indices.iter().map(|&index| frame_times.times_us()[index]).collect(),
            frames,
        })
    }

    /// The calibration's rows of the cameras, as far as it was downloaded and has some.
    fn calibration(&self, clip_id: &str, cameras: &[usize]) -> Result<Map<String, Value>> {
        let names: Vec<(usize, &str)> = cameras
            .iter()
            .map(|&camera| (camera, CAMERA_FEATURES[camera]))
            .collect();
        let mut extra = Map::new();
        for feature in ["camera_intrinsics", "sensor_extrinsics"] {
            if let Some(rows) = self.calibration_rows(clip_id, feature)? {
                extra.insert(feature.into(), calibration::by_camera(&rows, &names));
            }
        }
        if let Some(rows) = self.calibration_rows(clip_id, "vehicle_dimensions")? {
            extra.insert("vehicle_dimensions".into(), json!(rows.values().next()));
        }
        Ok(extra)
    }

    fn calibration_rows(&self, clip_id: &str, feature: &str) -> Result<Option<Rows>> {
        let Ok(listed) = self.features.get(feature) else {
            return Ok(None);
        };
        let path = self.root.join(listed.chunk_path(self.entry(clip_id)?.chunk));
        if !path.is_file() {
            return Ok(None);
        }
        Source::new(clip_id, feature).wrap(None, calibration::rows(&path, clip_id))
    }

    /// A Parquet table in a chunk's zip.
    fn member_table(&self, source: &Source, alias: &str) -> Result<Table> {
        let (path, member) = self.locate(source, alias)?;
        let bytes = source.wrap(None, read_member(&path, &member))?;
        source.wrap(None, Table::from_bytes(path.join(member), bytes))
    }

    /// The zip file and the member in it that `features.csv` gives for a clip's feature.
    fn locate(&self, source: &Source, alias: &str) -> Result<(PathBuf, String)> {
        let feature = source.wrap(None, self.features.get(&source.feature))?;
        let chunk = self.entry(&source.clip)?.chunk;
        let Some(member) = feature.member(alias, &source.clip) else {
            let aliases = feature.aliases().collect::<Vec<_>>().join(", ");
            return Err(source.error(None, format!("features.csv lists no `{alias}` for it, only: {aliases}")));
        };
        let relative = feature.chunk_path(chunk);
        let path = self.root.join(&relative);
        if path.is_file() {
            return Ok((path, member));
        }
        let reason = match self.has_feature(&source.clip, &source.feature) {
            Ok(Some(false)) => "the dataset has no such feature for this clip, as its metadata say".into(),
            _ => format!(
                "{} is not there; download it into {}",
                relative.display(),
                self.root.display()
            ),
        };
        Err(source.error(None, reason))
    }
}

fn camera_source(clip_id: &str, camera: usize) -> Result<Source> {
    match CAMERA_FEATURES.get(camera) {
        Some(feature) => Ok(Source::new(clip_id, *feature)),
        None => {
            let reason = format!("there is no such camera; they are 0 to {}", CAMERA_FEATURES.len() - 1);
            Err(Source::new(clip_id, format!("camera {camera}")).error(None, reason))
        }
    }
}
