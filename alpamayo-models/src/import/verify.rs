//! Comparing a checkpoint's tensors with what a model expects.

use std::collections::HashMap;

use alpamayo_backends::layers::SourceType;
use alpamayo_core::ModelConfig;
use safetensors::Dtype;

use super::checkpoint::{Checkpoint, TensorEntry};
use super::layout::{ExpectedTensor, expected_tensors};
use super::nearest::NameIndex;
use super::problem::{TensorProblem, TensorProblems};
use crate::error::{Error, Result};

/// So many wrong names get a suggestion; beyond that the checkpoint is another model's and suggestions help nobody.
const MOST_SUGGESTIONS: usize = 2_000;

/// Everything about the checkpoint's tensors that does not fit the model; empty where it can be imported.
pub fn problems(checkpoint: &Checkpoint, config: &ModelConfig) -> Vec<TensorProblem> {
    let expected = expected_tensors(config);
    let by_name: HashMap<&str, &ExpectedTensor> =
        expected.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut problems = checkpoint.index_problems().to_vec();

    let unexpected: Vec<&str> = checkpoint
        .tensors()
        .map(|(name, _)| name)
        .filter(|name| !by_name.contains_key(name))
        .collect();
    let suggestions = NameIndex::new(unexpected.iter().copied().take(MOST_SUGGESTIONS));
    for tensor in &expected {
        if checkpoint.get(&tensor.name).is_none() && !tensor.optional {
            problems.push(TensorProblem::Missing {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                nearest: suggestions.nearest(&tensor.name),
            });
        }
    }

    let known = NameIndex::new(expected.iter().map(|tensor| tensor.name.as_str()));
    for (number, name) in unexpected.into_iter().enumerate() {
        problems.push(TensorProblem::Unexpected {
            name: name.to_owned(),
            file: checkpoint
                .get(name)
                .map(|entry| checkpoint.file_of(entry).to_owned())
                .unwrap_or_default(),
            nearest: if number < MOST_SUGGESTIONS {
                known.nearest(name)
            } else {
                None
            },
        });
    }

    problems.extend(expected.iter().flat_map(|tensor| tensor_problems(checkpoint, tensor)));
    problems
}

/// Fails with every problem at once where the checkpoint does not fit the model.
///
/// # Errors
/// [`Error::CheckpointTensors`], listing all.
pub fn verify(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<()> {
    let problems = problems(checkpoint, config);
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::CheckpointTensors {
        path: checkpoint.path().to_path_buf(),
        count: problems.len(),
        problems: TensorProblems(problems),
    })
}

/// What is wrong with the shape and type of one tensor that is there.
fn tensor_problems(checkpoint: &Checkpoint, tensor: &ExpectedTensor) -> Vec<TensorProblem> {
    let Some(entry) = checkpoint.get(&tensor.name) else {
        return Vec::new();
    };
    let name = || tensor.name.clone();
    let file = || checkpoint.file_of(entry).to_owned();
    let mut problems = Vec::new();
    let expected = stored_shape(entry, tensor);
    if entry.shape != expected {
        problems.push(TensorProblem::Shape {
            name: name(),
            file: file(),
            expected,
            actual: entry.shape.clone(),
        });
    }
    if source_type(entry).is_none() || (entry.quantized.is_some() && !tensor.is_matrix()) {
        problems.push(TensorProblem::UnsupportedType {
            name: name(),
            file: file(),
            dtype: match entry.quantized {
                Some(quantized) => format!("{:?} of {quantized}", entry.dtype),
                None => format!("{:?}", entry.dtype),
            },
        });
    }
    problems
}

/// The shape in which the entry should hold the tensor: of few bits, rows of words.
fn stored_shape(entry: &TensorEntry, tensor: &ExpectedTensor) -> Vec<usize> {
    match (entry.quantized, tensor.shape.split_first()) {
        (Some(quantized), Some((&rows, columns))) if tensor.is_matrix() => {
            let columns = columns
                .iter()
                .fold(1, |product: usize, &extent| product.saturating_mul(extent));
            // Of another number of values per row no number of words is right.
            let words = if columns == quantized.columns {
                quantized.quantization.row_words(columns)
            } else {
                0
            };
            vec![rows, words]
        }
        _ => tensor.shape.clone(),
    }
}

/// The element types that can be imported.
pub(super) fn source_type(entry: &TensorEntry) -> Option<SourceType> {
    match (entry.dtype, entry.quantized) {
        (Dtype::I32, Some(quantized)) => Some(SourceType::Quantized(quantized.quantization)),
        (Dtype::BF16, None) => Some(SourceType::Bf16),
        (Dtype::F16, None) => Some(SourceType::F16),
        (Dtype::F32, None) => Some(SourceType::F32),
        _ => None,
    }
}
