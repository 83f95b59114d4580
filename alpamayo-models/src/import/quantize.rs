//! Writing a checkpoint in few bits.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use alpamayo_backends::definition::quantized_words;
use alpamayo_backends::layers::{Quantization, SourceType, WeightSource};
use alpamayo_core::ModelConfig;
use serde_json::{Map, Value, json};

use super::checkpoint::{Checkpoint, QuantizedEntry, TensorEntry};
use super::layout::{ExpectedTensor, expected_tensors};
use super::source::Progress;
use super::verify::{source_type, verify};
use crate::error::{Error, Result};
use crate::storage::stored_format;

/// The metadata's entry that tells the scheme asked for. Every tensor of few bits has an entry of its own, its name, with the
/// scheme, its values per row and the layout of rows: `int4 4096 2`.
pub const QUANTIZATION_KEY: &str = "alpamayo.quantization";

/// Writes `checkpoint` as one safetensors file whose matrices are of few bits, as loading it with that format would store them.
///
/// What stays as it is, [`stored_format`] says. A tensor of few bits has its usual name, element type I32, and shape
/// `[out, words]`, with rows as [`Quantization`] lays them out.
///
/// # Errors
/// Where the checkpoint doesn't fit the model, is in few bits already, or the file can't be written.
pub fn quantize(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    quantization: Quantization,
    path: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    verify(checkpoint, config)?;
    if let Some(other) = checkpoint.quantization() {
        let reason = format!("its weights are {} already; quantise the original", other.name());
        return Err(Error::checkpoint(checkpoint.path(), reason));
    }
    let plan: Vec<Written> = expected_tensors(config)
        .into_iter()
        .filter_map(|tensor| Written::new(checkpoint, tensor, quantization))
        .collect();
    let failed = |source| Error::CheckpointWrite {
        path: path.to_path_buf(),
        source,
    };
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    file.write_all(&header(&plan, quantization)).map_err(failed)?;
    let bytes_total = plan.iter().map(|tensor| tensor.entry.size() as u64).sum();
    let mut bytes_done = 0;
    for tensor in &plan {
        let bytes = checkpoint.bytes(tensor.entry);
        match &tensor.source {
            None => file.write_all(bytes).map_err(failed)?,
            Some((quantized, source_type)) => {
                let source = WeightSource::new(vec![bytes], *source_type, tensor.shape[0], quantized.columns);
                let words = quantized_words(&source, quantized.quantization).map_err(|source| Error::Weight {
                    field: tensor.name.clone(),
                    source,
                })?;
                file.write_all(words.as_bytes()).map_err(failed)?;
            }
        }
        checkpoint.release(tensor.entry);
        bytes_done += tensor.entry.size() as u64;
        progress(Progress {
            bytes_done,
            bytes_total,
            tensor: &tensor.name,
        });
    }
    file.flush().map_err(failed)
}

/// A tensor of the new file.
struct Written<'a> {
    name: String,
    entry: &'a TensorEntry,
    shape: Vec<usize>,
    /// What it becomes and what it is, where it is quantised.
    source: Option<(QuantizedEntry, SourceType)>,
}

impl<'a> Written<'a> {
    fn new(checkpoint: &'a Checkpoint, tensor: ExpectedTensor, asked: Quantization) -> Option<Self> {
        let entry = checkpoint.get(&tensor.name)?;
        let format = stored_format(&tensor.field, asked.into());
        let quantization = format.quantization().filter(|_| tensor.is_matrix());
        let (mut shape, mut source) = (entry.shape.clone(), None);
        if let (Some(quantization), Some(source_type)) = (quantization, source_type(entry)) {
            let columns = tensor.shape[1..].iter().product();
            shape = vec![tensor.shape[0], quantization.row_words(columns)];
            source = Some((QuantizedEntry { quantization, columns }, source_type));
        }
        Some(Self {
            name: tensor.name,
            entry,
            shape,
            source,
        })
    }

    fn bytes(&self) -> usize {
        match self.source {
            Some(_) => 4 * self.shape.iter().product::<usize>(),
            None => self.entry.size(),
        }
    }
}

/// The file's beginning: the header's length, and the header.
fn header(plan: &[Written<'_>], quantization: Quantization) -> Vec<u8> {
    let mut metadata = Map::from_iter([(QUANTIZATION_KEY.to_owned(), Value::from(quantization.name()))]);
    let mut header = Map::new();
    let mut end = 0;
    for tensor in plan {
        let start = end;
        end += tensor.bytes();
        let dtype = match &tensor.source {
            Some((quantized, _)) => {
                metadata.insert(tensor.name.clone(), quantized.to_string().into());
                "I32".to_owned()
            }
            None => format!("{:?}", tensor.entry.dtype),
        };
        let entry = json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
    }
    header.insert("__metadata__".into(), Value::Object(metadata));
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}
