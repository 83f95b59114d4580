//! What is in a checkpoint, from its headers alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use alpamayo_core::ModelConfig;
use serde::Serialize;

use super::checkpoint::{Checkpoint, TensorEntry};
use super::layout::{Part, expected_tensors};
use super::memory::{MemoryNeed, Workload, memory_needs};
use super::problem::TensorProblem;
use super::verify::problems;

/// Number of tensors, parameters and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Tensors.
    pub tensors: usize,
    /// Their values.
    pub parameters: u64,
    /// Their bytes in the checkpoint.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, entry: &TensorEntry) {
        self.tensors += 1;
        // A checkpoint's metadata says how many values its rows of few bits hold, and may say anything.
        self.parameters = self.parameters.saturating_add(entry.elements() as u64);
        self.bytes = self.bytes.saturating_add(entry.size() as u64);
    }
}

/// A part of the model in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartSummary {
    /// The part.
    pub part: Part,
    /// What the checkpoint holds of it.
    pub found: Count,
    /// Tensors that the model has in it.
    pub expected_tensors: usize,
}

/// What is in a checkpoint, how it fits its configuration, and what it needs to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointSummary {
    /// The checkpoint's directory or file.
    pub path: PathBuf,
    /// Its files and their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// Everything that it holds.
    pub total: Count,
    /// By element type, as safetensors spells it.
    pub by_type: BTreeMap<String, Count>,
    /// By part of the model; tensors that the model doesn't know are in none.
    pub parts: Vec<PartSummary>,
    /// Buffers that it leaves out, which are computed from the configuration instead.
    pub rebuilt_buffers: Vec<String>,
    /// Everything missing or strange; empty where the checkpoint can be imported.
    pub problems: Vec<TensorProblem>,
    /// What the memory needs are computed for.
    pub workload: Workload,
    /// Device memory per backend and precision.
    pub memory: Vec<MemoryNeed>,
}

impl CheckpointSummary {
    /// Summarises an open checkpoint. No tensor's data is read.
    pub fn new(checkpoint: &Checkpoint, config: &ModelConfig, workload: Workload) -> Self {
        let mut total = Count::default();
        let mut by_type: BTreeMap<String, Count> = BTreeMap::new();
        for (_, entry) in checkpoint.tensors() {
            total.add(entry);
            by_type.entry(format!("{:?}", entry.dtype)).or_default().add(entry);
        }
        let expected = expected_tensors(config);
        let part = |part| {
            let mut found = Count::default();
            let tensors = expected.iter().filter(|tensor| tensor.part == part);
            tensors
                .clone()
                .filter_map(|tensor| checkpoint.get(&tensor.name))
                .for_each(|entry| found.add(entry));
            PartSummary {
                part,
                found,
                expected_tensors: tensors.count(),
            }
        };
        let rebuilt = expected
            .iter()
            .filter(|tensor| tensor.optional && checkpoint.get(&tensor.name).is_none());
        Self {
            path: checkpoint.path().to_path_buf(),
            files: checkpoint
                .files()
                .map(|(name, bytes)| (name.to_owned(), bytes))
                .collect(),
            total,
            by_type,
            parts: Part::ALL.into_iter().map(part).collect(),
            rebuilt_buffers: rebuilt.map(|tensor| tensor.name.clone()).collect(),
            problems: problems(checkpoint, config),
            workload,
            memory: memory_needs(config, &workload),
        }
    }
}
