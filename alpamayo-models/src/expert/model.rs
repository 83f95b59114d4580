//! The expert's layers and projections.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{ActionTokens, Activation, Linear, Norm};
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

/// Layers that are recorded at a time where a backend records them: while it records some, the device is busy with those before.
const LAYERS_OF_PART: usize = 9;

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
    /// The action tokens of every row.
    pub tokens: ActionTokens<B>,
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
        let parts = self.layers.len().div_ceil(LAYERS_OF_PART).max(1);
        let x = repetition.run(x, parts, &mut |part, x| self.hidden(part * LAYERS_OF_PART, x, context));
        observer.observe(Event::ExpertHidden(step, &x));
        B::project(x, &self.action_out_proj, Activation::None)
    }

    /// One part of the layers, and the final norm behind the last of them: `[rows · waypoints, hidden]`.
    fn hidden(&self, first: usize, mut x: Tensor<B, 2>, context: &ExpertContext<'_, B>) -> Tensor<B, 2> {
        let end = (first + LAYERS_OF_PART).min(self.layers.len());
        let layers = self.layers.get(first..end).unwrap_or_default();
        let (caches, tokens) = (context.cache.layers.iter().skip(first), &context.tokens);
        let mut projected = None;
        for (index, (layer, cache)) in layers.iter().zip(caches).enumerate() {
            let next = layers.get(index + 1);
            (x, projected) = layer.expert(x, projected, &tokens.rotary, cache, &tokens.suffix_lengths, next);
        }
        if end == self.layers.len() {
            x = B::normalize(x, &self.norm);
        }
        x
    }
}
