//! The decoder's key-value cache, one [`LayerCache`] per layer.

use alpamayo_backends::layers::{CacheConfig, CacheFormat, LayerCache};
use alpamayo_core::DecoderConfig;
use burn::tensor::{Tensor, backend::Backend};

use crate::error::{Error, Result};

/// Keys and values of all layers: each clip's prompt once, and a suffix of generated tokens per row.
///
/// Rows are ordered clip first: row = clip · samples + sample. Cloning shares the device's memory.
#[derive(Debug, Clone)]
pub struct KeyValueCache<B: Backend> {
    /// One cache per decoder layer.
    pub layers: Vec<LayerCache<B>>,
}

impl<B: Backend> KeyValueCache<B> {
    /// An empty cache for the prompts of `clips` clips, `prompt_length` tokens each, and next to no suffix:
    /// [`branch`](Self::branch) makes one.
    pub fn for_prompts(
        config: &DecoderConfig,
        clips: usize,
        prompt_length: usize,
        format: CacheFormat,
        device: &B::Device,
    ) -> Self {
        let config_of_layer = CacheConfig {
            clips,
            samples: 1,
            prompt_length,
            // Not every backend knows empty tensors.
            suffix_capacity: 1,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            format,
        };
        let layers = (0..config.num_hidden_layers)
            .map(|_| LayerCache::new(&config_of_layer, device))
            .collect();
        Self { layers }
    }

    /// Another cache over the same prompts with a fresh suffix: `samples` rows per clip, up to `suffix_capacity` tokens each.
    ///
    /// The prompts' keys and values are shared, not copied.
    pub fn branch(&self, samples: usize, suffix_capacity: usize) -> Self {
        let branch = |layer: &LayerCache<B>| layer.branch(samples, suffix_capacity.max(1));
        Self {
            layers: self.layers.iter().map(branch).collect(),
        }
    }

    /// Clips in the batch.
    pub fn clips(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::clips)
    }

    /// Rows that share one clip's prompt.
    pub fn samples(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::samples)
    }

    /// Rows in the batch: clips · samples.
    pub fn rows(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::rows)
    }

    /// Prompt tokens per clip.
    pub fn prompt_length(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::prompt_length)
    }

    /// Generated tokens that a row has place for.
    pub fn suffix_capacity(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.suffix.key.dims()[2])
    }

    /// Compares the cache with the decoder that reads it: kernels take its extents on trust.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first layer that is not as the others, or not as the decoder's.
    pub(crate) fn check(&self, config: &DecoderConfig) -> Result<()> {
        let reject = |reason| {
            Err(Error::Argument {
                argument: "cache",
                reason,
            })
        };
        let layers = config.num_hidden_layers;
        if self.layers.len() != layers || self.clips() == 0 || !self.rows().is_multiple_of(self.clips()) {
            return reject(format!(
                "{} layers, {} rows and {} clips for a decoder of {layers} layers",
                self.layers.len(),
                self.rows(),
                self.clips()
            ));
        }
        let heads = config.num_key_value_heads;
        let shape = |entries, length| [entries, heads, length, config.head_dim];
        let prompt = shape(self.clips(), self.prompt_length());
        let suffix = shape(self.rows(), self.suffix_capacity());
        for (index, layer) in self.layers.iter().enumerate() {
            let found = [
                &layer.prompt.key,
                &layer.prompt.value,
                &layer.suffix.key,
                &layer.suffix.value,
            ]
            .map(Tensor::dims);
            if found != [prompt, prompt, suffix, suffix] {
                return reject(format!(
                    "layer {index} holds {found:?} where {prompt:?} and {suffix:?} are needed"
                ));
            }
        }
        Ok(())
    }
}
