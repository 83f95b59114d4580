//! The action expert's layers, as they can be repeated over one cache.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::ActionTokens;
use alpamayo_backends::repetition::Repetition;
use burn::tensor::backend::Backend;

/// What is done the same for every step of a plan's flow.
pub(super) struct Flowing<B: Backend> {
    /// The memory that tells the layers which plan it is.
    pub tokens: ActionTokens<B>,
    /// Of the layers.
    pub repetition: Box<dyn Repetition<B>>,
}

impl<B: ModelBackend> Flowing<B> {
    /// A plan's flow by what was recorded for the one before, where that can be repeated for these tokens; otherwise anew.
    pub fn of(tokens: ActionTokens<B>, before: Option<Self>) -> Self {
        let before = before.filter(|before| before.tokens.is_like(&tokens));
        let moved = before.and_then(|before| {
            Some(Self {
                tokens: B::move_action_tokens(tokens.clone(), before.tokens)?,
                repetition: before.repetition,
            })
        });
        moved.unwrap_or_else(|| Self {
            tokens,
            repetition: B::repetition(),
        })
    }
}
