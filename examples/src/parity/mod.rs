//! Comparing this implementation with golden values of the reference, tensor by tensor.
//!
//! A case directory holds a small checkpoint, the inputs and every stage's outputs ([`run_case`]); a domain directory values of
//! everything around the network ([`run_domain`]).

mod case;
mod compare;
mod domain;
mod golden;
mod recorder;

pub use case::{CaseSettings, run_case};
pub use compare::{Comparison, Report, Tolerance};
pub use domain::run_domain;
pub use golden::{Golden, Values};

/// What can go wrong before anything is compared.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Nine numbers as a matrix.
fn rotation<T: Copy>(values: &[T; 9]) -> [[T; 3]; 3] {
    let [a, b, c, d, e, f, g, h, i] = *values;
    [[a, b, c], [d, e, f], [g, h, i]]
}
