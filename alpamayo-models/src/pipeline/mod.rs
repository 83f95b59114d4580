//! From clips to plans, in stages that can be used alone.
//!
//! [`Alpamayo::drive`] is [`preprocess`](Alpamayo::preprocess) → [`encode`](Alpamayo::encode) → [`prefill`](Alpamayo::prefill) →
//! [`generate`](Alpamayo::generate) → [`flow`](Alpamayo::flow) → [`trajectories`](Alpamayo::trajectories). Every stage takes what the
//! one before returns, all of it readable, and an [`Observer`](crate::Observer), `&mut ()` for none.
//!
//! A [`View`] keeps all up to the first word of reasoning: to drive many times from it, and to compare a clip with a perturbed one
//! without computing twice what is the same in both.

mod build;
pub(crate) mod check;
mod decoding;
mod drive;
mod extents;
mod flowing;
mod generate;
mod guard;
mod inputs;
mod kept;
mod next_token;
mod options;
mod plan;
mod prefill;
mod stages;
#[cfg(test)]
mod tests;
mod view;

pub use build::Alpamayo;
pub use generate::Generation;
pub use inputs::{Inputs, Prompt};
pub use options::{BoxedProgress, DriveOptions, LoadOptions};
pub use plan::{Plan, Timings};
pub use prefill::Prefilled;
pub use view::View;
