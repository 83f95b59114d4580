//! The `_target_` class paths by which a configuration says which implementation is meant.

use super::fields::Fields;
use crate::{Error, Result};

/// The Python packages the reference has been published as: Alpamayo-R1 and Alpamayo 1.5.
const PACKAGES: [&str; 2] = ["alpamayo_r1", "alpamayo1_5"];

/// A class of the reference that this crate implements: its paths inside the package.
pub(super) struct Target(&'static [&'static str]);

/// Acceleration and curvature of a unicycle.
pub(super) const ACTION_SPACE: Target = Target(&[
    "action_space.unicycle_accel_curvature.UnicycleAccelCurvatureActionSpace",
    "action_space.UnicycleAccelCurvatureActionSpace",
]);
/// Differences between history poses as tokens.
pub(super) const HISTORY_TOKENIZER: Target = Target(&["models.delta_tokenizer.DeltaTrajectoryTokenizer"]);
/// Actions of the future as tokens.
pub(super) const FUTURE_TOKENIZER: Target = Target(&[
    "action_space.discrete_action_space.DiscreteTrajectoryTokenizer",
    "action_space.DiscreteTrajectoryTokenizer",
]);
/// Flow matching with Euler steps.
pub(super) const DIFFUSION: Target = Target(&["diffusion.flow_matching.FlowMatching"]);
/// Fourier features of noisy actions and time, then an MLP.
pub(super) const ACTION_IN_PROJ: Target = Target(&["models.action_in_proj.PerWaypointActionInProjV2"]);

/// A linear layer from the expert's hidden state to an action.
pub(super) fn check_linear(fields: &Fields) -> Result<()> {
    match fields.text("_target_")? {
        "torch.nn.Linear" => Ok(()),
        other => Err(unknown(fields, other, "torch.nn.Linear".into())),
    }
}

impl Target {
    /// Fails unless the object's `_target_` is this class.
    pub fn check(&self, fields: &Fields) -> Result<()> {
        let found = fields.text("_target_")?;
        let known = PACKAGES
            .iter()
            .flat_map(|package| self.0.iter().map(move |path| format!("{package}.{path}")));
        let known: Vec<String> = known.collect();
        match known.iter().any(|name| name == found) {
            true => Ok(()),
            false => Err(unknown(fields, found, known.join(", "))),
        }
    }
}

fn unknown(fields: &Fields, target: &str, known: String) -> Error {
    Error::UnknownTarget {
        path: fields.path().to_path_buf(),
        field: fields.location().to_string(),
        target: target.to_string(),
        known,
    }
}
