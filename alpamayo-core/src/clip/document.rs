//! `clip.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Clip;
use crate::{Error, Result};

/// The fields of `clip.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Document {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) t0_us: Option<i64>,
    pub(super) camera_indices: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) frame_timestamps_us: Option<Vec<i64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) history_timestamps_us: Option<Vec<i64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) future_timestamps_us: Option<Vec<i64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) coc: Option<String>,
    pub(super) ego_history_xyz: Vec<[f32; 3]>,
    pub(super) ego_history_rot: Vec<[[f32; 3]; 3]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ego_future_xyz: Option<Vec<[f32; 3]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ego_future_rot: Option<Vec<[[f32; 3]; 3]>>,
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}

impl Document {
    /// Parses the text of the file `path`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self> {
        serde_json::from_str(text).map_err(|source| match wrong_field(text) {
            Some((field, reason)) => Error::Clip {
                path: path.to_path_buf(),
                field,
                reason,
            },
            None => Error::Json {
                path: path.to_path_buf(),
                source,
            },
        })
    }

    pub(super) fn of(clip: &Clip) -> Self {
        let clip = clip.clone();
        Self {
            name: Some(clip.name),
            description: clip.description,
            t0_us: clip.t0_us,
            camera_indices: clip.camera_indices,
            frame_timestamps_us: clip.frame_timestamps_us,
            history_timestamps_us: clip.history_timestamps_us,
            future_timestamps_us: clip.future_timestamps_us,
            coc: clip.coc,
            ego_history_xyz: clip.ego_history_xyz,
            ego_history_rot: clip.ego_history_rot,
            ego_future_xyz: clip.ego_future_xyz,
            ego_future_rot: clip.ego_future_rot,
            extra: clip.extra,
        }
    }

    pub(super) fn into_clip(self, folder: String) -> Clip {
        Clip {
            name: self.name.unwrap_or(folder),
            description: self.description,
            frames: Vec::new(),
            camera_indices: self.camera_indices,
            frames_per_camera: 0,
            ego_history_xyz: self.ego_history_xyz,
            ego_history_rot: self.ego_history_rot,
            ego_future_xyz: self.ego_future_xyz,
            ego_future_rot: self.ego_future_rot,
            t0_us: self.t0_us,
            frame_timestamps_us: self.frame_timestamps_us,
            history_timestamps_us: self.history_timestamps_us,
            future_timestamps_us: self.future_timestamps_us,
            coc: self.coc,
            extra: self.extra,
        }
    }
}

/// The first field whose value has the wrong type, and what is wrong with it: tried one by one beside empty others.
fn wrong_field(text: &str) -> Option<(String, String)> {
    let fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    fields.into_iter().find_map(|(field, value)| {
        let mut alone = json!({"camera_indices": [], "ego_history_xyz": [], "ego_history_rot": []});
        alone[&field] = value;
        let error = serde_json::from_str::<Document>(&alone.to_string()).err()?;
        Some((field, error.to_string()))
    })
}
