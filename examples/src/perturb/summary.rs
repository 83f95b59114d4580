//! Means over clips, with intervals, beside the noise floor.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use alpamayo_core::metrics::{ConfidenceInterval, bootstrap_mean, paired_permutation_test, signed_rank_test};

use super::measure::{self, Measure};
use super::rows::{Row, Rows};
use crate::error::Result;

/// Of the intervals.
pub const CONFIDENCE: f64 = 0.95;
/// Draws of as many clips as there are, with replacement.
pub const RESAMPLES: usize = 1000;
/// Draws of signs, where there are too many clips to try all of them.
pub const PERMUTATIONS: usize = 1999;
const SEED: u64 = 0;
/// How the pairs without a perturbation are called.
pub const NOISE_FLOOR: &str = "other seeds (noise floor)";

/// A sweep in numbers.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Clips of which something was driven.
    pub clips: usize,
    /// The clean clip with other seeds, then every experiment at every severity.
    pub groups: Vec<Group>,
    /// What failed: key and error.
    pub failures: Vec<(String, String)>,
    /// Drives that are still to be done.
    pub missing: usize,
    /// Images in the prompts of perturbed drives, and those among them that were not looked at again.
    pub images: [usize; 2],
}

/// All pairs with the same perturbation.
#[derive(Clone, Debug)]
pub struct Group {
    /// Experiment and severity; `None` for the clean clip with other seeds.
    pub condition: Option<(String, f64)>,
    /// Pairs of drives.
    pub pairs: usize,
    /// Their clips.
    pub clips: usize,
    /// The mean of each measure that a clip has.
    pub means: Vec<Mean>,
}

/// The mean of one measure over the clips of a group; a clip's value is the mean of its repetitions.
#[derive(Clone, Debug)]
pub struct Mean {
    /// The measure.
    pub measure: &'static Measure,
    /// With its interval.
    pub interval: ConfidenceInterval,
    /// Against the same clips with other seeds.
    pub against_noise: Option<AgainstNoise>,
}

/// A group against the noise floor, clip by clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AgainstNoise {
    /// Clips that have both.
    pub clips: usize,
    /// How much the mean is above the noise floor of the same clips.
    pub difference: f64,
    /// Of Wilcoxon's signed-rank test, two-sided.
    pub p_signed_rank: f64,
    /// Of the sign-flip permutation test of the mean, two-sided.
    pub p_permutation: f64,
}

/// One measure's value of each clip.
type ByClip<'a> = BTreeMap<&'a str, f64>;

impl Summary {
    /// Summarises a sweep.
    ///
    /// # Errors
    /// None where the rows are a sweep's: those of the statistics for impossible numbers.
    pub fn new(found: &Rows) -> Result<Self> {
        let mut conditions: Vec<Option<(String, f64)>> = vec![None];
        for row in &found.rows {
            if !conditions.contains(&row.condition) {
                conditions.push(row.condition.clone());
            }
        }
        let of = |condition: &Option<(String, f64)>| -> Vec<&Row> {
            found.rows.iter().filter(|row| row.condition == *condition).collect()
        };
        let noise = of(&None);
        let groups = conditions
            .iter()
            .map(|condition| Group::new(condition, &of(condition), &noise));
        Ok(Self {
            clips: distinct_clips(&found.rows.iter().collect::<Vec<_>>()),
            groups: groups.collect::<Result<_>>()?,
            failures: found.failures.clone(),
            missing: found.missing,
            images: found.images,
        })
    }

    /// The noise floor's group.
    pub fn noise_floor(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.condition.is_none())
    }

    /// The experiments' names, in their order.
    pub fn experiments(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.groups.iter().filter_map(|group| group.condition.as_ref()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The groups of one experiment, by severity.
    pub fn of<'a>(&'a self, experiment: &str) -> impl Iterator<Item = (f64, &'a Group)> {
        self.groups.iter().filter_map(move |group| match &group.condition {
            Some((name, severity)) if name == experiment => Some((*severity, group)),
            _ => None,
        })
    }
}

fn distinct_clips(rows: &[&Row]) -> usize {
    let clips: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.clip.as_str()).collect();
    clips.len()
}

impl Group {
    fn new(condition: &Option<(String, f64)>, rows: &[&Row], noise: &[&Row]) -> Result<Self> {
        let mut means = Vec::new();
        for (index, measure) in measure::ALL.iter().enumerate() {
            let values = by_clip(rows, index);
            if values.is_empty() {
                continue;
            }
            let list: Vec<f64> = values.values().copied().collect();
            let is_noise = condition.is_none();
            means.push(Mean {
                measure,
                interval: bootstrap_mean(&list, CONFIDENCE, RESAMPLES, SEED)?,
                against_noise: if is_noise {
                    None
                } else {
                    against_noise(&values, &by_clip(noise, index))?
                },
            });
        }
        Ok(Self {
            condition: condition.clone(),
            pairs: rows.len(),
            clips: distinct_clips(rows),
            means,
        })
    }

    /// The experiment's name, or that of the noise floor.
    pub fn name(&self) -> &str {
        self.condition.as_ref().map_or(NOISE_FLOOR, |(name, _)| name)
    }

    /// The mean of the measure of that name; `None` where no clip has it.
    pub fn mean(&self, key: &str) -> Option<&Mean> {
        self.means.iter().find(|mean| mean.measure.key == key)
    }
}

/// Each clip's mean over its repetitions.
fn by_clip<'a>(rows: &[&'a Row], index: usize) -> ByClip<'a> {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for row in rows {
        if let Some(value) = row.values[index] {
            let (sum, count) = sums.entry(&row.clip).or_default();
            (*sum, *count) = (*sum + value, *count + 1.0);
        }
    }
    sums.into_iter()
        .map(|(clip, (sum, count))| (clip, sum / count))
        .collect()
}

fn against_noise(values: &ByClip<'_>, noise: &ByClip<'_>) -> Result<Option<AgainstNoise>> {
    let pairs = values
        .iter()
        .filter_map(|(clip, value)| Some((*value, *noise.get(clip)?)));
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.unzip();
    if a.is_empty() {
        return Ok(None);
    }
    let permutation = paired_permutation_test(&a, &b, PERMUTATIONS, SEED)?;
    Ok(Some(AgainstNoise {
        clips: a.len(),
        difference: permutation.mean_difference,
        p_signed_rank: signed_rank_test(&a, &b)?.p_value,
        p_permutation: permutation.p_value,
    }))
}

impl Mean {
    /// The mean with its interval, as `0.13 [0.09, 0.18]`; shares in per cent.
    pub fn text(&self) -> String {
        let decimals = self.measure.decimals();
        let value = |value: f64| format!("{:.decimals$}", self.measure.shown(value));
        let ConfidenceInterval { estimate, lower, upper } = self.interval;
        format!("{} [{}, {}]", value(estimate), value(lower), value(upper))
    }
}

/// The columns of the summary as text.
const COLUMNS: [(&str, &str); 4] = [
    ("mean_displacement", "moved (m)"),
    ("final_displacement", "at the end (m)"),
    ("stated_flip", "words flip (%)"),
    ("driven_flip", "plan flips (%)"),
];

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [images, reused] = self.images;
        let pairs: usize = self.groups.iter().map(|group| group.pairs).sum();
        writeln!(
            f,
            "{} clips, {pairs} pairs of drives; {} failed, {} still to be done; of {images} images of perturbed clips \
             {reused} were not looked at again",
            self.clips,
            self.failures.len(),
            self.missing
        )?;
        let width = self.groups.iter().map(|group| group.name().chars().count()).max();
        let width = width.unwrap_or_default().max(10);
        let mut head = format!("\n{:<width$} {:>8}", "mean [95 %]", "severity");
        for (_, name) in COLUMNS {
            write!(head, "  {name:<20}")?;
        }
        writeln!(f, "{head}  p (moved)")?;
        for group in self.groups.iter().filter(|group| group.pairs > 0) {
            let severity = group
                .condition
                .as_ref()
                .map_or("–".to_owned(), |(_, severity)| severity.to_string());
            let mut line = format!("{:<width$} {severity:>8}", group.name());
            for (key, _) in COLUMNS {
                write!(line, "  {:<20}", group.mean(key).map_or("–".to_owned(), Mean::text))?;
            }
            let against = group.mean(COLUMNS[0].0).and_then(|mean| mean.against_noise);
            let p_value = against.map_or(String::new(), |against| format!("{:.4}", against.p_signed_rank));
            writeln!(f, "{}", format!("{line}  {p_value}").trim_end())?;
        }
        let mut failures = String::new();
        for (key, error) in &self.failures {
            write!(failures, "\nfailed: {key}: {error}")?;
        }
        if failures.is_empty() {
            Ok(())
        } else {
            writeln!(f, "{failures}")
        }
    }
}
