//! At which severity an intent flips, by bisection.

use std::sync::Arc;

use alpamayo_backends::ModelBackend;
use alpamayo_core::Clip;
use alpamayo_core::perturb::measure::Intent;
use alpamayo_core::perturb::{Experiment, Severity, Sweep};
use alpamayo_models::{Alpamayo, DriveOptions};
use serde::{Deserialize, Serialize};

use super::drive::{Driver, LastClip, Named};
use super::grid::{Condition, control_seed, drive_seed};
use super::record::IntentKind;
use crate::error::Result;
use crate::evaluate::ClipItem;
use crate::evaluate::clips::clip_seed;
use crate::run::{self, BoxedError, Interrupt, Interrupted, Item, Outcome, ResultFile};

/// How often the interval is halved: a flip is found to 1/64 of the severity.
pub const HALVINGS: u32 = 6;

/// A clip and an experiment whose flip is looked for.
#[derive(Clone, Debug)]
pub struct FlipItem<'a> {
    /// The clip.
    pub clip: &'a ClipItem,
    /// Which repetition, from 1.
    pub repetition: u32,
    /// The experiment at full severity.
    pub condition: Condition,
    experiment: &'a Experiment,
    sweep: &'a Sweep,
}

impl Item for FlipItem<'_> {
    fn key(&self) -> String {
        let (clip, Condition { experiment, spec, .. }) = (self.clip.key(), &self.condition);
        let hash = clip_seed(0, &spec.canonical());
        format!("{clip} | {experiment} | {} | {hash:014x}", self.repetition)
    }
}

/// All flips of a sweep that can be looked for: of every experiment that has severities between off and on.
///
/// # Errors
/// Those of [`Sweep::spec`].
pub fn flip_items<'a>(sweep: &'a Sweep, clips: impl IntoIterator<Item = &'a ClipItem>) -> Result<Vec<FlipItem<'a>>> {
    let mut items = Vec::new();
    for clip in clips {
        for experiment in sweep.experiments.iter().filter(|experiment| !experiment.is_switch()) {
            for repetition in 1..=sweep.repetitions {
                items.push(FlipItem {
                    clip,
                    repetition,
                    condition: Condition::new(sweep, experiment, Severity::FULL)?,
                    experiment,
                    sweep,
                });
            }
        }
    }
    Ok(items)
}

/// A severity that was tried, and the intent of most samples there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// How far the experiment was turned up.
    pub severity: Severity,
    /// What the car then means to do.
    pub intent: Intent,
}

/// Where an intent flips: not yet at one severity, at the next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    /// The greatest severity that was tried without a flip below the flip.
    pub below: Severity,
    /// The severity at which it has flipped.
    pub at: Severity,
    /// To what.
    pub intent: Intent,
}

/// A line of a file of flips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlipRecord {
    /// The clip's key.
    pub clip: String,
    /// Which repetition, from 1.
    pub repetition: u32,
    /// The seed of all its drives.
    pub seed: u64,
    /// The experiment's name.
    pub experiment: String,
    /// What was applied at severity 1.
    pub spec: alpamayo_core::perturb::PerturbationSpec,
    /// The intent of the clean clip.
    pub clean: Intent,
    /// The intent of the clean clip with another seed, [`control_seed`]: where that is another one, so may be a flip that has nothing to
    /// do with the experiment.
    pub control: Intent,
    /// What was tried, in order.
    pub probes: Vec<Probe>,
    /// The flip; `None` where the intent at severity 1 is the clean one.
    pub flip: Option<Flip>,
}

impl FlipRecord {
    /// Whether another seed is enough to flip the intent.
    pub fn flips_by_seed(&self) -> bool {
        self.control != self.clean
    }
}

/// Looks for a severity at which `intent_at` is not `clean`: severity 1 is tried first, then the interval between a severity
/// without and one with a flip is halved [`HALVINGS`] times. Where the intent flips to and fro, one of its flips is found.
///
/// # Errors
/// Those of `intent_at`.
pub fn bisect<E>(
    clean: Intent,
    mut intent_at: impl FnMut(Severity) -> std::result::Result<Intent, E>,
) -> std::result::Result<(Vec<Probe>, Option<Flip>), E> {
    let mut probes = Vec::new();
    let mut probe = |severity| -> std::result::Result<Intent, E> {
        let intent = intent_at(severity)?;
        probes.push(Probe { severity, intent });
        Ok(intent)
    };
    let intent = probe(Severity::FULL)?;
    if intent == clean {
        return Ok((probes, None));
    }
    // In units of the finest step, so that severities are exact.
    let (mut below, mut flip) = (0u32, (1u32 << HALVINGS, intent));
    while flip.0 - below > 1 {
        let middle = (below + flip.0) / 2;
        let intent = probe(in_steps(middle))?;
        if intent == clean {
            below = middle;
        } else {
            flip = (middle, intent);
        }
    }
    let flip = Flip {
        below: in_steps(below),
        at: in_steps(flip.0),
        intent: flip.1,
    };
    Ok((probes, Some(flip)))
}

fn in_steps(steps: u32) -> Severity {
    // Steps are at most 2^HALVINGS.
    Severity::new(f64::from(steps) / f64::from(1u32 << HALVINGS)).unwrap_or_default()
}

/// Looks for the flips that are `pending`. An interrupt ends it behind the current drive; a search that it ends begins anew when the
/// run goes on.
///
/// # Errors
/// Where a line cannot be written; what goes wrong with an item becomes its line.
pub fn find_flips<B: ModelBackend>(
    model: &Alpamayo<B>,
    options: &DriveOptions,
    kind: IntentKind,
    results: &mut ResultFile<FlipRecord>,
    pending: &[&FlipItem<'_>],
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let last = LastClip::default();
    let mut driver = Driver::new(model, options);
    let prepare = |item: &FlipItem<'_>| Ok(last.read(item.clip)?);
    let work = |item: &FlipItem<'_>, clip: Arc<Clip>| find(&mut driver, item, &clip, kind, interrupt);
    run::run(results, pending, interrupt, prepare, work)
}

fn find<B: ModelBackend>(
    driver: &mut Driver<'_, B>,
    item: &FlipItem<'_>,
    clip: &Clip,
    kind: IntentKind,
    interrupt: &Interrupt,
) -> Result<FlipRecord, BoxedError> {
    let key = item.clip.key();
    let named = Named { key: &key, clip };
    let seed = drive_seed(driver.seed(), &key, item.repetition);
    let clean = driver.clean(named, seed)?.intent(kind);
    let control = driver.clean(named, control_seed(driver.seed(), &key, item.repetition))?;
    let (probes, flip) = bisect(clean, |severity| -> Result<Intent, BoxedError> {
        if interrupt.is_requested() {
            return Err(Interrupted.into());
        }
        let spec = item.sweep.spec(item.experiment, severity)?;
        let (drive, _) = driver.perturbed(named, &spec, &spec.apply(clip)?, seed)?;
        Ok(drive.intent(kind))
    })?;
    Ok(FlipRecord {
        clip: key,
        repetition: item.repetition,
        seed,
        experiment: item.condition.experiment.clone(),
        spec: item.condition.spec.clone(),
        clean,
        control: control.intent(kind),
        probes,
        flip,
    })
}

#[cfg(test)]
mod tests {
    use alpamayo_core::perturb::measure::SpeedIntent;
    use proptest::prelude::*;

    use super::*;

    fn intent(speed: SpeedIntent) -> Intent {
        Intent {
            speed: Some(speed),
            path: None,
        }
    }

    fn found(flips: impl Fn(f64) -> bool) -> (Vec<Probe>, Option<Flip>) {
        let at = |severity: Severity| {
            let speed = if flips(severity.value()) {
                SpeedIntent::Keep
            } else {
                SpeedIntent::Stop
            };
            Ok::<_, ()>(intent(speed))
        };
        bisect(intent(SpeedIntent::Stop), at).unwrap()
    }

    proptest! {
        #[test]
        fn a_threshold_is_found_to_a_sixty_fourth(threshold in 1e-6..=1.0f64) {
            let (probes, flip) = found(|severity| severity >= threshold);
            let flip = flip.unwrap();
            prop_assert!(flip.below.value() < threshold && threshold <= flip.at.value());
            prop_assert_eq!(flip.at.value() - flip.below.value(), 1.0 / 64.0);
            prop_assert_eq!(flip.intent, intent(SpeedIntent::Keep));
            prop_assert_eq!(probes.len(), 7);
        }

        #[test]
        fn what_is_found_is_a_flip(mask in any::<u64>()) {
            // Severity k/64 flips where bit k - 1 is set; severity 0 never does.
            let flips = |severity: f64| {
                let step = (severity * 64.0).round() as u32;
                step > 0 && mask >> (step - 1) & 1 == 1
            };
            let (_, flip) = found(flips);
            prop_assert_eq!(flip.is_some(), flips(1.0));
            if let Some(flip) = flip {
                prop_assert!(flips(flip.at.value()) && !flips(flip.below.value()));
            }
        }
    }

    #[test]
    fn without_a_flip_nothing_more_is_tried() {
        let (probes, flip) = found(|severity| severity < 1.0);
        assert_eq!((probes.len(), flip), (1, None));
    }
}
