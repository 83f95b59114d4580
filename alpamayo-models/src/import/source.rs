//! A checkpoint as the source of a model's parameters.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Linear, Norm, RmsNorm, SourceType, Weight, WeightFormat, WeightSource};
use alpamayo_core::ModelConfig;
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use super::checkpoint::Checkpoint;
use super::layout::expected_tensors;
use super::read_ahead::{Planned, ReadAhead};
use super::values::to_f32;
use super::verify::{source_type, verify};
use crate::error::{Error, Result};
use crate::parameters::ParameterSource;
use crate::storage::stored_format;
use crate::token_table::{HostTable, TablePlacement, TokenTable};

/// Bytes handed to the device between two synchronisations: some backends (wgpu) keep every upload's staging buffer until then.
const SYNC_EVERY: usize = 256 << 20;

/// How far an import has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Bytes of the checkpoint that are imported: on the device, or checked and kept on the host.
    pub bytes_done: u64,
    /// Bytes of the checkpoint that the model takes.
    pub bytes_total: u64,
    /// The tensor that was last imported.
    pub tensor: &'a str,
}

/// Called after every tensor of an import.
pub type ProgressCallback<'a> = dyn FnMut(Progress<'_>) + 'a;

/// Streams a checkpoint's tensors to a device as a model's modules ask for them.
///
/// Construction compares all headers with the model and takes no memory for weights. Tensors are then read ahead by a thread of
/// the source, converted by all cores, and moved to the device one at a time; host memory stays below a gigabyte however
/// large the checkpoint is, besides what the backend itself holds.
pub struct CheckpointSource<'a, B: Backend> {
    reader: ReadAhead,
    /// Positions in the plan, by `field.weight` or `field.bias`; several where tensors are stacked.
    fields: HashMap<String, Vec<usize>>,
    format: WeightFormat,
    token_table: TablePlacement,
    device: B::Device,
    progress: Option<&'a mut ProgressCallback<'a>>,
    bytes_done: u64,
    bytes_total: u64,
    unsynced: usize,
}

impl<'a, B: ModelBackend> CheckpointSource<'a, B> {
    /// A source of the parameters of `config`'s model; matrices will be stored in `format`, as [`stored_format`] narrows it,
    /// everything else in f32. Matrices that the checkpoint holds in few bits keep them where `format` is one of few bits.
    ///
    /// # Errors
    /// [`Error::CheckpointTensors`] with every tensor that doesn't fit the model, or when the device can't store `format`.
    pub fn new(
        checkpoint: Arc<Checkpoint>,
        config: &ModelConfig,
        format: WeightFormat,
        device: &B::Device,
        progress: Option<&'a mut ProgressCallback<'a>>,
    ) -> Result<Self> {
        verify(&checkpoint, config)?;
        if !B::supports_format(format, device) {
            return Err(Error::Argument {
                argument: "weight format",
                reason: format!(
                    "{} can't store {format:?} on {device:?}; choose another",
                    B::name(device)
                ),
            });
        }
        let mut plan = Vec::new();
        let mut fields: HashMap<String, Vec<usize>> = HashMap::new();
        for tensor in expected_tensors(config) {
            let Some(entry) = checkpoint.get(&tensor.name) else {
                continue; // Optional: everything else is there, or `verify` would have failed.
            };
            let Some(source_type) = source_type(entry) else {
                continue;
            };
            fields
                .entry(field_key(&tensor.field, role(&tensor.name)))
                .or_default()
                .push(plan.len());
            plan.push(Planned {
                name: tensor.name,
                entry: entry.clone(),
                source_type,
            });
        }
        let bytes_total = plan.iter().map(|planned| planned.entry.size() as u64).sum();
        Ok(Self {
            reader: ReadAhead::new(checkpoint, plan),
            fields,
            format,
            token_table: TablePlacement::Device,
            device: device.clone(),
            progress,
            bytes_done: 0,
            bytes_total,
            unsynced: 0,
        })
    }

    /// The source, with the token embeddings kept there. On the host they stay where the checkpoint's file is mapped, unless the device
    /// [reads a copy by itself](TablePlacement::Host); a table that the checkpoint holds in few bits goes to the device.
    pub fn with_token_table(self, placement: TablePlacement) -> Self {
        Self {
            token_table: placement,
            ..self
        }
    }

    /// Waits until everything is on the device.
    ///
    /// # Errors
    /// When the device reports a failure.
    pub fn finish(mut self) -> Result<()> {
        self.sync()?;
        B::memory_cleanup(&self.device);
        Ok(())
    }

    /// Positions in the plan of the tensors behind a field.
    fn tensors(&self, field: &str, role: &str) -> Result<Vec<usize>> {
        self.fields
            .get(&field_key(field, role))
            .cloned()
            .ok_or_else(|| Error::Module {
                module: field.to_owned(),
                reason: format!("the import's table has no tensor for its {role}"),
            })
    }

    /// A matrix `[rows, columns]`, stacked from the tensors of a field.
    fn matrix(&mut self, field: &str, rows: &[usize], columns: usize, table: bool) -> Result<Weight<B>> {
        let tensors = self.tensors(field, WEIGHT)?;
        let plan = self.reader.plan();
        if !tensors
            .iter()
            .map(|&number| plan[number].entry.elements())
            .eq(rows.iter().map(|rows| rows * columns))
        {
            return Err(self.other_shape(field, &[rows, &[columns]].concat()));
        }
        let (pieces, source_type) = self.stacked(&tensors)?;
        let release = |bytes: &[u8]| self.reader.release_bytes(bytes);
        let source = pieces.iter().map(AsRef::as_ref).collect();
        let source = WeightSource::new(source, source_type, rows.iter().sum(), columns).releasing(&release);
        let device = &self.device;
        let format = match source_type {
            SourceType::Quantized(quantization) if self.format.quantization().is_some() => quantization.into(),
            _ => stored_format(field, self.format),
        };
        let weight = B::memory_persistent_allocations(device, (), |()| {
            if table {
                B::store_table(&source, format, device)
            } else {
                B::store_weight(&source, format, device)
            }
        });
        let weight = weight.map_err(|error| Error::Weight {
            field: field.to_owned(),
            source: error,
        })?;
        for number in tensors {
            self.imported(number)?;
        }
        Ok(weight)
    }

    /// A table of one tensor that stays mapped, or is copied to where the device reads it; its values are checked as all are.
    fn host_table(&mut self, field: &str, number: usize, shape: [usize; 2]) -> Result<HostTable> {
        self.reader.bytes(number)?;
        let planned = &self.reader.plan()[number];
        if planned.entry.elements() != shape.iter().product::<usize>() {
            return Err(self.other_shape(field, &shape));
        }
        let format = stored_format(field, self.format);
        let table = HostTable::new(Arc::new(self.reader.mapped(number)), planned.source_type, shape, format)?
            .shared_with::<B>(&self.device);
        self.imported(number)?;
        Ok(table)
    }

    /// The bytes of tensors that will be one matrix, in one element type. Where a checkpoint holds them in different types they
    /// meet in f32, which holds them all exactly.
    fn stacked(&self, tensors: &[usize]) -> Result<(Vec<Cow<'_, [u8]>>, SourceType)> {
        let plan = self.reader.plan();
        let mut types = tensors.iter().map(|&number| plan[number].source_type);
        let first = types.next().unwrap_or(SourceType::F32);
        let common = if types.all(|source_type| source_type == first) {
            first
        } else {
            SourceType::F32
        };
        if let Some(&number) = tensors.iter().find(|&&number| {
            let own = plan[number].source_type;
            own != common && matches!(own, SourceType::Quantized(_))
        }) {
            return Err(Error::Module {
                module: plan[number].name.clone(),
                reason: "it is of few bits, but what is stacked with it is not; quantise the checkpoint again".into(),
            });
        }
        let pieces = tensors.iter().map(|&number| {
            let bytes = self.reader.bytes(number)?;
            Ok(match plan[number].source_type {
                same if same == common => Cow::Borrowed(bytes),
                other => Cow::Owned(to_f32(bytes, other).into_iter().flat_map(f32::to_le_bytes).collect()),
            })
        });
        Ok((pieces.collect::<Result<_>>()?, common))
    }

    /// A vector `[length]` as f32.
    fn vector(&mut self, field: &str, role: &str, length: usize) -> Result<Tensor<B, 1>> {
        let values = self.host_values(field, role, length)?;
        let device = &self.device;
        Ok(B::memory_persistent_allocations(device, values, |values| {
            Tensor::from_data(TensorData::new(values, [length]), (device, DType::F32))
        }))
    }

    fn host_values(&mut self, field: &str, role: &str, length: usize) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(length);
        for number in self.tensors(field, role)? {
            values.extend(to_f32(
                self.reader.bytes(number)?,
                self.reader.plan()[number].source_type,
            ));
            self.imported(number)?;
        }
        if values.len() == length {
            Ok(values)
        } else {
            Err(self.other_shape(field, &[length]))
        }
    }

    fn other_shape(&self, field: &str, asked: &[usize]) -> Error {
        Error::Module {
            module: field.to_owned(),
            reason: format!("it asks for {asked:?}, which is not what the import's table has"),
        }
    }

    /// Accounts for a tensor that is on its way to the device.
    fn imported(&mut self, number: usize) -> Result<()> {
        self.reader.release(number);
        let planned = &self.reader.plan()[number];
        let size = planned.entry.size();
        self.bytes_done += size as u64;
        if let Some(progress) = &mut self.progress {
            progress(Progress {
                bytes_done: self.bytes_done,
                bytes_total: self.bytes_total,
                tensor: &planned.name,
            });
        }
        self.unsynced += size;
        if self.unsynced >= SYNC_EVERY {
            self.sync()
        } else {
            Ok(())
        }
    }

    fn sync(&mut self) -> Result<()> {
        self.unsynced = 0;
        B::sync(&self.device).map_err(|error| {
            Error::Backend(alpamayo_backends::Error::Device {
                context: "importing weights".into(),
                message: error.to_string(),
            })
        })
    }
}

const WEIGHT: &str = "weight";
const BIAS: &str = "bias";
const BUFFER: &str = "buffer";

/// What a tensor is in its field, by the end of its name.
fn role(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some(WEIGHT) => WEIGHT,
        Some(BIAS) => BIAS,
        _ => BUFFER,
    }
}

fn field_key(field: &str, role: &str) -> String {
    format!("{field}:{role}")
}

impl<B: ModelBackend> ParameterSource<B> for CheckpointSource<'_, B> {
    fn linear(&mut self, field: &str, in_features: usize, out_features: &[usize], bias: bool) -> Result<Linear<B>> {
        let weight = self.matrix(field, out_features, in_features, false)?;
        let bias = if bias {
            Some(self.vector(field, BIAS, out_features.iter().sum())?)
        } else {
            None
        };
        Ok(Linear::new(weight, bias))
    }

    fn embedding(&mut self, field: &str, rows: usize, features: usize) -> Result<Weight<B>> {
        self.matrix(field, &[rows], features, true)
    }

    fn token_table(&mut self, field: &str, rows: usize, features: usize) -> Result<TokenTable<B>> {
        match (self.token_table, self.tensors(field, WEIGHT)?.as_slice()) {
            (TablePlacement::Host, &[number])
                if !matches!(self.reader.plan()[number].source_type, SourceType::Quantized(_)) =>
            {
                self.host_table(field, number, [rows, features]).map(TokenTable::Host)
            }
            _ => self.embedding(field, rows, features).map(TokenTable::Device),
        }
    }

    fn rms_norm(&mut self, field: &str, features: usize, epsilon: f64) -> Result<RmsNorm<B>> {
        Ok(RmsNorm::new(self.vector(field, WEIGHT, features)?, epsilon))
    }

    fn layer_norm(&mut self, field: &str, features: usize, epsilon: f64) -> Result<Norm<B>> {
        let weight = self.vector(field, WEIGHT, features)?;
        let bias = self.vector(field, BIAS, features)?;
        Ok(Norm::layer(weight, bias, epsilon))
    }

    fn buffer(&mut self, field: &str, length: usize) -> Result<Option<Vec<f32>>> {
        if !self.fields.contains_key(&field_key(field, BUFFER)) {
            return Ok(None);
        }
        self.host_values(field, BUFFER, length).map(Some)
    }

    fn device(&self) -> &B::Device {
        &self.device
    }
}
