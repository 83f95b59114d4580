//! The numbers of a pair of drives.

use alpamayo_core::perturb::measure::{IntentChange, PlanChange, ReasoningChange, SampleChange};

use super::record::Change;

/// One number of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Its name in files.
    pub key: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// Its unit; `%` for a share, which is 0 to 1 in files; empty for counts.
    pub unit: &'static str,
    value: Value,
}

/// Where a number is in a change.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// In the mean over the samples' plans.
    Plan(fn(&PlanChange) -> f64),
    /// In every sentence; their mean.
    Words(fn(&ReasoningChange) -> usize),
    /// In every sample's intents; their mean.
    Intents(fn(&IntentChange) -> f64),
    /// In all samples together.
    Samples(fn(&SampleChange) -> Option<f64>),
}

impl Measure {
    /// The pair's value; `None` where it has none, as errors without truth.
    pub fn value(&self, change: &Change) -> Option<f64> {
        match self.value {
            Value::Plan(of) => Some(of(&change.plan.mean)),
            Value::Words(of) => mean(change.reasoning.iter().map(|words| of(words) as f64)),
            Value::Intents(of) => mean(change.intents.iter().map(of)),
            Value::Samples(of) => of(&change.plan),
        }
    }

    /// The measure of that name.
    pub fn find(key: &str) -> Option<&'static Self> {
        ALL.iter().find(|measure| measure.key == key)
    }

    /// Its name with its unit, as on axes.
    pub fn label(&self) -> String {
        match self.unit {
            "" => self.name.to_owned(),
            unit => format!("{} ({unit})", self.name),
        }
    }

    /// A value as people read it: shares in per cent.
    pub fn shown(&self, value: f64) -> f64 {
        if self.unit == "%" { value * 1e2 } else { value }
    }

    /// Digits after the point that say something.
    pub fn decimals(&self) -> usize {
        match self.unit {
            "%" => 0,
            "" => 1,
            "1/m" => 4,
            _ => 2,
        }
    }
}

/// Every measure. Signed ones are perturbed minus clean; all are means over the samples of a drive, paired by seed and noise.
pub static ALL: [Measure; 19] = [
    plan("mean_displacement", "mean displacement", "m", |c| c.mean_displacement),
    plan("final_displacement", "final displacement", "m", |c| {
        c.final_displacement
    }),
    plan("mean_longitudinal", "longitudinal displacement", "m", |c| {
        c.mean_longitudinal
    }),
    plan("mean_lateral", "lateral displacement", "m", |c| c.mean_lateral),
    plan("final_longitudinal", "ends ahead by", "m", |c| c.final_longitudinal),
    plan("final_lateral", "ends to the left by", "m", |c| c.final_lateral),
    measure(
        "min_ade_change",
        "change of minADE",
        "m",
        Value::Samples(SampleChange::min_ade_change),
    ),
    measure(
        "spread_change",
        "change of the spread of samples",
        "m",
        Value::Samples(|change| Some(change.spread[1] - change.spread[0])),
    ),
    plan("mean_speed_change", "change of mean speed", "m/s", |c| c.mean_speed),
    plan("final_speed_change", "change of final speed", "m/s", |c| c.final_speed),
    plan("mean_curvature_change", "change of curvature", "1/m", |c| {
        c.mean_curvature
    }),
    words("token_edit_distance", "edited tokens", |c| c.token_edit_distance),
    words("word_edit_distance", "edited words", |c| c.word_edit_distance),
    words("changed_words", "words gone and new", |c| {
        c.removed_words.len() + c.added_words.len()
    }),
    intents("stated_flip", "flips of the stated intent", |c| flag(c.stated_flips())),
    intents("driven_flip", "flips of the driven intent", |c| flag(c.driven_flips())),
    intents("agreement_clean", "words and plan agree, clean", |c| {
        flag(c.agreement()[0])
    }),
    intents("agreement", "words and plan agree", |c| flag(c.agreement()[1])),
    intents("agreement_change", "change of that agreement", |c| {
        flag(c.agreement()[1]) - flag(c.agreement()[0])
    }),
];

const fn measure(key: &'static str, name: &'static str, unit: &'static str, value: Value) -> Measure {
    Measure { key, name, unit, value }
}

const fn plan(key: &'static str, name: &'static str, unit: &'static str, of: fn(&PlanChange) -> f64) -> Measure {
    measure(key, name, unit, Value::Plan(of))
}

const fn words(key: &'static str, name: &'static str, of: fn(&ReasoningChange) -> usize) -> Measure {
    measure(key, name, "", Value::Words(of))
}

const fn intents(key: &'static str, name: &'static str, of: fn(&IntentChange) -> f64) -> Measure {
    measure(key, name, "%", Value::Intents(of))
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}
