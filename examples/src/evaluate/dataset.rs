//! Which clips of NVIDIA's dataset are evaluated.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alpamayo_core::dataset::{Dataset, Future, SampleOptions, camera_index};
use clap::Args;

use super::clips::ClipItem;
use super::record::Options;
use crate::error::{Error, Result};

/// Which clips of a local copy of PhysicalAI-Autonomous-Vehicles.
#[derive(Clone, Debug, Default, Args)]
pub struct DatasetArguments {
    /// Directory of a local copy of PhysicalAI-Autonomous-Vehicles
    #[arg(long, value_name = "DIR")]
    pub dataset: Option<PathBuf>,
    /// Id of one of its clips; repeatable [default: every valid clip]
    #[arg(long = "id", requires = "dataset", value_name = "ID")]
    pub ids: Vec<String>,
    /// Text file with an id per line
    #[arg(long, requires = "dataset", value_name = "FILE")]
    pub ids_from: Option<PathBuf>,
    /// Only clips of this split: train, val, test
    #[arg(long, requires = "dataset")]
    pub split: Option<String>,
    /// Time of the plan in seconds on the clip's clock; repeatable [default: the reference's 5.1]
    #[arg(long, requires = "dataset", value_name = "SECONDS")]
    pub t0: Vec<f64>,
    /// Cameras by name or number, as front_wide,front_tele [default: cross_left,front_wide,cross_right,front_tele]
    #[arg(long, requires = "dataset", value_name = "NAME", value_delimiter = ',', value_parser = parse_camera)]
    pub cameras: Vec<usize>,
    /// Frames of each camera, 0.1 s apart [default: 4]
    #[arg(long, requires = "dataset", value_name = "COUNT", value_parser = parse_frames)]
    pub frames: Option<usize>,
}

impl DatasetArguments {
    /// The clips; none without a dataset. A clip whose recording ends before t0 + 6.4 s has no known future.
    ///
    /// # Errors
    /// Where the dataset or the file of ids cannot be read, an id is not in the index, or no clip is left.
    pub fn items(&self) -> Result<Vec<ClipItem>> {
        let Some(root) = &self.dataset else {
            return Ok(Vec::new());
        };
        let dataset = Arc::new(Dataset::open(root)?);
        let ids = self.clip_ids(&dataset)?;
        let options = self.sample_options();
        let default = [5.1];
        let times = if self.t0.is_empty() { &default[..] } else { &self.t0 };
        let times: Vec<i64> = times.iter().map(|seconds| (seconds * 1e6).round() as i64).collect();
        let item = |id: &String, t0_us: &i64| ClipItem::dataset(&dataset, id, *t0_us, &options);
        let items: Vec<ClipItem> = ids
            .iter()
            .flat_map(|id| times.iter().map(move |t0_us| item(id, t0_us)))
            .collect();
        if items.is_empty() {
            let reason = match &self.split {
                Some(split) => format!("none of the clips is valid and in split `{split}`"),
                None => "none of the clips is valid".to_owned(),
            };
            return Err(Error::NoClips {
                pattern: root.display().to_string(),
                reason,
            });
        }
        Ok(items)
    }

    /// What is taken of each clip.
    pub fn sample_options(&self) -> SampleOptions {
        let default = SampleOptions::default();
        let mut cameras = if self.cameras.is_empty() {
            default.cameras
        } else {
            self.cameras.clone()
        };
        // The model gets them in this order, in whichever they are given.
        cameras.sort_unstable();
        cameras.dedup();
        SampleOptions {
            cameras,
            frames_per_camera: self.frames.unwrap_or(default.frames_per_camera),
            future: Future::IfRecorded,
        }
    }

    /// Notes in a run's options what is taken of each clip; nothing without a dataset, where clips bring their own.
    pub fn note(&self, options: &mut Options) {
        if self.dataset.is_some() {
            let taken = self.sample_options();
            options.cameras = Some(taken.cameras);
            options.frames = Some(taken.frames_per_camera);
        }
    }

    fn clip_ids(&self, dataset: &Dataset) -> Result<Vec<String>> {
        let mut ids = self.ids.clone();
        if let Some(path) = &self.ids_from {
            ids.extend(lines(path)?);
        }
        let in_split = |split: &Option<String>| self.split.is_none() || *split == self.split;
        if ids.is_empty() && self.ids_from.is_none() {
            let valid = dataset
                .clips()
                .iter()
                .filter(|entry| entry.is_valid && in_split(&entry.split));
            return Ok(valid.map(|entry| entry.clip_id.clone()).collect());
        }
        let mut kept = Vec::new();
        for id in ids {
            if in_split(&dataset.entry(&id)?.split) {
                kept.push(id);
            }
        }
        Ok(kept)
    }
}

fn parse_camera(text: &str) -> Result<usize, String> {
    let known = "cross_left, front_wide, cross_right, rear_left, rear_tele, rear_right and front_tele";
    camera_index(text).ok_or_else(|| format!("there is no camera `{text}`; there are {known}"))
}

fn parse_frames(text: &str) -> Result<usize, String> {
    let frames = text.parse::<usize>().ok().filter(|frames| *frames > 0);
    frames.ok_or_else(|| format!("`{text}` is no number of frames; give 1 or more"))
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{ModelArguments, SamplingArguments};

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        dataset: DatasetArguments,
        #[command(flatten)]
        model: ModelArguments,
        #[command(flatten)]
        sampling: SamplingArguments,
    }

    fn parse(words: &[&str]) -> std::result::Result<Arguments, String> {
        let words = ["test"].iter().chain(words);
        Arguments::try_parse_from(words).map_err(|error| error.to_string())
    }

    fn noted(words: &[&str]) -> serde_json::Value {
        let arguments = parse(words).unwrap();
        let mut options = Options::new(&arguments.model, &arguments.sampling).unwrap();
        arguments.dataset.note(&mut options);
        serde_json::to_value(&options).unwrap()
    }

    #[test]
    fn cameras_and_frames_are_part_of_the_options() {
        let plain = noted(&["--dataset", "somewhere"]);
        assert_eq!((&plain["cameras"], &plain["frames"]), (&json!([0, 1, 2, 6]), &json!(4)));
        let words = [
            "--dataset",
            "somewhere",
            "--cameras",
            "front_tele,1,front-wide",
            "--frames",
            "2",
        ];
        let chosen = noted(&words);
        assert_eq!((&chosen["cameras"], &chosen["frames"]), (&json!([1, 6]), &json!(2)));
        let taken = parse(&words).unwrap().dataset.sample_options();
        assert_eq!(
            (taken.cameras, taken.frames_per_camera, taken.future),
            (vec![1, 6], 2, Future::IfRecorded)
        );
        let folders = noted(&[]);
        assert!(folders["cameras"].is_null() && folders["frames"].is_null());
    }

    #[test]
    fn what_is_no_camera_and_no_number_of_frames_is_told() {
        for (words, told) in [
            (["--dataset", "d", "--cameras", "front"], "there is no camera `front`"),
            (["--dataset", "d", "--frames", "0"], "give 1 or more"),
        ] {
            let error = parse(&words).err().unwrap();
            assert!(error.contains(told), "{error}");
        }
        assert!(parse(&["--cameras", "1"]).err().unwrap().contains("--dataset"));
    }
}
