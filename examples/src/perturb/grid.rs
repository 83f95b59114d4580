//! What a sweep drives: perturbations x severities x clips x repetitions.

use alpamayo_core::perturb::{Experiment, PerturbationSpec, Severity, Sweep};

use crate::error::Result;
use crate::evaluate::ClipItem;
use crate::evaluate::clips::clip_seed;
use crate::run::Item;

/// One drive to be done.
#[derive(Clone, Debug)]
pub struct GridItem<'a> {
    /// The clip.
    pub clip: &'a ClipItem,
    /// Which repetition, from 1.
    pub repetition: u32,
    /// Clean or perturbed.
    pub task: Task,
}

/// What is done with the clip.
#[derive(Clone, Debug)]
pub enum Task {
    /// It is driven as it is, with two seeds.
    Clean,
    /// It is perturbed.
    Perturbed(Condition),
}

/// An experiment at a severity.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The experiment's name.
    pub experiment: String,
    /// How far it is turned up.
    pub severity: Severity,
    /// What is applied.
    pub spec: PerturbationSpec,
}

impl Condition {
    /// An experiment of the sweep at a severity.
    ///
    /// # Errors
    /// Those of [`Sweep::spec`].
    pub fn new(sweep: &Sweep, experiment: &Experiment, severity: Severity) -> Result<Self> {
        Ok(Self {
            experiment: experiment.name.clone(),
            severity,
            spec: sweep.spec(experiment, severity)?,
        })
    }
}

impl Item for GridItem<'_> {
    /// Clip, experiment and severity for people, repetition, and a hash of what is applied: an experiment that is changed in the
    /// file is driven anew, under whatever name.
    fn key(&self) -> String {
        let (clip, repetition) = (self.clip.key(), self.repetition);
        match &self.task {
            Task::Clean => format!("{clip} | clean | {repetition}"),
            Task::Perturbed(Condition {
                experiment,
                severity,
                spec,
            }) => {
                let hash = clip_seed(0, &spec.canonical());
                format!("{clip} | {experiment} {severity} | {repetition} | {hash:014x}")
            }
        }
    }
}

/// The experiments of a sweep at their severities, in the order of the file.
///
/// # Errors
/// Those of [`Sweep::spec`].
pub fn conditions(sweep: &Sweep) -> Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    for experiment in &sweep.experiments {
        for severity in sweep.severities_of(experiment) {
            conditions.push(Condition::new(sweep, experiment, severity)?);
        }
    }
    Ok(conditions)
}

/// Everything that a sweep drives: clip after clip, so that what was seen of a clip serves all of its drives.
///
/// # Errors
/// Those of [`Sweep::spec`].
pub fn grid<'a>(sweep: &Sweep, clips: impl IntoIterator<Item = &'a ClipItem>) -> Result<Vec<GridItem<'a>>> {
    let conditions = conditions(sweep)?;
    let mut items = Vec::new();
    for clip in clips {
        let tasks = conditions.iter().cloned().map(Task::Perturbed);
        for task in std::iter::once(Task::Clean).chain(tasks) {
            items.extend((1..=sweep.repetitions).map(|repetition| GridItem {
                clip,
                repetition,
                task: task.clone(),
            }));
        }
    }
    Ok(items)
}

/// The seed of a clip's drives, clean and perturbed alike; the first repetition's is that of `evaluate` with the same `--seed`.
pub fn drive_seed(seed: u64, clip: &str, repetition: u32) -> u64 {
    clip_seed(seed.wrapping_add(u64::from(repetition - 1)), clip)
}

/// The other seed, by which the clean clip is driven for the noise floor.
pub fn control_seed(seed: u64, clip: &str, repetition: u32) -> u64 {
    drive_seed(seed, &format!("{clip} | control"), repetition)
}
