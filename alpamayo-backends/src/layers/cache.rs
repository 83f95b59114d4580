//! The key-value cache: a prompt part shared by all samples of a clip, and a suffix per row.

use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheFormat {
    /// f32 elements.
    F32,
    /// bf16 elements, where the backend stores them.
    Bf16,
}

impl CacheFormat {
    /// The name shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// The extents of a layer's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// Clips in the batch.
    pub clips: usize,
    /// Rows generated per clip; row = clip · samples + sample.
    pub samples: usize,
    /// Prompt tokens per clip.
    pub prompt_length: usize,
    /// Most tokens that a row may generate.
    pub suffix_capacity: usize,
    /// Key-value heads.
    pub num_key_value_heads: usize,
    /// Features per head.
    pub head_dim: usize,
    /// Element format.
    pub format: CacheFormat,
}

/// Keys (after norm and rotation) and values, `[entries, num_key_value_heads, capacity, head_dim]`; anything where none were written.
#[derive(Debug, Clone)]
pub struct KeyValue<B: Backend> {
    /// Keys.
    pub key: Tensor<B, 4>,
    /// Values.
    pub value: Tensor<B, 4>,
}

impl<B: Backend> KeyValue<B> {
    fn empty(shape: [usize; 4], dtype: DType, device: &B::Device) -> Self {
        let empty = || Tensor::empty(shape, (device, dtype));
        Self {
            key: empty(),
            value: empty(),
        }
    }
}

/// One decoder layer's cache, allocated once and written in place.
///
/// The prompt's keys and values exist once per clip however many rows read them.
#[derive(Debug, Clone)]
pub struct LayerCache<B: Backend> {
    /// `[clips, num_key_value_heads, prompt_length, head_dim]`.
    pub prompt: KeyValue<B>,
    /// `[rows, num_key_value_heads, suffix_capacity, head_dim]`.
    pub suffix: KeyValue<B>,
}

impl<B: Backend> LayerCache<B> {
    /// Allocates a cache of the given extents.
    pub fn new(config: &CacheConfig, device: &B::Device) -> Self {
        let CacheConfig {
            clips,
            samples,
            num_key_value_heads: heads,
            head_dim,
            format,
            ..
        } = *config;
        Self {
            prompt: KeyValue::empty([clips, heads, config.prompt_length, head_dim], format.dtype(), device),
            suffix: KeyValue::empty(
                [clips * samples, heads, config.suffix_capacity, head_dim],
                format.dtype(),
                device,
            ),
        }
    }

    /// Clips that the prompt part holds.
    pub fn clips(&self) -> usize {
        self.prompt.key.dims()[0]
    }

    /// Rows that the suffix part holds.
    pub fn rows(&self) -> usize {
        self.suffix.key.dims()[0]
    }

    /// Rows that share one clip's prompt.
    pub fn samples(&self) -> usize {
        self.rows() / self.clips().max(1)
    }

    /// Prompt tokens per clip.
    pub fn prompt_length(&self) -> usize {
        self.prompt.key.dims()[2]
    }

    /// Another cache over the same prompt part with a fresh suffix of `samples` rows per clip and the given capacity.
    ///
    /// The prompt's keys and values are shared, not copied.
    pub fn branch(&self, samples: usize, suffix_capacity: usize) -> Self {
        let [clips, heads, _, head_dim] = self.prompt.key.dims();
        Self {
            prompt: self.prompt.clone(),
            suffix: KeyValue::empty(
                [clips * samples, heads, suffix_capacity, head_dim],
                self.prompt.key.dtype(),
                &self.prompt.key.device(),
            ),
        }
    }
}

/// How many suffix tokens of each row are visible, on the host and on the device.
#[derive(Debug, Clone)]
pub struct RowLengths<B: Backend> {
    host: Vec<usize>,
    device: Tensor<B, 1, Int>,
    longest: usize,
}

impl<B: Backend> RowLengths<B> {
    /// One length per row.
    pub fn new(lengths: Vec<usize>, device: &B::Device) -> Self {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        Self::within(longest, lengths, device)
    }

    /// One length per row, none of them more than `longest`.
    pub fn within(longest: usize, lengths: Vec<usize>, device: &B::Device) -> Self {
        let data: Vec<i32> = lengths.iter().map(|&length| length as i32).collect();
        let rows = data.len();
        Self {
            host: lengths,
            // The backend's own integer type: Candle takes no other from the host.
            device: Tensor::from_data(TensorData::new(data, [rows]), device),
            longest,
        }
    }

    /// The same lengths where the device has them in other memory.
    #[cfg(feature = "cubecl")]
    pub(crate) fn moved_to(self, device: Tensor<B, 1, Int>) -> Self {
        Self { device, ..self }
    }

    /// The lengths on the host.
    pub fn host(&self) -> &[usize] {
        &self.host
    }

    /// What no length exceeds: work is cut by it, so that the same work suits all lengths up to it.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The lengths on the device, `[rows]`, the backend's integer type.
    pub fn device(&self) -> &Tensor<B, 1, Int> {
        &self.device
    }
}
