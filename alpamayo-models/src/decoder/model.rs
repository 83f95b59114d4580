//! The decoder with its embedding table and its head.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Linear, Norm, Weight};
use alpamayo_core::DecoderConfig;
use burn::module::Module;
use burn::tensor::backend::Backend;

use super::DecoderLayer;
use crate::error::Result;
use crate::parameters::ParameterSource;

/// The backbone's language model.
#[derive(Module, Debug)]
pub struct Decoder<B: Backend> {
    /// Token embeddings `[vocabulary, hidden]`.
    pub embed_tokens: Weight<B>,
    /// Decoder layers.
    pub layers: Vec<DecoderLayer<B>>,
    /// Final RMSNorm.
    pub norm: Norm<B>,
    /// Hidden state → logits, `[vocabulary, hidden]`.
    pub lm_head: Linear<B>,
}

impl<B: ModelBackend> Decoder<B> {
    /// Builds the decoder from a source's fields `decoder.*`.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &DecoderConfig, vocab_size: usize, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let hidden = config.hidden_size;
        let embed_tokens = source.embedding("decoder.embed_tokens", vocab_size, hidden)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| DecoderLayer::new(config, &format!("decoder.layers.{index}"), source))
            .collect::<Result<_>>()?;
        Ok(Self {
            embed_tokens,
            layers,
            norm: Norm::Rms(source.rms_norm("decoder.norm", hidden, config.rms_norm_eps)?),
            lm_head: source.linear("decoder.lm_head", hidden, &[vocab_size], false)?,
        })
    }
}
