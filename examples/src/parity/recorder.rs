//! Keeps what the model computes on the way, under the golden tensors' names.

use std::collections::BTreeMap;

use alpamayo_backends::ModelBackend;
use alpamayo_models::{Event, Observer};
use burn::tensor::Tensor;

/// Tensors by golden name, on the host.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) tensors: BTreeMap<String, Vec<f64>>,
    /// `[steps][rows · vocabulary]`.
    pub(super) step_logits: Vec<Vec<f32>>,
}

impl Recorder {
    fn keep<B: ModelBackend, const D: usize>(&mut self, name: impl Into<String>, tensor: &Tensor<B, D>) {
        self.tensors.insert(name.into(), host(tensor));
    }
}

/// A tensor's elements on the host.
pub(super) fn host<B: ModelBackend, const D: usize>(tensor: &Tensor<B, D>) -> Vec<f64> {
    tensor.to_data().iter::<f32>().map(f64::from).collect()
}

impl<B: ModelBackend> Observer<B> for Recorder {
    fn observe(&mut self, event: Event<'_, B>) {
        match event {
            Event::PatchEmbedding(x) => self.keep("vision.patch_embed", x),
            Event::VisionBlock(index, x) => self.keep(format!("vision.blocks.{index}"), x),
            Event::Deepstack(index, x) => self.keep(format!("vision.deepstack.{index}"), x),
            Event::Merger(x) => self.keep("vision.merger", x),
            Event::TextLayer(index, x) => self.keep(format!("text.layers.{index}"), x),
            Event::TextNorm(x) => self.keep("text.norm", x),
            Event::LastLogits(x) => self.keep("text.last_logits", x),
            Event::StepLogits(_, logits) => self.step_logits.push(logits.to_vec()),
            Event::ActionInProjection(0, x) => self.keep("expert.action_in_proj", x),
            Event::ExpertHidden(0, x) => self.keep("expert.last_hidden", x),
            Event::FlowState(_, x) => self.tensors.entry("flow.x".into()).or_default().extend(host(x)),
            _ => {}
        }
    }

    fn wants_all(&self) -> bool {
        true
    }
}
