//! The decoder with its embedding table and its head.

use std::ops::Range;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Linear, Norm, Rotary, SuffixPosition};
use alpamayo_backends::repetition::Repetition;
use alpamayo_core::DecoderConfig;
use burn::module::Module;
use burn::tensor::{Int, Tensor, backend::Backend};

use super::{DecoderLayer, MultimodalRope};
use crate::cache::KeyValueCache;
use crate::error::Result;
use crate::host::select_rows;
use crate::observer::{Event, Observer};
use crate::parameters::ParameterSource;
use crate::storage::TOKEN_TABLE;
use crate::token_table::TokenTable;

/// The backbone's language model.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// Token embeddings `[vocabulary, hidden]`.
    pub embed_tokens: TokenTable<B>,
    /// Decoder layers.
    pub layers: Vec<DecoderLayer<B>>,
    /// Final RMSNorm.
    pub norm: Norm<B>,
    /// Hidden state → logits, `[vocabulary, hidden]`.
    pub lm_head: Linear<B>,
    /// Rotation of queries and keys.
    #[module(skip)]
    pub rope: MultimodalRope,
}

/// Where a prompt's image tokens are, and what is added there after the first layers.
#[derive(Debug, Clone)]
pub struct DeepstackAdditions<B: Backend> {
    /// Rows of the image tokens in `[clips · length]`, each once.
    pub rows: Tensor<B, 1, Int>,
    /// `[image tokens, hidden]`, the i-th after layer i.
    pub values: Vec<Tensor<B, 2>>,
}

impl<B: ModelBackend> Decoder<B> {
    /// Builds the decoder from a source's fields `decoder.*`.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &DecoderConfig, vocab_size: usize, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let hidden = config.hidden_size;
        let embed_tokens = source.token_table(TOKEN_TABLE, vocab_size, hidden)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| DecoderLayer::new(config, &format!("decoder.layers.{index}"), source))
            .collect::<Result<_>>()?;
        Ok(Self {
            embed_tokens,
            layers,
            norm: Norm::Rms(source.rms_norm("decoder.norm", hidden, config.rms_norm_eps)?),
            lm_head: source.linear("decoder.lm_head", hidden, &[vocab_size], false)?,
            rope: MultimodalRope::new(config),
        })
    }

    /// Embeddings of token ids: `[ids, hidden]`.
    pub fn embed(&self, ids: &[u32], device: &B::Device) -> Tensor<B, 2> {
        self.embed_tokens.embed(ids, device)
    }

    /// Runs whole prompts `[clips · length, hidden]` through all layers and fills the cache's prompt part.
    ///
    /// Returns the last layer's output `[clips · length, hidden]`, before the final norm.
    pub fn prefill(
        &self,
        mut x: Tensor<B, 2>,
        rotary: &Rotary<B>,
        cache: &mut KeyValueCache<B>,
        deepstack: &DeepstackAdditions<B>,
        observer: &mut dyn Observer<B>,
    ) -> Tensor<B, 2> {
        for index in 0..self.layers.len() {
            x = self.prefill_layer(index, x, rotary, cache, deepstack, observer);
        }
        x
    }

    /// As [`prefill`](Self::prefill), with the last layer's output of the given rows only: `[rows, hidden]`.
    ///
    /// The observer is shown the last layer's output for these rows.
    pub fn prefill_rows(
        &self,
        mut x: Tensor<B, 2>,
        rotary: &Rotary<B>,
        cache: &mut KeyValueCache<B>,
        deepstack: &DeepstackAdditions<B>,
        rows: &[usize],
        observer: &mut dyn Observer<B>,
    ) -> Tensor<B, 2> {
        let last = self.layers.len().saturating_sub(1);
        for index in 0..last {
            x = self.prefill_layer(index, x, rotary, cache, deepstack, observer);
        }
        match (self.layers.get(last), cache.layers.get_mut(last)) {
            // What is added behind a layer is added to all rows.
            (Some(layer), Some(cache)) if deepstack.values.len() <= last => {
                let x = layer.prefill_rows(x, rotary, &mut cache.prompt, rows);
                observer.observe(Event::TextLayer(last, &x));
                x
            }
            (Some(_), _) => {
                let x = self.prefill_layer(last, x, rotary, cache, deepstack, observer);
                select_rows(x, rows.iter().copied())
            }
            (None, _) => select_rows(x, rows.iter().copied()),
        }
    }

    fn prefill_layer(
        &self,
        index: usize,
        x: Tensor<B, 2>,
        rotary: &Rotary<B>,
        cache: &mut KeyValueCache<B>,
        deepstack: &DeepstackAdditions<B>,
        observer: &mut dyn Observer<B>,
    ) -> Tensor<B, 2> {
        let x = self.layers[index].prefill(x, rotary, &mut cache.layers[index].prompt);
        observer.observe(Event::TextLayer(index, &x));
        match deepstack.values.get(index) {
            Some(values) => B::add_rows(x, deepstack.rows.clone(), values.clone()),
            None => x,
        }
    }

    /// Runs the next tokens of every row `[rows · tokens, hidden]` and writes the cache's suffixes from `position` on.
    ///
    /// Returns the last layer's output `[rows · tokens, hidden]`, before the final norm.
    pub fn decode(
        &self,
        x: Tensor<B, 2>,
        rotary: &Rotary<B>,
        cache: &mut KeyValueCache<B>,
        position: &SuffixPosition<B>,
    ) -> Tensor<B, 2> {
        self.decode_layers(0..self.layers.len(), x, rotary, cache, position)
    }

    /// As [`decode`](Self::decode), through some of the layers: returns the output of the last of them.
    pub fn decode_layers(
        &self,
        layers: Range<usize>,
        mut x: Tensor<B, 2>,
        rotary: &Rotary<B>,
        cache: &mut KeyValueCache<B>,
        position: &SuffixPosition<B>,
    ) -> Tensor<B, 2> {
        let caches = cache.layers.iter_mut().skip(layers.start);
        let layers = self.layers.get(layers).unwrap_or_default();
        let mut projected = None;
        for (index, (layer, cache)) in layers.iter().zip(caches).enumerate() {
            let next = layers.get(index + 1);
            (x, projected) = layer.decode(x, projected, rotary, cache, position, next);
        }
        x
    }

    /// A repetition of some of the layers for one token per row, step by step.
    pub fn repetition(&self) -> Box<dyn Repetition<B>> {
        match self.layers.first() {
            Some(layer) => B::decode_repetition(&layer.attention),
            None => B::repetition(),
        }
    }

    /// Logits of the given hidden states (before the final norm): `[tokens, hidden]` → `[tokens, vocabulary]`.
    pub fn logits(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::norm_logits(x, &self.norm, &self.lm_head)
    }
}
