//! Means over clips, with intervals.

use std::fmt::{self, Write as _};

use alpamayo_core::metrics::{ConfidenceInterval, bootstrap_mean};
use serde::Serialize;
use serde_json::Value;

use super::clips::ClipItem;
use super::metrics::{self, Metric};
use super::record::ClipRecord;
use crate::error::Result;
use crate::run::ResultFile;

/// Of the intervals.
pub const CONFIDENCE: f64 = 0.95;
/// Draws of as many clips as there are, with replacement.
pub const RESAMPLES: usize = 1000;
const SEED: u64 = 0;

/// A run in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The run's options.
    pub options: Value,
    /// Clips that were driven.
    pub clips: usize,
    /// Those among them whose future is known.
    pub clips_with_truth: usize,
    /// Clips that failed: key and error.
    pub failures: Vec<(String, String)>,
    /// Rows per clip.
    pub samples: usize,
    /// Confidence of the intervals.
    pub confidence: f64,
    /// Draws for the intervals.
    pub resamples: usize,
    /// The means of the clips' numbers.
    pub metrics: Vec<MetricSummary>,
    /// Milliseconds per stage and clip.
    pub times_ms: Vec<TimeSummary>,
}

/// The mean of one number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricSummary {
    /// Its name in files.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// Its unit; `%` for a share of 0 to 1.
    pub unit: &'static str,
    /// Over how many clips.
    pub clips: usize,
    /// The model's mean.
    pub model: ConfidenceInterval,
    /// That of straight on at the speed of t0.
    pub constant_velocity: Option<ConfidenceInterval>,
}

/// One stage's time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimeSummary {
    /// The stage.
    pub stage: &'static str,
    /// Mean over clips.
    pub mean: f64,
    /// Half of the clips took no longer.
    pub median: f64,
    /// 95 of 100 clips took no longer.
    pub percentile_95: f64,
}

/// One number of every clip that has it.
struct Column {
    metric: Metric,
    model: Vec<f64>,
    baseline: Vec<f64>,
}

impl Summary {
    /// Summarises the results of `items`; records are read one by one, only their numbers are kept.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn new(results: &ResultFile<ClipRecord>, items: &[ClipItem], samples: usize) -> Result<Self> {
        let mut columns: Vec<Column> = metrics::all(samples).into_iter().map(Column::new).collect();
        let mut times: Vec<(&'static str, Vec<f64>)> = Vec::new();
        let (mut clips, mut clips_with_truth, mut failures) = (0, 0, Vec::new());
        for entry in results.records_of(items) {
            match entry? {
                (key, Err(error)) => failures.push((key, error)),
                (_, Ok(record)) => {
                    clips += 1;
                    clips_with_truth += usize::from(record.measures.is_some());
                    columns.iter_mut().for_each(|column| column.push(&record));
                    push_times(&mut times, &record);
                }
            }
        }
        let metrics: Result<Vec<Option<MetricSummary>>> = columns.into_iter().map(Column::summarise).collect();
        Ok(Self {
            options: results.options().clone(),
            clips,
            clips_with_truth,
            failures,
            samples,
            confidence: CONFIDENCE,
            resamples: RESAMPLES,
            metrics: metrics?.into_iter().flatten().collect(),
            times_ms: times
                .into_iter()
                .map(|(stage, values)| time_summary(stage, values))
                .collect(),
        })
    }

    /// The number of that name; `None` where no clip has it.
    pub fn metric(&self, key: &str) -> Option<&MetricSummary> {
        self.metrics.iter().find(|metric| metric.key == key)
    }
}

impl Column {
    fn new(metric: Metric) -> Self {
        Self {
            metric,
            model: Vec::new(),
            baseline: Vec::new(),
        }
    }

    fn push(&mut self, record: &ClipRecord) {
        self.model.extend(self.metric.value(record));
        self.baseline.extend(self.metric.baseline(record));
    }

    fn summarise(self) -> Result<Option<MetricSummary>> {
        if self.model.is_empty() {
            return Ok(None);
        }
        let interval = |values: &[f64]| bootstrap_mean(values, CONFIDENCE, RESAMPLES, SEED);
        let baseline = (!self.baseline.is_empty()).then(|| interval(&self.baseline));
        Ok(Some(MetricSummary {
            clips: self.model.len(),
            model: interval(&self.model)?,
            constant_velocity: baseline.transpose()?,
            key: self.metric.key,
            name: self.metric.name,
            unit: self.metric.unit,
        }))
    }
}

fn push_times(times: &mut Vec<(&'static str, Vec<f64>)>, record: &ClipRecord) {
    let drive = ("drive, without reading", record.times_ms.drive());
    for (stage, time) in record.times_ms.stages().into_iter().chain([drive]) {
        match times.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, values)) => values.push(time),
            None => times.push((stage, vec![time])),
        }
    }
}

fn time_summary(stage: &'static str, mut values: Vec<f64>) -> TimeSummary {
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    TimeSummary {
        stage,
        mean: values.iter().sum::<f64>() / values.len() as f64,
        median: at(0.5),
        percentile_95: at(0.95),
    }
}

impl MetricSummary {
    /// A mean with its interval, as `0.13 [0.09, 0.18] m`.
    pub fn text(&self, interval: &ConfidenceInterval) -> String {
        let ConfidenceInterval { estimate, lower, upper } = *interval;
        match self.unit {
            "%" => format!("{:.1} [{:.1}, {:.1}] %", estimate * 1e2, lower * 1e2, upper * 1e2),
            unit => format!("{estimate:.3} [{lower:.3}, {upper:.3}] {unit}"),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (clips, samples) = (self.clips, self.samples);
        writeln!(
            f,
            "{clips} clips, {} of them with a known future, {samples} samples each; {} failed",
            self.clips_with_truth,
            self.failures.len()
        )?;
        if !self.metrics.is_empty() {
            let head = format!("mean [{:.0} % interval]", self.confidence * 100.0);
            writeln!(f, "\n{:<34} {head:<30} constant velocity", "")?;
        }
        for metric in &self.metrics {
            let baseline = metric.constant_velocity.as_ref().map(|interval| metric.text(interval));
            let line = format!(
                "{:<34} {:<30} {}",
                metric.name,
                metric.text(&metric.model),
                baseline.unwrap_or_default()
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        if !self.times_ms.is_empty() {
            writeln!(
                f,
                "\n{:<34} {:>10} {:>10} {:>10}",
                "time per clip (ms)", "mean", "median", "95 %"
            )?;
        }
        for time in &self.times_ms {
            let (mean, median, most) = (time.mean, time.median, time.percentile_95);
            writeln!(f, "{:<34} {mean:>10.1} {median:>10.1} {most:>10.1}", time.stage)?;
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
