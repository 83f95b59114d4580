//! The clips of the dataset.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::table::Table;
use crate::{Error, Result};

/// One clip of the dataset: 20 s of one drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipEntry {
    /// Its id, a UUID.
    pub clip_id: String,
    /// The chunk that holds its files.
    pub chunk: i64,
    /// `train`, `val` …; `None` where the split in use leaves it out.
    pub split: Option<String>,
    /// Whether the dataset calls it valid.
    pub is_valid: bool,
}

/// `clip_index.parquet`, with the split of `splits/default.parquet` where that is there.
#[derive(Debug)]
pub(super) struct ClipIndex {
    path: PathBuf,
    clips: Vec<ClipEntry>,
    rows: HashMap<String, usize>,
}

impl ClipIndex {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join("clip_index.parquet");
        let table = Table::open(&path)?;
        let ids = clip_ids(&table, &path)?;
        let (chunks, valid) = (table.integers("chunk")?, table.booleans("clip_is_valid")?);
        let override_path = root.join("splits").join("default.parquet");
        let has_override = override_path.is_file();
        let splits = match table.has("split") && !has_override {
            true => table.strings("split")?.into_iter().map(Some).collect(),
            false => vec![None; ids.len()],
        };
        let rows: HashMap<String, usize> = ids.iter().cloned().zip(0..).collect();
        if rows.len() != ids.len() {
            return Err(error(
                &path,
                format!("{} of {} clip ids are there twice", ids.len() - rows.len(), ids.len()),
            ));
        }
        let entries = ids.into_iter().zip(chunks).zip(valid).zip(splits);
        let clips = entries.map(|(((clip_id, chunk), is_valid), split)| ClipEntry {
            clip_id,
            chunk,
            split,
            is_valid,
        });
        let clips = clips.collect();
        let mut index = Self { path, clips, rows };
        if has_override {
            index.override_splits(&override_path)?;
        }
        Ok(index)
    }

    fn override_splits(&mut self, path: &Path) -> Result<()> {
        let table = Table::open(path)?;
        for (clip_id, split) in clip_ids(&table, path)?.into_iter().zip(table.strings("split")?) {
            let Some(&row) = self.rows.get(&clip_id) else {
                return Err(error(path, format!("clip {clip_id} is not in clip_index.parquet")));
            };
            self.clips[row].split = Some(split);
        }
        Ok(())
    }

    pub(super) fn clips(&self) -> &[ClipEntry] {
        &self.clips
    }

    pub(super) fn get(&self, clip_id: &str) -> Result<&ClipEntry> {
        let row = self.rows.get(clip_id).copied();
        row.map(|row| &self.clips[row]).ok_or_else(|| {
            let reason = format!("there is no clip {clip_id} among the {} clips", self.clips.len());
            error(&self.path, reason)
        })
    }
}

/// The first column of a table's index.
pub(super) fn clip_ids(table: &Table, path: &Path) -> Result<Vec<String>> {
    let Some(column) = table.index_columns().into_iter().next() else {
        let reason = format!("no column holds clip ids; there are {}", table.columns().join(", "));
        return Err(error(path, reason));
    };
    table.strings(&column)
}

fn error(path: &Path, reason: String) -> Error {
    Error::DataFile {
        path: path.to_path_buf(),
        field: "clip ids".into(),
        reason,
    }
}
