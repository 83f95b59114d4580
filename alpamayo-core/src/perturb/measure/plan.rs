//! How far two plans lie apart.

use serde::{Deserialize, Serialize};

use super::motion::Motion;
use crate::metrics::{ade, decompose, fde, min_ade, spread};
use crate::{Error, Result, Trajectory};

/// How a perturbed plan differs from the clean one of the same sample.
///
/// Longitudinal and lateral are along and across the clean plan's heading, step by step. Signed values are perturbed
/// minus clean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanChange {
    /// Mean distance over the steps, metres.
    pub mean_displacement: f64,
    /// Distance at the last step, metres.
    pub final_displacement: f64,
    /// Mean distance ahead or behind, metres.
    pub mean_longitudinal: f64,
    /// How far ahead the perturbed plan ends, metres.
    pub final_longitudinal: f64,
    /// Mean distance to the side, metres.
    pub mean_lateral: f64,
    /// How far to the left the perturbed plan ends, metres.
    pub final_lateral: f64,
    /// Change of the mean speed, m/s.
    pub mean_speed: f64,
    /// Change of the speed at the last step, m/s.
    pub final_speed: f64,
    /// Change of the heading gained per metre, 1/m, positive to the left.
    pub mean_curvature: f64,
}

impl PlanChange {
    /// Compares two plans whose poses are `dt` seconds apart.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) where they differ in length, [`Error::Metric`] without poses.
    pub fn between(clean: &Trajectory, perturbed: &Trajectory, dt: f64) -> Result<Self> {
        let (before, after) = (Motion::of(clean, dt)?, Motion::of(perturbed, dt)?);
        let apart = decompose(&perturbed.xyz, &clean.xyz, &clean.rot)?;
        let last = |values: &[f64]| values.last().copied().unwrap_or_default();
        Ok(Self {
            mean_displacement: ade(&perturbed.xyz, &clean.xyz)?,
            final_displacement: fde(&perturbed.xyz, &clean.xyz)?,
            mean_longitudinal: apart.mean_longitudinal(),
            final_longitudinal: last(&apart.longitudinal),
            mean_lateral: apart.mean_lateral(),
            final_lateral: last(&apart.lateral),
            mean_speed: after.mean_speed() - before.mean_speed(),
            final_speed: last(&after.speeds) - last(&before.speeds),
            mean_curvature: after.mean_curvature() - before.mean_curvature(),
        })
    }

    /// The mean of each value.
    fn mean(changes: &[Self]) -> Self {
        let mean = |value: fn(&Self) -> f64| changes.iter().map(value).sum::<f64>() / changes.len() as f64;
        Self {
            mean_displacement: mean(|change| change.mean_displacement),
            final_displacement: mean(|change| change.final_displacement),
            mean_longitudinal: mean(|change| change.mean_longitudinal),
            final_longitudinal: mean(|change| change.final_longitudinal),
            mean_lateral: mean(|change| change.mean_lateral),
            final_lateral: mean(|change| change.final_lateral),
            mean_speed: mean(|change| change.mean_speed),
            final_speed: mean(|change| change.final_speed),
            mean_curvature: mean(|change| change.mean_curvature),
        }
    }
}

/// How the samples of a clip differ between the clean and the perturbed run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleChange {
    /// Sample by sample, paired by their seeds and flow noise.
    pub samples: Vec<PlanChange>,
    /// The mean over the samples.
    pub mean: PlanChange,
    /// minADE against the truth, metres, clean and perturbed; `None` where the clip has no truth.
    pub min_ade: Option<[f64; 2]>,
    /// Root mean square distance of the samples' ends from their mean, metres, clean and perturbed.
    pub spread: [f64; 2],
}

impl SampleChange {
    /// Compares the samples of two runs, whose poses are `dt` seconds apart; `truth` are the positions that were
    /// driven.
    ///
    /// # Errors
    /// Those of [`PlanChange::between`], also where the runs differ in their number of samples or have none.
    pub fn between(
        clean: &[Trajectory],
        perturbed: &[Trajectory],
        truth: Option<&[[f32; 3]]>,
        dt: f64,
    ) -> Result<Self> {
        crate::error::check_length("perturbed samples", clean.len(), perturbed.len())?;
        if clean.is_empty() {
            return Err(Error::Metric {
                metric: "change of the plan",
                reason: "there are no samples to compare; give at least one".into(),
            });
        }
        let samples = clean
            .iter()
            .zip(perturbed)
            .map(|(clean, perturbed)| PlanChange::between(clean, perturbed, dt))
            .collect::<Result<Vec<_>>>()?;
        let positions = [clean, perturbed].map(|run| run.iter().map(Trajectory::xyz).collect::<Vec<_>>());
        let [before, after] = &positions;
        Ok(Self {
            mean: PlanChange::mean(&samples),
            samples,
            min_ade: match truth {
                Some(truth) => Some([min_ade(before, truth, dt)?.ade, min_ade(after, truth, dt)?.ade]),
                None => None,
            },
            spread: [spread(before)?.final_deviation, spread(after)?.final_deviation],
        })
    }

    /// How much minADE grew, metres.
    pub fn min_ade_change(&self) -> Option<f64> {
        self.min_ade.map(|[clean, perturbed]| perturbed - clean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perturb::measure::tests::circle;

    #[test]
    fn equal_plans_have_not_changed() {
        let plan = circle(9.0, -0.5, 0.2);
        assert_eq!(PlanChange::between(&plan, &plan, 0.1).unwrap(), PlanChange::default());
    }

    #[test]
    fn each_value_sees_its_change() {
        let straight = circle(10.0, 0.0, 0.0);
        let faster = PlanChange::between(&straight, &circle(12.0, 0.0, 0.0), 0.1).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-3, "{a} instead of {b}");
        close(faster.final_displacement, 12.8);
        close(faster.final_longitudinal, 12.8);
        close(faster.mean_longitudinal, faster.mean_displacement);
        close(faster.mean_lateral, 0.0);
        close(faster.mean_speed, 2.0);
        close(faster.final_speed, 2.0);
        close(faster.mean_curvature, 0.0);

        let braking = PlanChange::between(&straight, &circle(10.0, -1.0, 0.0), 0.1).unwrap();
        close(braking.final_longitudinal, -6.4 * 6.4 / 2.0);
        close(braking.final_speed, -6.4);

        let left = PlanChange::between(&straight, &circle(10.0, 0.0, 0.1), 0.1).unwrap();
        close(left.mean_curvature, 0.01);
        close(left.final_lateral, 100.0 * (1.0 - 0.64f64.cos()));
        assert!(
            PlanChange::between(&straight, &circle(10.0, 0.0, -0.1), 0.1)
                .unwrap()
                .final_lateral
                < 0.0
        );
    }

    #[test]
    fn samples_are_paired() {
        let clean = [circle(10.0, 0.0, 0.0), circle(10.0, 0.0, 0.1)];
        let perturbed = [circle(11.0, 0.0, 0.0), circle(10.0, 0.0, 0.1)];
        let change = SampleChange::between(&clean, &perturbed, Some(&clean[0].xyz), 0.1).unwrap();
        assert_eq!(change.samples[1], PlanChange::default());
        assert!((change.mean.final_displacement - 3.2).abs() < 1e-3);
        let [before, after] = change.min_ade.unwrap();
        assert_eq!(before, 0.0);
        assert_eq!(change.min_ade_change(), Some(after));
        assert!(after > 1.0);
        assert!(change.spread[1] > change.spread[0]);

        let same = SampleChange::between(&clean, &clean, None, 0.1).unwrap();
        assert_eq!((same.mean, same.min_ade), (PlanChange::default(), None));
        assert!(SampleChange::between(&clean, &perturbed[..1], None, 0.1).is_err());
        assert!(SampleChange::between(&[], &[], None, 0.1).is_err());
    }
}
