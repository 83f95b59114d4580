//! The action expert: a second decoder that reads the language model's cache and predicts the flow's velocity.

mod action_in;
mod model;

#[cfg(test)]
mod tests;

pub(crate) use action_in::ACTION_FEATURES;
pub use action_in::ActionInProjection;
pub use model::{Expert, ExpertContext};
