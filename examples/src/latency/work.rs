//! The arithmetic and the bytes of each stage.

use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_core::{DecoderConfig, ModelConfig};
use alpamayo_models::storage::stored_format;
use serde::Serialize;

use super::Ceilings;

/// What a stage has to do, however it is done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Work {
    /// Floating-point operations of products and attentions; a multiplication with an addition is two.
    pub operations: f64,
    /// Bytes of weights and cache, each read once.
    pub bytes: f64,
}

/// Extents of a measurement.
#[derive(Debug, Clone)]
pub struct Extents<'a> {
    /// Sizes of the model.
    pub config: &'a ModelConfig,
    /// Patches of each image.
    pub image_patches: Vec<usize>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Rows.
    pub rows: usize,
    /// Tokens of reasoning.
    pub tokens: usize,
    /// How weights are stored.
    pub weights: WeightFormat,
    /// How the cache is stored.
    pub cache: CacheFormat,
}

impl Work {
    /// Seconds that a device with these ceilings needs at least.
    pub fn floor(&self, ceilings: &Ceilings) -> f64 {
        (self.operations / ceilings.operations_per_second).max(self.bytes / ceilings.bytes_per_second)
    }

    fn new(operations: usize, bytes: f64) -> Self {
        Self {
            operations: operations as f64,
            bytes,
        }
    }
}

impl Extents<'_> {
    /// The vision tower.
    pub fn encode(&self) -> Work {
        let vision = &self.config.vision;
        let patches: usize = self.image_patches.iter().sum();
        let hidden = vision.hidden_size;
        let cell = hidden * vision.spatial_merge_size.pow(2);
        let block = 4 * hidden * hidden + 2 * hidden * vision.intermediate_size;
        let merger = cell * cell + cell * vision.out_hidden_size;
        let mergers = vision.deepstack_visual_indexes.len() + 1;
        let products = patches * (vision.depth * block + vision.patch_values() * hidden)
            + patches / vision.spatial_merge_size.pow(2) * mergers * merger;
        let pairs: usize = self.image_patches.iter().map(|patches| patches * patches).sum();
        let weights = vision.depth * block + vision.patch_values() * hidden + mergers * merger;
        Work::new(
            2 * products + 4 * pairs * hidden * vision.depth,
            self.weight_bytes(weights),
        )
    }

    /// The prompt through the decoder.
    pub fn prefill(&self) -> Work {
        let text = &self.config.text;
        let weights = text.num_hidden_layers * layer_weights(text);
        let head = self.config.vocab_size * text.hidden_size;
        let attention = 2 * self.prompt * self.prompt * text.num_attention_heads * text.head_dim;
        Work::new(
            2 * (self.prompt * weights + head) + text.num_hidden_layers * attention,
            self.weight_bytes(weights + head),
        )
    }

    /// One token of every row, at the middle of the reasoning.
    pub fn decode(&self) -> Work {
        let text = &self.config.text;
        let layers = text.num_hidden_layers * layer_weights(text);
        let head = self.config.vocab_size * text.hidden_size;
        let suffix = self.tokens / 2;
        let visible = self.rows * (self.prompt + suffix);
        let attention = 4 * visible * text.num_attention_heads * text.head_dim * text.num_hidden_layers;
        Work::new(
            2 * self.rows * (layers + head) + attention,
            self.weight_bytes(layers)
                + head as f64 * stored_format("decoder.lm_head", self.weights).bytes_per_weight()
                + self.cache_bytes(text, self.prompt + self.rows * suffix),
        )
    }

    /// One step of the flow.
    pub fn flow(&self) -> Work {
        let expert = &self.config.expert;
        let weights = expert.num_hidden_layers * layer_weights(expert);
        let queries = self.rows * self.config.action_space.n_waypoints;
        let visible = self.prompt + self.tokens + self.config.action_space.n_waypoints;
        let attention = 4 * queries * visible * expert.num_attention_heads * expert.head_dim * expert.num_hidden_layers;
        Work::new(
            2 * queries * weights + attention,
            self.weight_bytes(weights) + self.cache_bytes(expert, self.prompt + self.rows * self.tokens),
        )
    }

    fn weight_bytes(&self, weights: usize) -> f64 {
        weights as f64 * self.weights.bytes_per_weight()
    }

    fn cache_bytes(&self, decoder: &DecoderConfig, tokens: usize) -> f64 {
        let element = match self.cache {
            CacheFormat::F32 => 4,
            CacheFormat::Bf16 => 2,
        };
        (2 * tokens * decoder.num_key_value_heads * decoder.head_dim * decoder.num_hidden_layers * element) as f64
    }
}

/// Weights of a layer's products.
fn layer_weights(decoder: &DecoderConfig) -> usize {
    let heads = 2 * decoder.num_attention_heads + 2 * decoder.num_key_value_heads;
    decoder.hidden_size * (heads * decoder.head_dim + 3 * decoder.intermediate_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The released model's figures, counted by hand from its sizes.
    #[test]
    fn the_released_model_reads_15_gigabytes_per_token() {
        let config = ModelConfig::from_json(
            include_str!("../../data/r1-10b/config.json"),
            include_str!("../../data/r1-10b/backbone.json"),
        )
        .unwrap();
        let extents = Extents {
            config: &config,
            image_patches: vec![720; 16],
            prompt: 3006,
            rows: 1,
            tokens: 0,
            weights: WeightFormat::Bf16,
            cache: CacheFormat::Bf16,
        };
        // 36 layers of 192,937,984 weights (without norms) and 155,697 x 4096 of the head; 147,456 bytes of cache per token.
        let weights = 36.0 * 192_937_984.0 + 155_697.0 * 4096.0;
        assert_eq!(extents.decode().bytes, 2.0 * weights + 3006.0 * 147_456.0);
        // Design figures: 56 ms of prefill and 14 ms of encode at 798 TFLOP/s.
        assert!((extents.prefill().operations / 798e12 - 0.056).abs() < 0.002);
        assert!((extents.encode().operations / 798e12 - 0.014).abs() < 0.001);
    }
}
