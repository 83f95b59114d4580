//! A checkpoint on disk: one safetensors file, or shards with an index. Only headers are read here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use alpamayo_backends::layers::Quantization;
use safetensors::Dtype;
use serde::Deserialize;

use super::header::{WeightMap, read_header};
use super::mapped_file::MappedFile;
use super::problem::TensorProblem;
use crate::error::{Error, Result};

/// The name of a checkpoint's only file.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The name of the file that lists a checkpoint's shards.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// What a tensor of few bits holds: rows of 32-bit words, as [`Quantization`] lays them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantizedEntry {
    /// The scheme.
    pub quantization: Quantization,
    /// Values per row.
    pub columns: usize,
}

impl QuantizedEntry {
    /// As a checkpoint's metadata describes it, scheme, values per row and layout: `int8 4096 2`. Without a layout it is the first.
    ///
    /// # Errors
    /// With the layout, where it is another than [`Quantization::LAYOUT`].
    fn parse(text: &str) -> Option<std::result::Result<Self, u32>> {
        let mut words = text.split(' ');
        let entry = Self {
            quantization: Quantization::from_name(words.next()?)?,
            columns: words.next()?.parse().ok()?,
        };
        let layout = words.next().map_or(Some(1), |layout| layout.parse().ok())?;
        Some(if layout == Quantization::LAYOUT {
            Ok(entry)
        } else {
            Err(layout)
        })
    }
}

impl fmt::Display for QuantizedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.quantization.name();
        write!(f, "{name} {} {}", self.columns, Quantization::LAYOUT)
    }
}

/// A tensor's entry in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Element type.
    pub dtype: Dtype,
    /// Extents as stored, outermost first.
    pub shape: Vec<usize>,
    /// What the rows hold where they are of few bits.
    pub quantized: Option<QuantizedEntry>,
    /// Which of the checkpoint's files holds it.
    pub(super) shard: usize,
    /// Its bytes in that file.
    pub(super) range: Range<usize>,
}

impl TensorEntry {
    /// Number of values.
    pub fn elements(&self) -> usize {
        match (self.quantized, self.shape.first()) {
            // The metadata's word, until it is compared with a model.
            (Some(quantized), Some(rows)) => rows.saturating_mul(quantized.columns),
            // The header was checked: this product fits the file.
            _ => self.shape.iter().product(),
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.range.len()
    }
}

/// An open checkpoint, whose headers are read and sound. Its tensors are not yet compared with a model.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorEntry>,
    index_problems: Vec<TensorProblem>,
}

#[derive(Debug)]
struct Shard {
    /// Name relative to the checkpoint's directory.
    name: String,
    file: MappedFile,
}

impl Checkpoint {
    /// Opens a checkpoint: a directory that holds `model.safetensors.index.json` with the shards it names or
    /// `model.safetensors`, or a safetensors file itself.
    ///
    /// No tensor's data is read. Tensors that the index and the shards disagree about are kept for
    /// [`problems`](super::problems), which tells them together with what doesn't fit the model.
    ///
    /// # Errors
    /// When a file is absent, outside the directory, truncated or damaged, or the index lists a tensor twice.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            let name = path
                .file_name()
                .unwrap_or(path.as_os_str())
                .to_string_lossy()
                .into_owned();
            return Self::with_shards(path, vec![Shard::open(name, path.to_path_buf())?], None);
        }
        let index = path.join(INDEX_FILE);
        if index.is_file() {
            let weight_map = read_index(&index)?;
            let names: BTreeSet<&String> = weight_map.files.values().collect();
            for name in &names {
                check_shard_name(&index, name)?;
            }
            let shards = names
                .into_iter()
                .map(|name| Shard::listed(&index, name, path.join(name)))
                .collect::<Result<_>>()?;
            return Self::with_shards(path, shards, Some(&weight_map));
        }
        let single = path.join(SINGLE_FILE);
        if !single.exists() {
            return Err(Error::checkpoint(
                path,
                format!("holds neither {SINGLE_FILE} nor {INDEX_FILE}"),
            ));
        }
        Self::with_shards(path, vec![Shard::open(SINGLE_FILE.into(), single)?], None)
    }

    fn with_shards(path: &Path, shards: Vec<Shard>, weight_map: Option<&WeightMap>) -> Result<Self> {
        let mut checkpoint = Self {
            path: path.to_path_buf(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            index_problems: Vec::new(),
        };
        for shard in shards {
            checkpoint.add(shard)?;
        }
        if let Some(weight_map) = weight_map {
            checkpoint.compare_with_index(weight_map);
        }
        Ok(checkpoint)
    }

    fn add(&mut self, shard: Shard) -> Result<()> {
        let header = read_header(shard.file.path(), shard.file.bytes())?;
        let number = self.shards.len();
        let descriptions = header.metadata.metadata().clone().unwrap_or_default();
        for (name, info) in header.metadata.tensors() {
            // Other programs put what they like into the metadata: only a tensor's name with a scheme means something here.
            let quantized = descriptions.get(&name).and_then(|text| QuantizedEntry::parse(text));
            let quantized = quantized.transpose().map_err(|layout| {
                let expected = Quantization::LAYOUT;
                let reason =
                    format!("{name} is of few bits in layout {layout}, not {expected}: quantise the original again");
                Error::checkpoint(shard.file.path(), reason)
            })?;
            let (start, end) = info.data_offsets;
            let entry = TensorEntry {
                dtype: info.dtype,
                shape: info.shape.clone(),
                quantized,
                shard: number,
                range: header.data_start + start..header.data_start + end,
            };
            if let Some(other) = self.tensors.get(&name) {
                let files = [self.shards[other.shard].name.clone(), shard.name.clone()];
                self.index_problems.push(TensorProblem::Repeated { name, files });
            } else {
                self.tensors.insert(name, entry);
            }
        }
        self.shards.push(shard);
        Ok(())
    }

    fn compare_with_index(&mut self, weight_map: &WeightMap) {
        let mut problems = Vec::new();
        for (name, listed) in &weight_map.files {
            match self.tensors.get(name) {
                Some(entry) if self.file_of(entry) == listed => {}
                Some(entry) => problems.push(TensorProblem::WrongShard {
                    name: name.clone(),
                    listed: listed.clone(),
                    found: self.file_of(entry).to_owned(),
                }),
                None => problems.push(TensorProblem::NotInShard {
                    name: name.clone(),
                    listed: listed.clone(),
                }),
            }
        }
        for (name, entry) in self
            .tensors
            .iter()
            .filter(|(name, _)| !weight_map.files.contains_key(*name))
        {
            problems.push(TensorProblem::NotInIndex {
                name: name.clone(),
                file: self.file_of(entry).to_owned(),
            });
        }
        self.index_problems.extend(problems);
    }

    /// The directory or file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and sizes in bytes of the files, in order.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.shards
            .iter()
            .map(|shard| (shard.name.as_str(), shard.file.bytes().len() as u64))
    }

    /// Every tensor by name, in the names' order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorEntry)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// A tensor's entry.
    pub fn get(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name)
    }

    /// The name of the file that holds a tensor.
    pub fn file_of(&self, entry: &TensorEntry) -> &str {
        &self.shards[entry.shard].name
    }

    /// The path of the file that holds a tensor.
    pub(super) fn path_of(&self, entry: &TensorEntry) -> &Path {
        self.shards[entry.shard].file.path()
    }

    /// The scheme that the checkpoint was quantised with: the one of fewest bits that a tensor is in, since every scheme leaves some
    /// tensors at more.
    pub fn quantization(&self) -> Option<Quantization> {
        let schemes = self.tensors.values().filter_map(|entry| entry.quantized);
        schemes.map(|quantized| quantized.quantization).max()
    }

    /// A tensor's bytes, little-endian, row-major: mapped, read from disk when looked at.
    pub fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        &self.shards[entry.shard].file.bytes()[entry.range.clone()]
    }

    /// Lets the system take back the memory behind a tensor's bytes.
    pub(super) fn release(&self, entry: &TensorEntry) {
        self.shards[entry.shard].file.release(entry.range.clone());
    }

    /// As [`release`](Self::release), of a part of a tensor's bytes. Bytes that are no file's are left alone.
    pub(super) fn release_bytes(&self, bytes: &[u8]) {
        self.shards.iter().for_each(|shard| shard.file.release_bytes(bytes));
    }

    /// Where the index and the shards disagree.
    pub(super) fn index_problems(&self) -> &[TensorProblem] {
        &self.index_problems
    }
}

impl Shard {
    fn open(name: String, path: PathBuf) -> Result<Self> {
        Ok(Self {
            name,
            file: MappedFile::open(path)?,
        })
    }

    /// A shard that an index names.
    fn listed(index: &Path, name: &str, path: PathBuf) -> Result<Self> {
        if !path.exists() {
            return Err(Error::checkpoint(
                index,
                format!("`weight_map` names `{name}`, which is not in the directory; fetch that shard"),
            ));
        }
        Self::open(name.to_owned(), path)
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: WeightMap,
}

fn read_index(path: &Path) -> Result<WeightMap> {
    let text = std::fs::read(path).map_err(|source| Error::CheckpointIo {
        path: path.to_path_buf(),
        source,
    })?;
    let Index { weight_map } = serde_json::from_slice(&text).map_err(|error| {
        Error::checkpoint(
            path,
            format!("is not the JSON of an index with a `weight_map`: {error}"),
        )
    })?;
    if let Some(name) = weight_map.repeated.first() {
        let count = weight_map.repeated.len();
        return Err(Error::checkpoint(
            path,
            format!("`weight_map` lists `{name}` twice ({count} such names in all)"),
        ));
    }
    if weight_map.files.is_empty() {
        return Err(Error::checkpoint(path, "`weight_map` lists no tensor"));
    }
    Ok(weight_map)
}

/// A shard is a file inside the checkpoint's directory. (It may be a symbolic link to elsewhere, as in a download cache.)
fn check_shard_name(index: &Path, name: &str) -> Result<()> {
    let mut components = Path::new(name).components().peekable();
    if components.peek().is_some() && components.all(|component| matches!(component, Component::Normal(_))) {
        return Ok(());
    }
    Err(Error::checkpoint(
        index,
        format!("`weight_map` names `{name}`, which is not a file inside the checkpoint's directory"),
    ))
}
