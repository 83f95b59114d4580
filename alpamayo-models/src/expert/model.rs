//! The expert's layers and projections.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Linear, Norm};
use alpamayo_core::ModelConfig;
use burn::module::Module;
use burn::tensor::backend::Backend;

use super::ActionInProjection;
use super::action_in::ACTION_FEATURES;
use crate::decoder::DecoderLayer;
use crate::error::Result;
use crate::parameters::ParameterSource;

/// The action expert: as many layers as the language model, each reading that layer's cache.
#[derive(Module, Debug)]
pub struct Expert<B: Backend> {
    /// Actions → hidden size.
    pub action_in_proj: ActionInProjection<B>,
    /// Decoder layers.
    pub layers: Vec<DecoderLayer<B>>,
    /// Final RMSNorm.
    pub norm: Norm<B>,
    /// Hidden size → velocity of (acceleration, curvature), with bias.
    pub action_out_proj: Linear<B>,
}

impl<B: ModelBackend> Expert<B> {
    /// Builds the expert from a source's fields `expert.*`, `action_in_proj.*` and `action_out_proj`.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &ModelConfig, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let expert = &config.expert;
        let action_in_proj = ActionInProjection::new(config, source)?;
        let layers = (0..expert.num_hidden_layers)
            .map(|index| DecoderLayer::new(expert, &format!("expert.layers.{index}"), source))
            .collect::<Result<_>>()?;
        Ok(Self {
            action_in_proj,
            layers,
            norm: Norm::Rms(source.rms_norm("expert.norm", expert.hidden_size, expert.rms_norm_eps)?),
            action_out_proj: source.linear("action_out_proj", expert.hidden_size, &[ACTION_FEATURES], true)?,
        })
    }
}
