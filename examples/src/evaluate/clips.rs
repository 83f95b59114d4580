//! Which clips are evaluated.

use std::path::{Component, Path, PathBuf};
#[cfg(feature = "dataset")]
use std::sync::Arc;

use alpamayo_core::Clip;
#[cfg(feature = "dataset")]
use alpamayo_core::dataset::{Dataset, SampleOptions};

use crate::error::{Error, Result};
use crate::hash::Hash64;
use crate::run::Item;

/// Folders are looked into this deep.
const MOST_LEVELS: usize = 8;

/// A clip that is still on disk.
#[derive(Clone, Debug)]
pub struct ClipItem {
    key: String,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Folder(PathBuf),
    #[cfg(feature = "dataset")]
    Dataset {
        dataset: Arc<Dataset>,
        clip_id: String,
        t0_us: i64,
        options: SampleOptions,
    },
}

impl Item for ClipItem {
    fn key(&self) -> String {
        self.key.clone()
    }
}

impl ClipItem {
    /// A clip folder under a name of its own.
    pub fn folder(key: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        Self {
            key: key.into(),
            source: Source::Folder(folder.into()),
        }
    }

    /// A clip of a dataset at t0; its key is `{clip_id}@{t0_us}`.
    #[cfg(feature = "dataset")]
    pub fn dataset(dataset: &Arc<Dataset>, clip_id: &str, t0_us: i64, options: &SampleOptions) -> Self {
        Self {
            key: format!("{clip_id}@{t0_us}"),
            source: Source::Dataset {
                dataset: Arc::clone(dataset),
                clip_id: clip_id.to_owned(),
                t0_us,
                options: options.clone(),
            },
        }
    }

    /// Where it is: the folder, or the id.
    pub fn source(&self) -> String {
        match &self.source {
            Source::Folder(folder) => folder.display().to_string(),
            #[cfg(feature = "dataset")]
            Source::Dataset { clip_id, .. } => clip_id.clone(),
        }
    }

    /// Reads the clip.
    ///
    /// # Errors
    /// Those of [`Clip::read`] and of the dataset's reader.
    pub fn read(&self) -> alpamayo_core::Result<Clip> {
        match &self.source {
            Source::Folder(folder) => Clip::read(folder),
            #[cfg(feature = "dataset")]
            Source::Dataset {
                dataset,
                clip_id,
                t0_us,
                options,
            } => dataset.clip(clip_id, *t0_us, options),
        }
    }
}

/// The clips that `patterns` name, each a clip folder, a folder with clip folders anywhere below it, or a glob of either.
///
/// A clip's key is its path below the given folder, or below the part of a glob before the first wildcard, so that it is the
/// same wherever the clips are mounted; a clip folder that is given itself has its own name.
///
/// # Errors
/// [`Error::NoClips`] for a pattern without any, [`Error::Io`] for a folder that cannot be read.
pub fn find<S: AsRef<str>>(patterns: &[S]) -> Result<Vec<ClipItem>> {
    let mut items = Vec::new();
    for pattern in patterns {
        let (pattern, before) = (pattern.as_ref(), items.len());
        let no_clips = |reason: &str| Error::NoClips {
            pattern: pattern.to_owned(),
            reason: reason.to_owned(),
        };
        if Path::new(pattern).exists() {
            descend(Path::new(pattern), Path::new(pattern), MOST_LEVELS, &mut items)?;
        } else {
            let paths = glob::glob(pattern).map_err(|error| no_clips(error.msg))?;
            for path in paths {
                let path =
                    path.map_err(|error| Error::io("read", error.path())(std::io::Error::other(error.to_string())))?;
                descend(&path, &without_wildcards(pattern), MOST_LEVELS, &mut items)?;
            }
        }
        if items.len() == before {
            return Err(no_clips("there is no folder with a clip.json"));
        }
    }
    Ok(items)
}

/// The leading components of a glob that are plain names.
fn without_wildcards(pattern: &str) -> PathBuf {
    let is_plain = |component: &Component| !component.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    Path::new(pattern).components().take_while(is_plain).collect()
}

fn descend(path: &Path, base: &Path, levels: usize, items: &mut Vec<ClipItem>) -> Result<()> {
    if path.join("clip.json").is_file() {
        items.push(ClipItem::folder(key(path, base), path));
        return Ok(());
    }
    if levels == 0 || !path.is_dir() {
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(Error::io("read", path))?;
    let folders: std::io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut folders = folders.map_err(Error::io("read", path))?;
    folders.sort();
    folders
        .iter()
        .try_for_each(|folder| descend(folder, base, levels - 1, items))
}

/// The path below `base` with `/` between names, or the folder's own name.
fn key(path: &Path, base: &Path) -> String {
    let below = path.strip_prefix(base).unwrap_or(path);
    let names: Vec<_> = below.iter().map(|name| name.to_string_lossy()).collect();
    if !names.is_empty() {
        return names.join("/");
    }
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    whole
        .file_name()
        .unwrap_or(whole.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// The seed of a clip's draws, below 2⁵³ so that every reader of JSON keeps it whole.
///
/// Clips draw independently, and a clip draws the same in whatever run, shard or order: the seed is a hash ([`Hash64`]) of the
/// run's seed and of the clip's key. `drive --seed` with it repeats the clip's drive.
pub fn clip_seed(seed: u64, key: &str) -> u64 {
    let mut hash = Hash64::default();
    hash.write(&seed.to_le_bytes());
    hash.write(key.as_bytes());
    hash.finish() & ((1 << 53) - 1)
}
