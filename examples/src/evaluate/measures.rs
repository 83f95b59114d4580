//! Plans against what happened.

use alpamayo_core::metrics::{ade, constant_velocity, corner_distance, decompose, fde, min_ade};
use alpamayo_core::{Clip, Result, Trajectory, UnicycleActionSpace};
use serde::{Deserialize, Serialize};

/// The errors of one trajectory, metres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// Average displacement error over all steps.
    pub ade: f64,
    /// Final displacement error.
    pub fde: f64,
    /// `[seconds, ADE up to there]`.
    pub at_horizons: Vec<(f64, f64)>,
    /// Mean distance ahead of or behind the true position.
    pub longitudinal: f64,
    /// Mean distance to the side of it.
    pub lateral: f64,
    /// How far ahead of the true end the trajectory ends, behind it where negative.
    pub final_longitudinal: f64,
    /// How far to the left of it, to the right where negative.
    pub final_lateral: f64,
    /// Mean distance of the corners of a box of 4 x 3 x 2 m.
    pub corner_distance: f64,
}

impl Errors {
    /// Compares a trajectory with what happened, poses `dt` seconds apart.
    ///
    /// # Errors
    /// Where the two differ in length or have no poses.
    pub fn of(trajectory: &Trajectory, truth: &Trajectory, dt: f64) -> Result<Self> {
        let own = min_ade(&[trajectory.xyz()], truth.xyz(), dt)?;
        let parts = decompose(trajectory.xyz(), truth.xyz(), truth.rot())?;
        let last = |values: &[f64]| values.last().copied().unwrap_or_default();
        Ok(Self {
            ade: own.ade,
            fde: own.fde,
            at_horizons: own.at_horizons,
            longitudinal: parts.mean_longitudinal(),
            lateral: parts.mean_lateral(),
            final_longitudinal: last(&parts.longitudinal),
            final_lateral: last(&parts.lateral),
            corner_distance: corner_distance(trajectory, truth)?,
        })
    }

    /// The ADE up to a horizon.
    pub fn ade_at(&self, seconds: f64) -> Option<f64> {
        let at = self.at_horizons.iter().find(|(horizon, _)| *horizon == seconds);
        at.map(|(_, ade)| *ade)
    }
}

/// A clip's samples against what happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// k*: the sample with the least ADE over all steps.
    pub best_sample: usize,
    /// Its errors: its ADE is the clip's minADE.
    pub best: Errors,
    /// ADE of every sample.
    pub ade: Vec<f64>,
    /// FDE of every sample.
    pub fde: Vec<f64>,
    /// Straight on at the speed of t0.
    pub constant_velocity: Errors,
}

impl Measures {
    /// Measures the samples of a clip.
    ///
    /// # Errors
    /// Where there are no samples, lengths differ, or the history gives no speed.
    pub fn new(
        clip: &Clip,
        samples: &[Trajectory],
        truth: &Trajectory,
        space: &UnicycleActionSpace<f32>,
    ) -> Result<Self> {
        let dt = space.dt();
        let positions: Vec<&[[f32; 3]]> = samples.iter().map(Trajectory::xyz).collect();
        let best_sample = min_ade(&positions, truth.xyz(), dt)?.sample;
        let straight = constant_velocity(space, &clip.ego_history_xyz, &clip.ego_history_rot)?;
        Ok(Self {
            best_sample,
            best: Errors::of(&samples[best_sample], truth, dt)?,
            ade: positions
                .iter()
                .map(|sample| ade(sample, truth.xyz()))
                .collect::<Result<_>>()?,
            fde: positions
                .iter()
                .map(|sample| fde(sample, truth.xyz()))
                .collect::<Result<_>>()?,
            constant_velocity: Errors::of(&straight, truth, dt)?,
        })
    }
}
