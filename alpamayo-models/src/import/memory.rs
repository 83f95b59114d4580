//! How much device memory a model needs, computed from its configuration.

use alpamayo_backends::BackendKind;
use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_core::ModelConfig;
use serde::Serialize;

use super::layout::{ExpectedTensor, Part, expected_tensors};

/// Images of one clip: four cameras, four frames each.
const IMAGES: usize = 16;
/// Tokens of the prompt's words, generously; the rest of a prompt is images and history.
const WORDS: usize = 64;
/// The largest storage binding of Vulkan, Metal and WebGPU as wgpu gives it: 2³¹ - 1 bytes.
const LARGEST_BINDING: u64 = (1 << 31) - 1;

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
            prompt_tokens: IMAGES.saturating_mul(tokens_per_image) + config.tokens_per_history_traj + WORDS,
            generated_tokens: 256,
        }
    }

    /// Bytes of the cache: keys and values of all layers, the prompt once per clip.
    pub fn cache_bytes(&self, config: &ModelConfig, format: CacheFormat) -> u64 {
        let text = &config.text;
        let tokens = self.clips * (self.prompt_tokens + self.samples * self.generated_tokens);
        let values_per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim;
        let size = match format {
            CacheFormat::F32 => 4,
            CacheFormat::Bf16 => 2,
        };
        (tokens * values_per_token * size) as u64
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
    /// Bytes of all parameters.
    pub weight_bytes: u64,
    /// Bytes of the key-value cache.
    pub cache_bytes: u64,
    /// Why this can't work, where it can't.
    pub obstacle: Option<String>,
}

impl MemoryNeed {
    /// Weights and cache. Activations come on top: below a tenth of the weights at the released size in bf16.
    pub fn total_bytes(&self) -> u64 {
        self.weight_bytes + self.cache_bytes
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
            weights: format_name(weights),
            cache: match cache {
                CacheFormat::F32 => "f32",
                CacheFormat::Bf16 => "bf16",
            },
            weight_bytes: tensors.iter().map(|tensor| stored_bytes(tensor, weights)).sum(),
            cache_bytes: workload.cache_bytes(config, cache),
            obstacle: obstacle(kind, weights, &tensors),
        })
        .collect()
}

/// The precisions worth telling of a backend: weights and cache.
fn precisions(kind: BackendKind) -> &'static [(WeightFormat, CacheFormat)] {
    use BackendKind::{Candle, CandleCuda, CandleMetal, Cpu, Cuda, Metal, Vulkan, WebGpu};
    match kind {
        Cuda | CandleCuda | CandleMetal => &[
            (WeightFormat::Bf16, CacheFormat::Bf16),
            (WeightFormat::F32, CacheFormat::F32),
        ],
        Metal | Vulkan | WebGpu | Cpu | Candle => &[
            (WeightFormat::Bf16, CacheFormat::F32),
            (WeightFormat::F32, CacheFormat::F32),
        ],
    }
}

fn format_name(format: WeightFormat) -> &'static str {
    match format {
        WeightFormat::F32 => "f32",
        WeightFormat::F16 => "f16",
        WeightFormat::Bf16 => "bf16",
        _ => "other",
    }
}

/// Bytes of a tensor on the device.
fn stored_bytes(tensor: &ExpectedTensor, format: WeightFormat) -> u64 {
    let matrix = tensor.shape.len() > 1 && tensor.part != Part::Buffers;
    let size = match format {
        WeightFormat::F16 | WeightFormat::Bf16 if matrix => 2,
        _ => 4,
    };
    tensor.elements() as u64 * size
}

fn obstacle(kind: BackendKind, format: WeightFormat, tensors: &[ExpectedTensor]) -> Option<String> {
    if !matches!(kind, BackendKind::Metal | BackendKind::Vulkan | BackendKind::WebGpu) {
        return None;
    }
    let largest = tensors.iter().max_by_key(|tensor| stored_bytes(tensor, format))?;
    let bytes = stored_bytes(largest, format);
    (bytes > LARGEST_BINDING).then(|| {
        format!(
            "`{}` would take {bytes} bytes, more than a kernel can bind ({LARGEST_BINDING})",
            largest.name
        )
    })
}
