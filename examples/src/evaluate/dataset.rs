//! Which clips of NVIDIA's dataset are evaluated.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alpamayo_core::dataset::{Dataset, Future, SampleOptions};
use clap::Args;

use super::clips::ClipItem;
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
        let options = SampleOptions {
            future: Future::IfRecorded,
            ..SampleOptions::default()
        };
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

fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}
