//! A sweep as tables for other programs.

use std::path::Path;

use super::flip::FlipRecord;
use super::measure;
use super::record::IntentKind;
use super::rows::Rows;
use super::summary::{NOISE_FLOOR, Summary};
use crate::error::{Error, Result};

/// Writes a row per pair: clip, experiment, severity, repetition, seeds, every measure, intents and sentences of most samples.
///
/// # Errors
/// [`Error::Io`].
pub fn write_pairs(found: &Rows, path: &Path) -> Result<()> {
    let mut head = vec!["clip", "experiment", "severity", "repetition", "clean_seed", "seed"];
    head.extend(measure::ALL.iter().map(|measure| measure.key));
    head.extend([
        "stated_clean",
        "stated",
        "driven_clean",
        "driven",
        "reasoning_clean",
        "reasoning",
    ]);
    let rows = found.rows.iter().map(|row| {
        let (name, severity) = match &row.condition {
            Some((name, severity)) => (name.clone(), severity.to_string()),
            None => (NOISE_FLOOR.to_owned(), String::new()),
        };
        let [clean, other] = &row.drives;
        let mut cells = vec![row.clip.clone(), name, severity, row.repetition.to_string()];
        cells.extend([clean.seed.to_string(), other.seed.to_string()]);
        cells.extend(row.values.iter().map(|value| number(*value)));
        cells.extend([clean.stated, other.stated, clean.driven, other.driven].map(|intent| intent.to_string()));
        cells.extend([clean.sentence.clone(), other.sentence.clone()]);
        cells
    });
    write(path, &head, rows)
}

/// Writes a row per experiment, severity and measure: the mean with its interval, the noise floor, and the tests against it.
///
/// # Errors
/// [`Error::Io`].
pub fn write_summary(summary: &Summary, path: &Path) -> Result<()> {
    let head = [
        "experiment",
        "severity",
        "measure",
        "unit",
        "pairs",
        "clips",
        "mean",
        "lower",
        "upper",
        "noise_floor",
        "above_noise_floor",
        "p_signed_rank",
        "p_permutation",
    ];
    let mut rows = Vec::new();
    for group in &summary.groups {
        let severity = group
            .condition
            .as_ref()
            .map_or(String::new(), |(_, severity)| severity.to_string());
        for mean in &group.means {
            let noise = summary.noise_floor().and_then(|noise| noise.mean(mean.measure.key));
            let (interval, against) = (mean.interval, mean.against_noise);
            // Shares are 0 to 1 here.
            let unit = if mean.measure.unit == "%" {
                "share"
            } else {
                mean.measure.unit
            };
            let mut cells = vec![group.name().to_owned(), severity.clone()];
            cells.extend([mean.measure.key, unit].map(str::to_owned));
            cells.extend([group.pairs, group.clips].map(|count| count.to_string()));
            cells.extend([interval.estimate, interval.lower, interval.upper].map(|value| number(Some(value))));
            cells.push(number(noise.map(|noise| noise.interval.estimate)));
            cells.extend([
                number(against.map(|against| against.difference)),
                number(against.map(|against| against.p_signed_rank)),
                number(against.map(|against| against.p_permutation)),
            ]);
            rows.push(cells);
        }
    }
    write(path, &head, rows)
}

/// Writes a row per clip and experiment: the clean intent, that with another seed (the noise floor), and the severity and the intent
/// where it flips.
///
/// # Errors
/// [`Error::Io`].
pub fn write_flips(flips: &[FlipRecord], kind: IntentKind, path: &Path) -> Result<()> {
    let head = [
        "clip",
        "experiment",
        "repetition",
        "seed",
        "intent",
        "clean",
        "other_seed",
        "flips_by_seed",
        "flips_above",
        "flips_at",
        "to",
        "drives",
    ];
    let rows = flips.iter().map(|record| {
        let flip = record.flip.as_ref();
        vec![
            record.clip.clone(),
            record.experiment.clone(),
            record.repetition.to_string(),
            record.seed.to_string(),
            kind.name().to_owned(),
            record.clean.to_string(),
            record.control.to_string(),
            u8::from(record.flips_by_seed()).to_string(),
            number(flip.map(|flip| flip.below.value())),
            number(flip.map(|flip| flip.at.value())),
            flip.map_or(String::new(), |flip| flip.intent.to_string()),
            record.probes.len().to_string(),
        ]
    });
    write(path, &head, rows)
}

/// The shortest text that reads back as the same number; nothing for nothing.
fn number(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

fn write(path: &Path, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    let failed = |error: csv::Error| Error::io("write", path)(error.into());
    let mut writer = csv::Writer::from_path(path).map_err(failed)?;
    writer.write_record(head).map_err(failed)?;
    for row in rows {
        writer.write_record(&row).map_err(failed)?;
    }
    writer.flush().map_err(Error::io("write", path))
}
