//! Looking into the model while it runs.

use burn::tensor::{Tensor, backend::Backend};

/// Receives what the stages compute on the way; the reference's own stages, so that outputs can be compared one by one.
///
/// `()` observes nothing. Events lend tensors that stay on the device: an observer that wants to keep one clones it (a handle,
/// no copy) or reads it to the host.
pub trait Observer<B: Backend>: Send {
    /// One value of the model's computation.
    fn observe(&mut self, event: Event<'_, B>) {
        let _ = event;
    }

    /// Whether to compute what nothing but an observer reads: the last layer and the norm of every
    /// prompt token ([`Event::TextLayer`], [`Event::TextNorm`]), and every step's
    /// logits with the trajectory ids masked, also where its token is forced ([`Event::StepLogits`]).
    fn wants_all(&self) -> bool {
        false
    }
}

impl<B: Backend> Observer<B> for () {}

/// A value inside the model. Tensors are `[tokens, features]`, rows of a batch one after another.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a, B: Backend> {
    /// The patch embedding, without the position grid: `[patches, hidden]`.
    PatchEmbedding(&'a Tensor<B, 2>),
    /// A vision block's output `[patches, hidden]`.
    VisionBlock(usize, &'a Tensor<B, 2>),
    /// A deepstack merger's output `[image tokens, text hidden]`.
    Deepstack(usize, &'a Tensor<B, 2>),
    /// The final merger's output `[image tokens, text hidden]`.
    Merger(&'a Tensor<B, 2>),
    /// The prompt's embeddings with the image tokens in place, `[clips · length, hidden]`.
    PromptEmbedding(&'a Tensor<B, 2>),
    /// A decoder layer's output during prefill, before the deepstack addition, `[clips · length, hidden]`; the last layer's is that of
    /// each prompt's last token, `[clips, hidden]`, unless the observer wants all.
    TextLayer(usize, &'a Tensor<B, 2>),
    /// The final norm of every prompt token `[clips · length, hidden]`; only where the observer wants all.
    TextNorm(&'a Tensor<B, 2>),
    /// Logits after each prompt's last token `[clips, vocabulary]`, trajectory ids unmasked.
    LastLogits(&'a Tensor<B, 2>),
    /// Logits that a step's tokens are chosen from, `[rows, vocabulary]` on the host, before temperature, trajectory ids -inf; only
    /// where the observer wants all.
    StepLogits(usize, &'a [f32]),
    /// The expert's input at a flow step `[rows · waypoints, expert hidden]`.
    ActionInProjection(usize, &'a Tensor<B, 2>),
    /// The expert's final norm at a flow step `[rows · waypoints, expert hidden]`.
    ExpertHidden(usize, &'a Tensor<B, 2>),
    /// The noisy actions before a flow step `[rows · waypoints, 2]`.
    FlowState(usize, &'a Tensor<B, 2>),
    /// The velocity at a flow step `[rows · waypoints, 2]`.
    FlowVelocity(usize, &'a Tensor<B, 2>),
}
