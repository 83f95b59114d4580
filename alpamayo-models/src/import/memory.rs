//! How much device memory a model needs, computed from its configuration.

use alpamayo_backends::BackendKind;
use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_core::ModelConfig;
use serde::Serialize;

use super::layout::{ExpectedTensor, expected_tensors};
use crate::error::{Error, Result, gigabytes};
use crate::storage::{TOKEN_TABLE, stored_format};
use crate::token_table::TablePlacement;

/// Images of one clip: four cameras, four frames each.
const IMAGES: usize = 16;
/// Tokens of the prompt's words, generously; the rest of a prompt is images and history.
const WORDS: usize = 64;
/// What is held in the key-value cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Clips in the batch.
    pub clips: usize,
    /// Samples per clip; they share the clip's prompt.
    pub samples: usize,
    /// Tokens of a clip's prompt.
    pub prompt_tokens: usize,
    /// Tokens that a sample may generate.
    pub generated_tokens: usize,
}

impl Workload {
    /// One clip of 16 images of the largest size, with `samples` samples of up to 256 tokens.
    pub fn one_clip(config: &ModelConfig, samples: usize) -> Self {
        let side = config
            .vision
            .patch_size
            .saturating_mul(config.vision.spatial_merge_size)
            .max(1);
        let tokens_per_image = config.max_pixels / side.saturating_mul(side) + 2;
        Self {
            clips: 1,
            samples,
            prompt_tokens: IMAGES
                .saturating_mul(tokens_per_image)
                .saturating_add(config.tokens_per_history_traj)
                .saturating_add(WORDS),
            generated_tokens: 256,
        }
    }

    /// One clip of 16 images of the smallest size, one sample of up to 256 tokens: a device without the memory for it drives nothing.
    pub fn least(config: &ModelConfig) -> Self {
        let smallest = ModelConfig {
            max_pixels: config.min_pixels,
            ..config.clone()
        };
        Self::one_clip(&smallest, 1)
    }

    /// Bytes of the cache: keys and values of all layers, the prompt once per clip.
    pub fn cache_bytes(&self, config: &ModelConfig, format: CacheFormat) -> u64 {
        let text = &config.text;
        let suffixes = self.samples.saturating_mul(self.generated_tokens);
        let tokens = self.prompt_tokens.saturating_add(suffixes);
        let factors = [
            self.clips,
            tokens,
            2,
            text.num_hidden_layers,
            text.num_key_value_heads,
            text.head_dim,
            format.dtype().size(),
        ];
        factors
            .into_iter()
            .fold(1, |product: u64, factor| product.saturating_mul(factor as u64))
    }
}

/// Device memory for a model on one backend in one precision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryNeed {
    /// The backend's name, as device names spell it.
    pub backend: &'static str,
    /// How matrices are stored; vectors are always f32.
    pub weights: &'static str,
    /// How keys and values are stored.
    pub cache: &'static str,
    /// Bytes of all parameters on the device; [the token embeddings may be on the host](TablePlacement::of).
    pub weight_bytes: u64,
    /// Bytes of the key-value cache.
    pub cache_bytes: u64,
    /// Bytes of the largest parameter, which is stored in parts where the device can't read so much as one buffer.
    pub largest_bytes: u64,
}

impl MemoryNeed {
    /// Weights and cache. Activations come on top: below a tenth of the weights at the released size in bf16.
    pub fn total_bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.cache_bytes)
    }
}

/// Device memory per backend and precision.
pub fn memory_needs(config: &ModelConfig, workload: &Workload) -> Vec<MemoryNeed> {
    let tensors = expected_tensors(config);
    let needs = BackendKind::ALL.into_iter().flat_map(|kind| {
        precisions(kind)
            .iter()
            .map(move |&(weights, cache)| (kind, weights, cache))
    });
    needs
        .map(|(kind, weights, cache)| MemoryNeed {
            backend: kind.name(),
            weights: weights.name(),
            cache: cache.name(),
            weight_bytes: weight_bytes(config, weights, table(kind, weights)),
            cache_bytes: workload.cache_bytes(config, cache),
            largest_bytes: tensors
                .iter()
                .map(|tensor| stored_bytes(tensor, weights, table(kind, weights)))
                .max()
                .unwrap_or(0),
        })
        .collect()
}

/// Compares what a model takes at least with a device's memory, before anything is moved there.
///
/// # Errors
/// [`Error::DeviceMemory`] where the weights and the smallest cache don't fit.
pub(crate) fn check_memory(
    config: &ModelConfig,
    (weights, cache): (WeightFormat, CacheFormat),
    table: &dyn Fn(WeightFormat) -> TablePlacement,
    device: &str,
    available: u64,
) -> Result<()> {
    let cache = Workload::least(config).cache_bytes(config, cache);
    let needed = |format| weight_bytes(config, format, table(format)).saturating_add(cache);
    if needed(weights) <= available {
        return Ok(());
    }
    // The most exact first.
    let fitting = WeightFormat::ALL
        .into_iter()
        .filter(|&format| needed(format) <= available);
    let fitting: Vec<_> = fitting
        .map(|format| format!("{} ({})", format.name(), gigabytes(needed(format))))
        .collect();
    let choice = match fitting.as_slice() {
        [] => "a device with more".to_owned(),
        formats => format!("weights in {}, or a device with more", formats.join(" or ")),
    };
    Err(Error::DeviceMemory {
        device: device.to_owned(),
        format: weights.name(),
        needed: needed(weights),
        available,
        choice,
    })
}

/// The precisions worth telling of a backend: weights and cache.
fn precisions(kind: BackendKind) -> &'static [(WeightFormat, CacheFormat)] {
    use BackendKind::{Candle, CandleCuda, CandleMetal, Cpu, Cuda, Metal, Vulkan, WebGpu};
    match kind {
        Cuda => &[
            (WeightFormat::F32, CacheFormat::F32),
            (WeightFormat::Bf16, CacheFormat::Bf16),
            (WeightFormat::Int8, CacheFormat::Bf16),
            (WeightFormat::Int4, CacheFormat::Bf16),
        ],
        CandleCuda | CandleMetal => &[
            (WeightFormat::F32, CacheFormat::F32),
            (WeightFormat::Bf16, CacheFormat::Bf16),
        ],
        Metal | Vulkan | WebGpu | Cpu => &[
            (WeightFormat::F32, CacheFormat::F32),
            (WeightFormat::Bf16, CacheFormat::F32),
            (WeightFormat::Int8, CacheFormat::F32),
            (WeightFormat::Int4, CacheFormat::F32),
        ],
        Candle => &[
            (WeightFormat::F32, CacheFormat::F32),
            (WeightFormat::Bf16, CacheFormat::F32),
        ],
    }
}

/// Where a backend keeps the token embeddings beside weights of a format. What wgpu finds may be a GPU that shares the host's memory,
/// where they are on the device.
fn table(kind: BackendKind, weights: WeightFormat) -> TablePlacement {
    TablePlacement::of(weights, matches!(kind, BackendKind::Cuda).then_some(true))
}

/// Bytes of a model's parameters on the device where matrices are stored in a format.
pub fn weight_bytes(config: &ModelConfig, format: WeightFormat, table: TablePlacement) -> u64 {
    let tensors = expected_tensors(config);
    let bytes = tensors.iter().map(|tensor| stored_bytes(tensor, format, table));
    bytes.fold(0, u64::saturating_add)
}

/// Bytes of a tensor on the device.
fn stored_bytes(tensor: &ExpectedTensor, format: WeightFormat, table: TablePlacement) -> u64 {
    match tensor.shape.split_first() {
        _ if table == TablePlacement::Host && tensor.field == TOKEN_TABLE => 0,
        Some((&rows, columns)) if tensor.is_matrix() => {
            let columns = columns
                .iter()
                .fold(1, |product: usize, &extent| product.saturating_mul(extent));
            let row = stored_format(&tensor.field, format).row_bytes(columns);
            (rows as u64).saturating_mul(row as u64)
        }
        _ => (tensor.elements() as u64).saturating_mul(4),
    }
}
