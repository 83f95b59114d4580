//! The expert's layers and projections.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Activation, Linear, Norm, Rotary, RowLengths};
use alpamayo_backends::repetition::Repetition;
use alpamayo_core::ModelConfig;
use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use super::ActionInProjection;
use super::action_in::ACTION_FEATURES;
use crate::cache::KeyValueCache;
use crate::decoder::{DecoderLayer, MultimodalRope};
use crate::error::Result;
use crate::observer::{Event, Observer};
use crate::parameters::ParameterSource;

/// The action expert: as many layers as the language model, each reading that layer's cache.
#[derive(Module, Debug)]
pub struct Expert<B: Backend> {
    /// Decoder layers.
    pub layers: Vec<DecoderLayer<B>>,
    /// Final RMSNorm.
    pub norm: Norm<B>,
    /// Actions → hidden size.
    pub action_in_proj: ActionInProjection<B>,
    /// Hidden size → velocity of (acceleration, curvature), with bias.
    pub action_out_proj: Linear<B>,
    /// Rotation of queries and keys.
    #[module(skip)]
    pub rope: MultimodalRope,
}

/// What the action tokens see while the flow runs; the same for every step.
#[derive(Debug)]
pub struct ExpertContext<'a, B: Backend> {
    /// The language model's cache, only read.
    pub cache: &'a KeyValueCache<B>,
    /// How many tokens of each row's suffix are visible.
    pub suffix_lengths: RowLengths<B>,
    /// Rotation of the action tokens, one row per action token of every row.
    pub rotary: Rotary<B>,
}

impl<B: ModelBackend> Expert<B> {
    /// Builds the expert from a source's fields `expert.*`, `action_in_proj.*` and `action_out_proj`.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &ModelConfig, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let expert = &config.expert;
        let layers = (0..expert.num_hidden_layers)
            .map(|index| DecoderLayer::new(expert, &format!("expert.layers.{index}"), source))
            .collect::<Result<_>>()?;
        Ok(Self {
            layers,
            norm: Norm::Rms(source.rms_norm("expert.norm", expert.hidden_size, expert.rms_norm_eps)?),
            action_in_proj: ActionInProjection::new(config, source)?,
            action_out_proj: source.linear("action_out_proj", expert.hidden_size, &[ACTION_FEATURES], true)?,
            rope: MultimodalRope::new(expert),
        })
    }

    /// The velocity of noisy actions `x` `[rows · waypoints, 2]` at flow time `time` in [0, 1]: `[rows · waypoints, 2]`.
    ///
    /// `step` only names the step for the observer. `repetition` is that of the steps over this context.
    pub fn velocity(
        &self,
        step: usize,
        x: Tensor<B, 2>,
        time: f32,
        context: &ExpertContext<'_, B>,
        repetition: &mut dyn Repetition<B>,
        observer: &mut dyn Observer<B>,
    ) -> Tensor<B, 2> {
        let x = self.action_in_proj.forward(x, time);
        observer.observe(Event::ActionInProjection(step, &x));
        // The time is in `x`: from here on every step does the same.
        let x = repetition.run(x, &mut |x| self.hidden(x, context));
        observer.observe(Event::ExpertHidden(step, &x));
        B::project(x, &self.action_out_proj, Activation::None)
    }

    /// The layers and the final norm, `[rows · waypoints, hidden]`.
    fn hidden(&self, mut x: Tensor<B, 2>, context: &ExpertContext<'_, B>) -> Tensor<B, 2> {
        for (layer, cache) in self.layers.iter().zip(&context.cache.layers) {
            x = layer.expert(x, &context.rotary, cache, &context.suffix_lengths);
        }
        B::normalize(x, &self.norm)
    }
}
