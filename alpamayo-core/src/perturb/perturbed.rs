//! What comes out of a specification.

use super::language::LanguageOverrides;
use crate::clip::Clip;

/// A clip after its perturbations.
#[derive(Clone, Debug, PartialEq)]
pub struct Perturbed {
    /// The clip whose images and whose ego history (as tokens) the model reads.
    pub clip: Clip,
    /// The ego history for the integrator's v0, where it is not the clip's.
    pub integrator_history: Option<EgoHistory>,
    /// What the pipeline's options shall say.
    pub language: LanguageOverrides,
    /// For each frame of [`Self::clip`] the frame of the clean clip whose bytes it has, if any. The vision tower sees
    /// every image by itself, so the clean clip's features can be reused for those.
    pub clean_frames: Vec<Option<usize>>,
}

/// Where the car has been, in the ego frame at t0, oldest pose first.
#[derive(Clone, Debug, PartialEq)]
pub struct EgoHistory {
    /// Positions in metres: x forward, y left, z up.
    pub xyz: Vec<[f32; 3]>,
    /// Rotation matrices.
    pub rot: Vec<[[f32; 3]; 3]>,
}

impl From<&Clip> for EgoHistory {
    fn from(clip: &Clip) -> Self {
        Self {
            xyz: clip.ego_history_xyz.clone(),
            rot: clip.ego_history_rot.clone(),
        }
    }
}

impl Perturbed {
    /// The ego history for the integrator's v0.
    pub fn integrator_history(&self) -> EgoHistory {
        let same = || EgoHistory::from(&self.clip);
        self.integrator_history.clone().unwrap_or_else(same)
    }
}
