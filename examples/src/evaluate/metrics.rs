//! The numbers of a clip.

use alpamayo_core::metrics::{Comfort, ComfortLimits, HORIZONS};

use super::measures::Errors;
use super::record::ClipRecord;

type Value = Box<dyn Fn(&ClipRecord) -> Option<f64>>;

/// One number of a clip, and that of the baseline where it has one.
pub struct Metric {
    /// Its name in files: `min_ade_6.4s`.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// Its unit; `%` for a share, which is 0 to 1 in files.
    pub unit: &'static str,
    value: Value,
    baseline: Option<Value>,
}

impl Metric {
    fn new(
        key: impl Into<String>,
        name: impl Into<String>,
        unit: &'static str,
        value: impl Fn(&ClipRecord) -> Option<f64> + 'static,
    ) -> Self {
        Self {
            key: key.into(),
            name: name.into(),
            unit,
            value: Box::new(value),
            baseline: None,
        }
    }

    /// An error of the best sample, and of the baseline.
    fn error(
        key: impl Into<String>,
        name: impl Into<String>,
        error: impl Fn(&Errors) -> Option<f64> + Copy + 'static,
    ) -> Self {
        let of_best = move |record: &ClipRecord| error(&record.measures.as_ref()?.best);
        Self {
            baseline: Some(baseline(error)),
            ..Self::new(key, name, "m", of_best)
        }
    }

    /// The clip's value; `None` where it has none, as errors without truth.
    pub fn value(&self, record: &ClipRecord) -> Option<f64> {
        (self.value)(record)
    }

    /// The baseline's value: that of straight on at the speed of t0.
    pub fn baseline(&self, record: &ClipRecord) -> Option<f64> {
        self.baseline.as_ref().and_then(|baseline| baseline(record))
    }

    /// Whether there is a baseline.
    pub fn has_baseline(&self) -> bool {
        self.baseline.is_some()
    }
}

fn baseline(error: impl Fn(&Errors) -> Option<f64> + 'static) -> Value {
    Box::new(move |record| error(&record.measures.as_ref()?.constant_velocity))
}

/// All numbers, of clips with so many samples each.
pub fn all(samples: usize) -> Vec<Metric> {
    let mut all: Vec<Metric> = HORIZONS
        .into_iter()
        .map(|seconds| {
            let name = format!("minADE of {samples} at {seconds} s");
            Metric::error(format!("min_ade_{seconds}s"), name, move |errors| {
                errors.ade_at(seconds)
            })
        })
        .collect();
    all.extend([
        Metric {
            baseline: Some(baseline(|errors| Some(errors.ade))),
            ..Metric::new("ade", "ADE, mean of samples", "m", |record| {
                mean(record.measures.as_ref()?.ade.iter().copied())
            })
        },
        Metric {
            baseline: Some(baseline(|errors| Some(errors.fde))),
            ..Metric::new("fde", "FDE, mean of samples", "m", |record| {
                mean(record.measures.as_ref()?.fde.iter().copied())
            })
        },
        Metric::error("best_fde", "FDE of the best sample", |errors| Some(errors.fde)),
        Metric::error("best_longitudinal", "longitudinal error of it", |errors| {
            Some(errors.longitudinal)
        }),
        Metric::error("best_lateral", "lateral error of it", |errors| Some(errors.lateral)),
        Metric::error("best_final_longitudinal", "how far it ends ahead", |errors| {
            Some(errors.final_longitudinal)
        }),
        Metric::error("best_final_lateral", "how far it ends to the left", |errors| {
            Some(errors.final_lateral)
        }),
        Metric::error("best_corner_distance", "corner distance of it", |errors| {
            Some(errors.corner_distance)
        }),
        Metric::new("spread_ade", "spread: ADE between samples", "m", |record| {
            Some(record.spread.mean_pairwise_ade)
        }),
        Metric::new("spread_final", "spread: deviation of ends", "m", |record| {
            Some(record.spread.final_deviation)
        }),
    ]);
    all.extend(comfort());
    all
}

/// Shares of samples.
fn comfort() -> [Metric; 8] {
    let share = |key, name, holds: fn(&Comfort, &ComfortLimits) -> bool| {
        Metric::new(key, name, "%", move |record| {
            let limits = ComfortLimits::default();
            let share = |holds: bool| f64::from(u8::from(holds));
            mean(
                record
                    .samples
                    .iter()
                    .map(|sample| share(holds(&sample.comfort, &limits))),
            )
        })
    };
    [
        share("comfortable", "samples within bounds of comfort", |found, limits| {
            found.is_within(limits)
        }),
        Metric::new("truth_comfortable", "the same of what was driven", "%", |record| {
            record.truth_comfortable.map(|holds| f64::from(u8::from(holds)))
        }),
        share("brakes_hard", "samples that brake too hard", |found, limits| {
            found.min_longitudinal_accel < limits.min_longitudinal_accel
        }),
        share("accelerates_hard", "… accelerate too hard", |found, limits| {
            found.max_longitudinal_accel > limits.max_longitudinal_accel
        }),
        share("turns_hard", "… turn too hard", |found, limits| {
            found.max_lateral_accel > limits.max_lateral_accel
        }),
        share("jerks", "… jerk", |found, limits| {
            found.max_longitudinal_jerk > limits.max_longitudinal_jerk
        }),
        share("yaws_fast", "… yaw too fast", |found, limits| {
            found.max_yaw_rate > limits.max_yaw_rate
        }),
        Metric::new("stopped_share", "reasonings that came to an end", "%", |record| {
            mean(record.samples.iter().map(|sample| f64::from(u8::from(sample.stopped))))
        }),
    ]
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}
