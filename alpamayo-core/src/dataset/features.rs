//! `features.csv`: which file holds which feature of which clip.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::{Error, Result};

/// One feature and where its files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name: `egomotion`, `camera_front_wide_120fov` ….
    pub name: String,
    /// The group it belongs to: `labels`, `camera`, `calibration` ….
    pub directory: String,
    chunk_path: String,
    members: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Row {
    feature: String,
    directory: String,
    chunk_path: String,
    #[serde(default)]
    clip_files_in_zip: String,
}

/// The features that the dataset's `features.csv` lists.
#[derive(Debug, Clone)]
pub struct Features {
    path: PathBuf,
    by_name: BTreeMap<String, Feature>,
}

impl Features {
    /// Reads `features.csv` in the dataset's directory.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join("features.csv");
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let mut by_name = BTreeMap::new();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        for (index, row) in reader.deserialize::<Row>().enumerate() {
            let error = |reason: String| Error::DataFile {
                path: path.clone(),
                field: format!("row {}", index + 1),
                reason,
            };
            let feature = row.map_err(|cause| cause.to_string()).and_then(Feature::from_row);
            let feature = feature.map_err(error)?;
            by_name.insert(feature.name.clone(), feature);
        }
        Ok(Self { path, by_name })
    }

    /// The feature of that name.
    ///
    /// # Errors
    /// [`Error::DataFile`] where `features.csv` does not list it.
    pub fn get(&self, name: &str) -> Result<&Feature> {
        self.by_name.get(name).ok_or_else(|| Error::DataFile {
            path: self.path.clone(),
            field: format!("feature `{name}`"),
            reason: format!(
                "it is not listed; there are {}",
                self.names().collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// The names of all features, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

impl Feature {
    fn from_row(row: Row) -> Result<Self, String> {
        let members = match row.clip_files_in_zip.trim() {
            "" => BTreeMap::new(),
            json => serde_json::from_str(json).map_err(|cause| format!("clip_files_in_zip: {cause}"))?,
        };
        let feature = Self {
            name: row.feature,
            directory: row.directory,
            chunk_path: row.chunk_path,
            members,
        };
        // So that what cannot be filled in is known at start.
        let path = fill(&feature.chunk_path, "chunk_id", |format| padded(0, format))?;
        let inside = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(&path).components().all(inside) {
            return Err(format!(
                "chunk_path: `{path}` does not lie inside of the dataset's directory"
            ));
        }
        for template in feature.members.values() {
            fill(template, "clip_id", |_| Some(String::new()))?;
        }
        Ok(feature)
    }

    /// The file that holds this feature for a chunk of clips, relative to the dataset's directory.
    pub fn chunk_path(&self, chunk: i64) -> PathBuf {
        PathBuf::from(fill(&self.chunk_path, "chunk_id", |format| padded(chunk, format)).unwrap_or_default())
    }

    /// The name of a clip's file in the chunk's zip; `None` where there is no file of that alias.
    pub fn member(&self, alias: &str, clip_id: &str) -> Option<String> {
        fill(self.members.get(alias)?, "clip_id", |_| Some(clip_id.to_owned())).ok()
    }

    /// The aliases of a clip's files in the chunk's zip; none where chunks are Parquet files.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }
}

/// Replaces `{name}` and `{name:format}` in a template.
fn fill(template: &str, name: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let unknown = || format!("`{template}`: only `{{{name}}}` can be filled in there");
        let (field, after) = after.split_once('}').ok_or_else(unknown)?;
        let (field, format) = field.split_once(':').unwrap_or((field, ""));
        if field != name {
            return Err(unknown());
        }
        filled += before;
        filled += &value(format).ok_or_else(unknown)?;
        rest = after;
    }
    Ok(filled + rest)
}

/// A number in one of Python's formats `d`, `5d`, `05d`, or none.
fn padded(number: i64, format: &str) -> Option<String> {
    let width = format.strip_suffix('d').unwrap_or(format);
    if width.is_empty() {
        return Some(number.to_string());
    }
    let count = width.parse::<usize>().ok().filter(|&count| count <= 20)?;
    Some(if width.starts_with('0') {
        format!("{number:0count$}")
    } else {
        format!("{number:count$}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_as_python_does() {
        let chunk = |template: &str, number| fill(template, "chunk_id", |format| padded(number, format));
        assert_eq!(chunk("a/b.chunk_{chunk_id:04d}.zip", 7).unwrap(), "a/b.chunk_0007.zip");
        assert_eq!(chunk("{chunk_id:04d}", 12345).unwrap(), "12345");
        assert_eq!(chunk("{chunk_id}-{chunk_id:3d}", 7).unwrap(), "7-  7");
        for template in ["{clip_id}", "{chunk_id", "{chunk_id:x}", "{}"] {
            let error = chunk(template, 7).unwrap_err();
            assert!(error.contains(template) && error.contains("{chunk_id}"), "{error}");
        }
    }

    #[test]
    fn lies_are_named_with_their_row() {
        let cases = [
            ("camera,c/{clip_id}.zip,", "chunk_id"),
            ("camera,../x.{chunk_id}.zip,", "inside"),
            ("camera,/x.{chunk_id}.zip,", "inside"),
            ("camera,x.{chunk_id}.zip,[1]", "clip_files_in_zip"),
            (
                "camera,x.{chunk_id}.zip,\"{\"\"video\"\": \"\"{chunk_id}\"\"}\"",
                "clip_id",
            ),
            ("camera", "fields"),
        ];
        for (row, expected) in cases {
            let root = tempfile::tempdir().unwrap();
            let text = format!("feature,directory,chunk_path,clip_files_in_zip\nx,{row}\n");
            std::fs::write(root.path().join("features.csv"), text).unwrap();
            let error = Features::read(root.path()).unwrap_err().to_string();
            assert!(error.contains("row 1") && error.contains(expected), "{error}");
        }
    }
}
