//! What is kept of the drives of a sweep.

use alpamayo_core::perturb::measure::{
    Intent, IntentChange, ReasoningChange, SampleChange, driven_intent, stated_intent,
};
use alpamayo_core::perturb::{PerturbationSpec, Severity};
use alpamayo_core::{Result, Trajectory};
use alpamayo_models::Plan;
use serde::{Deserialize, Serialize};

/// One sample of a drive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The chain of causation.
    pub reasoning: String,
    /// Whether the reasoning ended before the limit.
    pub stopped: bool,
    /// The generated tokens, which replay it.
    pub tokens: Vec<u32>,
    /// Positions `[64][x, y, z]` at t0 + 0.1 s … t0 + 6.4 s, metres, ego frame at t0.
    pub xyz: Vec<[f32; 3]>,
    /// Headings `[64]`, radians.
    pub yaw: Vec<f32>,
    /// What the sentence says that it does.
    pub stated: Intent,
    /// What the trajectory does.
    pub driven: Intent,
}

/// A clip driven once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drive {
    /// The seed of its draws: `drive --seed` with it gives the same of the clean clip.
    pub seed: u64,
    /// The samples.
    pub samples: Vec<Sample>,
}

impl Drive {
    /// What came out of a drive with this seed, poses `dt` seconds apart.
    ///
    /// # Errors
    /// Where a trajectory has no poses.
    pub fn new(plan: &Plan, seed: u64, dt: f64) -> Result<Self> {
        let samples = plan.trajectories.iter().enumerate().map(|(sample, trajectory)| {
            let reasoning = plan.reasoning[sample].clone();
            Ok(Sample {
                stated: stated_intent(&reasoning),
                driven: driven_intent(trajectory, dt)?,
                stopped: plan.stopped[sample],
                tokens: plan.tokens[sample].clone(),
                xyz: trajectory.xyz.clone(),
                yaw: trajectory.yaw(),
                reasoning,
            })
        });
        Ok(Self {
            seed,
            samples: samples.collect::<Result<_>>()?,
        })
    }

    /// Every sample's poses.
    pub fn trajectories(&self) -> Vec<Trajectory> {
        let poses = |sample: &Sample| Trajectory::from_yaws(sample.xyz.clone(), sample.yaw.iter().copied());
        self.samples.iter().map(poses).collect()
    }

    /// The sentence that most samples give, the first of them where several do.
    pub fn sentence(&self) -> &str {
        most_common(self.samples.iter().map(|sample| sample.reasoning.as_str())).unwrap_or_default()
    }

    /// The intent of most samples, the first of them where several have it.
    pub fn intent(&self, kind: IntentKind) -> Intent {
        most_common(self.samples.iter().map(|sample| kind.of(sample))).unwrap_or_default()
    }
}

/// The value that is there most often, the first of them where several are.
fn most_common<T: PartialEq>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: Vec<(T, usize)> = Vec::new();
    for value in values {
        match counts.iter_mut().find(|(known, _)| *known == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    let best = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    best.map(|(value, _)| value)
}

/// Where an intent is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum IntentKind {
    /// What the sentence says.
    Stated,
    /// What the trajectory does.
    Driven,
}

impl IntentKind {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stated => "stated",
            Self::Driven => "driven",
        }
    }

    fn of(self, sample: &Sample) -> Intent {
        match self {
            Self::Stated => sample.stated,
            Self::Driven => sample.driven,
        }
    }
}

/// What moved between two drives of a clip, sample by sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Between the trajectories.
    pub plan: SampleChange,
    /// Between the sentences.
    pub reasoning: Vec<ReasoningChange>,
    /// Stated and driven intents.
    pub intents: Vec<IntentChange>,
}

impl Change {
    /// Compares two drives, poses `dt` seconds apart; `truth` are the positions that were driven.
    ///
    /// # Errors
    /// Those of [`SampleChange::between`].
    pub fn between(clean: &Drive, other: &Drive, truth: Option<&[[f32; 3]]>, dt: f64) -> Result<Self> {
        let plan = SampleChange::between(&clean.trajectories(), &other.trajectories(), truth, dt)?;
        let pairs = || clean.samples.iter().zip(&other.samples);
        let words =
            |(a, b): (&Sample, &Sample)| ReasoningChange::between((&a.reasoning, &a.tokens), (&b.reasoning, &b.tokens));
        let intents = |(a, b): (&Sample, &Sample)| IntentChange {
            stated: [a.stated, b.stated],
            driven: [a.driven, b.driven],
        };
        Ok(Self {
            plan,
            reasoning: pairs().map(words).collect(),
            intents: pairs().map(intents).collect(),
        })
    }
}

/// One line of a sweep's results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The clean clip, driven with two seeds.
    Clean(Box<CleanRecord>),
    /// The perturbed clip, against the clean one with the same seed.
    Perturbed(Box<PerturbedRecord>),
}

/// The clean clip, driven with two seeds: what moves though nothing was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CleanRecord {
    /// The clip's key.
    pub clip: String,
    /// Which of the sweep's repetitions, from 1.
    pub repetition: u32,
    /// What perturbed drives are compared with.
    pub drive: Drive,
    /// The same clip with another seed.
    pub control: Drive,
    /// From one to the other: the noise floor.
    pub change: Change,
}

/// The perturbed clip, driven with the seed of the clean one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerturbedRecord {
    /// The clip's key.
    pub clip: String,
    /// Which of the sweep's repetitions, from 1.
    pub repetition: u32,
    /// The experiment's name.
    pub experiment: String,
    /// How far it was turned up.
    pub severity: Severity,
    /// What was applied: all that is needed to apply it again.
    pub spec: PerturbationSpec,
    /// What came out.
    pub drive: Drive,
    /// What moved against the clean drive.
    pub change: Change,
    /// Images in the prompt.
    pub images: usize,
    /// Those among them whose features were the clean clip's.
    pub reused_images: usize,
    /// Whether the whole prompt was the clean clip's.
    pub reused_prompt: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_most_common_counts() {
        assert_eq!(most_common("abcbca".chars()), Some('a'));
        assert_eq!(most_common("abcbcbc".chars()), Some('b'));
        assert_eq!(most_common("".chars()), None);
    }
}
