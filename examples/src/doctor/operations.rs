//! Every operation against a host reference.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::WeightFormat;
use alpamayo_backends::verify::{Formats, ModelShapes, verify};
use serde::{Deserialize, Serialize};

use super::Outcome;

/// One operation at one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationCheck {
    /// The operation.
    pub operation: String,
    /// The shape.
    pub shape: String,
    /// Relative L2 error; nothing where a value wasn't finite.
    pub relative_error: Option<f64>,
    /// The largest error that passes.
    pub tolerance: f64,
    /// Whether it passed.
    pub passed: bool,
}

/// Runs every operation of a backend, with the cache that a model of these weights has there.
pub fn check<B: ModelBackend>(
    shapes: &ModelShapes,
    weight: WeightFormat,
    device: &B::Device,
) -> Outcome<Vec<OperationCheck>> {
    let formats = Formats {
        weight,
        cache: B::default_cache_format(weight, device),
    };
    Outcome::of(|| {
        let checks = verify::<B>(shapes, formats, device)?;
        Ok(checks
            .into_iter()
            .map(|check| OperationCheck {
                passed: check.passed(),
                operation: check.operation.to_owned(),
                shape: check.shape,
                relative_error: check.relative_error.is_finite().then_some(check.relative_error),
                tolerance: check.tolerance,
            })
            .collect())
    })
}
