//! A sweep as charts: severity curves, the effect of each experiment at its most, where intents flip.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::flip::FlipRecord;
use super::measure::Measure;
use super::record::IntentKind;
use super::summary::{Group, NOISE_FLOOR, Summary};
use crate::chart::{Axis, BarChart, BarSeries, Chart, Line, LineChart};
use crate::error::{Error, Result};
use crate::scene::{Scene, color};

/// The measures that are drawn over the severity.
const MEASURES: [&str; 7] = [
    "mean_displacement",
    "final_displacement",
    "min_ade_change",
    "stated_flip",
    "driven_flip",
    "agreement",
    "token_edit_distance",
];
/// Experiments in one chart: as many as there are colours.
const MOST_LINES: usize = color::SERIES.len();
const FILE: [f64; 2] = [820.0, 520.0];
/// Pixels per unit of a PNG file.
const SCALE: f64 = 2.0;

/// A chart with the name of its file.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in files: `mean_displacement`, `mean_displacement_2` where one chart cannot hold all experiments.
    pub name: String,
    /// The chart.
    pub chart: LineChart,
}

impl Curve {
    /// The chart as a picture of `width` by `height` pixels.
    pub fn scene(&self, [width, height]: [f64; 2]) -> Scene {
        self.chart.scene(width, height)
    }
}

/// Every measure over the severity: means over clips with their intervals, the noise floor dashed.
pub fn severity_curves(summary: &Summary) -> Vec<Curve> {
    let experiments = summary.experiments();
    let mut curves = Vec::new();
    for measure in MEASURES.iter().filter_map(|key| Measure::find(key)) {
        for (part, names) in experiments.chunks(MOST_LINES).enumerate() {
            let lines: Vec<Line> = names
                .iter()
                .enumerate()
                .map(|(i, name)| line(summary, measure, i, name))
                .collect();
            if lines.iter().all(|line| line.points.is_empty()) {
                continue;
            }
            let noise = summary.noise_floor().and_then(|noise| noise.mean(measure.key));
            let level = noise.map(|noise| (measure.shown(noise.interval.estimate), "other seeds".to_owned()));
            let chart = LineChart {
                title: format!("{}, mean over clips", capitalised(measure.name)),
                x: Axis::new("severity").at_least(0.0, 1.0),
                y: Axis::new(measure.label()).at_least(0.0, 0.0),
                lines,
                levels: level.into_iter().collect(),
                legend: true,
                ..LineChart::default()
            };
            let name = match part {
                0 => measure.key.to_owned(),
                part => format!("{}_{}", measure.key, part + 1),
            };
            curves.push(Curve { name, chart });
        }
    }
    curves
}

fn line(summary: &Summary, measure: &Measure, index: usize, name: &str) -> Line {
    let found: Vec<_> = summary
        .of(name)
        .filter_map(|(severity, group)| Some((severity, group.mean(measure.key)?.interval)))
        .collect();
    let points = found
        .iter()
        .map(|(severity, interval)| [*severity, measure.shown(interval.estimate)]);
    let band = found
        .iter()
        .map(|(severity, interval)| [*severity, measure.shown(interval.lower), measure.shown(interval.upper)]);
    Line::new(name, color::series(index), points.collect())
        .band(band.collect())
        .dots()
}

/// The mean displacement of each experiment at the greatest severity that was driven, beside the noise floor.
pub fn effects(summary: &Summary) -> Option<Scene> {
    let measure = Measure::find("mean_displacement")?;
    let last = |name: &&str| summary.of(name).last().map(|(_, group)| group);
    let experiments = summary.experiments();
    let groups: Vec<&Group> = summary
        .noise_floor()
        .into_iter()
        .chain(experiments.iter().filter_map(last))
        .collect();
    let found: Vec<_> = groups
        .iter()
        .filter_map(|group| Some((group, group.mean(measure.key)?.interval)))
        .collect();
    let chart = BarChart {
        title: "Mean displacement at the greatest severity".into(),
        x: Axis::new(measure.label()).at_least(0.0, 0.0),
        categories: found.iter().map(|(group, _)| short_name(group)).collect(),
        series: vec![BarSeries {
            name: "mean over clips".into(),
            color: color::series(1),
            values: found.iter().map(|(_, interval)| interval.estimate).collect(),
            intervals: found
                .iter()
                .map(|(_, interval)| [interval.lower, interval.upper])
                .collect(),
        }],
    };
    (!chart.categories.is_empty()).then(|| chart.scene(480.0, chart.height(26.0).max(300.0)))
}

fn short_name(group: &Group) -> String {
    if group.name() == NOISE_FLOOR {
        "other seeds".to_owned()
    } else {
        group.name().to_owned()
    }
}

/// The share of clips whose intent has flipped up to a severity, by experiment; dashed the share that another seed flips.
pub fn flip_curves(flips: &[FlipRecord], kind: IntentKind) -> Vec<Curve> {
    let mut experiments: Vec<&str> = Vec::new();
    for record in flips {
        if !experiments.contains(&record.experiment.as_str()) {
            experiments.push(&record.experiment);
        }
    }
    let charts = experiments.chunks(MOST_LINES).enumerate().map(|(part, names)| {
        let lines = names.iter().enumerate().map(|(i, name)| {
            let of_this: Vec<&FlipRecord> = flips.iter().filter(|record| record.experiment == *name).collect();
            Line::new(*name, color::series(i), steps(&of_this))
        });
        let chart = LineChart {
            title: format!("Clips whose {} intent has flipped", kind.name()),
            x: Axis::new("severity").at_least(0.0, 1.0),
            y: Axis::new("share of clips (%)").range(0.0, 100.0),
            lines: lines.collect(),
            levels: by_seed(flips)
                .map(|share| (share, "other seeds".to_owned()))
                .into_iter()
                .collect(),
            legend: true,
            ..LineChart::default()
        };
        let part = if part == 0 {
            String::new()
        } else {
            format!("_{}", part + 1)
        };
        let name = format!("flips_{}{part}", kind.name());
        Curve { name, chart }
    });
    charts.collect()
}

/// The share in % that another seed flips, of all clips and repetitions.
fn by_seed(flips: &[FlipRecord]) -> Option<f64> {
    let flipped: HashMap<(&str, u32), bool> = flips
        .iter()
        .map(|record| ((record.clip.as_str(), record.repetition), record.flips_by_seed()))
        .collect();
    let count = flipped.values().filter(|flips| **flips).count();
    (!flipped.is_empty()).then(|| count as f64 / flipped.len() as f64 * 100.0)
}

/// A staircase that rises at each flip.
fn steps(flips: &[&FlipRecord]) -> Vec<[f64; 2]> {
    let mut at: Vec<f64> = flips
        .iter()
        .filter_map(|record| Some(record.flip?.at.value()))
        .collect();
    at.sort_by(f64::total_cmp);
    let share = |count: usize| count as f64 / flips.len().max(1) as f64 * 100.0;
    let mut points = vec![[0.0, 0.0]];
    for (count, severity) in at.iter().enumerate() {
        points.extend([[*severity, share(count)], [*severity, share(count + 1)]]);
    }
    points.push([1.0, share(at.len())]);
    points
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Writes each chart as SVG and as PNG into `folder`; the PNG files' paths.
///
/// # Errors
/// [`Error::Io`], [`Error::Picture`].
pub fn write(curves: &[Curve], folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut paths = Vec::new();
    for curve in curves {
        let scene = curve.scene(FILE);
        scene.write(&folder.join(format!("{}.svg", curve.name)))?;
        let path = folder.join(format!("{}.png", curve.name));
        std::fs::write(&path, scene.to_png(SCALE)?).map_err(Error::io("write", &path))?;
        paths.push(path);
    }
    Ok(paths)
}
