//! A run as a page: numbers, distributions, a table, the worst and the best clips with their figures.

use std::collections::HashMap;

use alpamayo_core::Trajectory;
use alpamayo_core::metrics::{ConfidenceInterval, HORIZONS};

use super::clips::ClipItem;
use super::record::{ClipRecord, options_in_words};
use super::summary::Summary;
use crate::chart::{
    Axis, BarChart, BarSeries, Chart, Cloud, Histogram, Line, LineChart, Sample, ScatterChart, cumulative,
};
use crate::error::Result;
use crate::figure::{self, FigureInput};
use crate::report::{Case, Cell, Page, Picture, Row, Section, Table, anchor};
use crate::run::{Item, ResultFile};
use crate::scene::{Color, Scene, color};

/// The table holds this many clips; of more, those with the greatest minADE.
const MOST_ROWS: usize = 5000;
const CHART: [f64; 2] = [480.0, 300.0];
const COLUMNS: [&str; 12] = [
    "clip",
    "minADE (m)",
    "ADE (m)",
    "FDE (m)",
    "longitudinal (m)",
    "lateral (m)",
    "corners (m)",
    "spread (m)",
    "comfort (%)",
    "baseline ADE (m)",
    "time (ms)",
    "reasoning",
];

/// What the page needs of every clip; words are read again for those that the table holds.
struct Entry {
    key: String,
    outcome: std::result::Result<Numbers, String>,
}

struct Numbers {
    errors: Option<ErrorNumbers>,
    spread: f64,
    comfortable: f64,
    drive_ms: f64,
}

struct ErrorNumbers {
    min_ade: f64,
    mean_ade: f64,
    fde: f64,
    longitudinal: f64,
    lateral: f64,
    end: [f64; 2],
    corners: f64,
    constant_velocity: f64,
}

/// The page of the results of `items`, whose clips are read again for their figures; `cases` is how many of the worst and of the best
/// clips are drawn. Clips that cannot be read again are left out there.
///
/// # Errors
/// Where the file of results cannot be read, or a figure cannot be drawn.
pub fn page(results: &ResultFile<ClipRecord>, summary: &Summary, items: &[ClipItem], cases: usize) -> Result<Page> {
    let mut entries = Vec::new();
    for entry in results.records_of(items) {
        let (key, outcome) = entry?;
        let outcome = outcome.map(|record| Numbers::of(&record));
        entries.push(Entry { key, outcome });
    }
    // Failures first, then by minADE from the worst on, then what has no truth.
    entries.sort_by(|a, b| b.rank().total_cmp(&a.rank()).then_with(|| a.key.cmp(&b.key)));
    let measured: Vec<&Entry> = entries.iter().filter(|entry| entry.errors().is_some()).collect();
    let sources: HashMap<String, &ClipItem> = items.iter().map(|item| (item.key(), item)).collect();
    let worst_count = cases.min(measured.len().div_ceil(2));
    let best_count = cases.min(measured.len() - worst_count);
    let draw = |entries: &mut dyn Iterator<Item = &&Entry>| -> Result<Vec<Case>> {
        let cases = entries.map(|entry| case(results, &sources, &entry.key));
        Ok(cases.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    let worst = draw(&mut measured.iter().take(worst_count))?;
    let best = draw(&mut measured.iter().rev().take(best_count))?;
    let drawn: Vec<&str> = worst.iter().chain(&best).map(|case| case.id.as_str()).collect();
    let rows = entries.iter().take(MOST_ROWS).map(|entry| entry.row(results, &drawn));
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let section = |title: &str, description: &str, cases: Vec<Case>| Section {
        title: title.to_owned(),
        description: description.to_owned(),
        cases,
    };
    let sections = [
        section("Worst clips", "The greatest minADE first.", worst),
        section("Best clips", "The least minADE first.", best),
    ];
    Ok(Page {
        title: format!("Evaluation of {}", clips(summary.clips)),
        introduction: introduction(summary, entries.len()),
        numbers: numbers(summary),
        charts: charts(summary, &measured),
        tables: vec![Table::new("All clips", COLUMNS, rows)],
        sections: sections
            .into_iter()
            .filter(|section| !section.cases.is_empty())
            .collect(),
        comparisons: Vec::new(),
    })
}

impl Numbers {
    fn of(record: &ClipRecord) -> Self {
        let count = record.samples.len() as f64;
        let comfortable = record.samples.iter().filter(|sample| sample.comfortable).count();
        let errors = record.measures.as_ref().map(|measures| ErrorNumbers {
            min_ade: measures.best.ade,
            mean_ade: measures.ade.iter().sum::<f64>() / count,
            fde: measures.best.fde,
            longitudinal: measures.best.longitudinal,
            lateral: measures.best.lateral,
            end: [measures.best.final_longitudinal, measures.best.final_lateral],
            corners: measures.best.corner_distance,
            constant_velocity: measures.constant_velocity.ade,
        });
        Self {
            errors,
            spread: record.spread.mean_pairwise_ade,
            comfortable: comfortable as f64 / count * 100.0,
            drive_ms: record.times_ms.drive(),
        }
    }
}

impl Entry {
    fn errors(&self) -> Option<&ErrorNumbers> {
        self.outcome.as_ref().ok()?.errors.as_ref()
    }

    fn rank(&self) -> f64 {
        match &self.outcome {
            Err(_) => f64::INFINITY,
            Ok(numbers) => numbers
                .errors
                .as_ref()
                .map_or(f64::NEG_INFINITY, |errors| errors.min_ade),
        }
    }

    fn row(&self, results: &ResultFile<ClipRecord>, drawn: &[&str]) -> Result<Row> {
        let id = anchor(&self.key);
        let mut cells = vec![Cell::text(&self.key)];
        match &self.outcome {
            Ok(numbers) => {
                let error = |value: fn(&ErrorNumbers) -> f64| Cell::from(self.errors().map(value));
                cells.extend([
                    error(|errors| errors.min_ade),
                    error(|errors| errors.mean_ade),
                    error(|errors| errors.fde),
                    error(|errors| errors.longitudinal),
                    error(|errors| errors.lateral),
                    error(|errors| errors.corners),
                    Cell::number(numbers.spread, 2),
                    Cell::number(numbers.comfortable, 0),
                    error(|errors| errors.constant_velocity),
                    Cell::number(numbers.drive_ms, 0),
                    match results.record(&self.key)? {
                        Some(Ok(record)) => Cell::text(record.reasoning()),
                        _ => Cell::Missing,
                    },
                ]);
            }
            Err(error) => {
                cells.extend((2..COLUMNS.len()).map(|_| Cell::Missing));
                cells.push(Cell::text(format!("failed: {error}")));
            }
        }
        let row = Row::new(cells);
        Ok(if drawn.contains(&id.as_str()) {
            row.link(id)
        } else {
            row
        })
    }
}

/// A clip with its figure; `None` where it cannot be read again.
fn case(results: &ResultFile<ClipRecord>, sources: &HashMap<String, &ClipItem>, key: &str) -> Result<Option<Case>> {
    let (Some(Ok(record)), Some(item)) = (results.record(key)?, sources.get(key)) else {
        return Ok(None);
    };
    let Ok(clip) = item.read() else { return Ok(None) };
    let trajectories: Vec<Trajectory> = record.samples.iter().map(|sample| sample.trajectory()).collect();
    let mut input = FigureInput::from_clip(&clip);
    for (trajectory, sample) in trajectories.iter().zip(&record.samples) {
        input.plan(trajectory, &sample.reasoning);
    }
    let metres = |value: f64| format!("{value:.2} m");
    let mut numbers = Vec::new();
    if let Some(measures) = &record.measures {
        numbers.push((format!("minADE of {}", record.samples.len()), metres(measures.best.ade)));
        numbers.push(("FDE".into(), metres(measures.best.fde)));
        numbers.push(("constant velocity".into(), metres(measures.constant_velocity.ade)));
    }
    numbers.push(("spread".into(), metres(record.spread.mean_pairwise_ade)));
    Ok(Some(Case {
        id: anchor(key),
        title: key.to_owned(),
        numbers,
        picture: Picture::inline(&figure::draw(&input)?),
    }))
}

fn clips(count: usize) -> String {
    if count == 1 {
        "1 clip".to_owned()
    } else {
        format!("{count} clips")
    }
}

fn introduction(summary: &Summary, rows: usize) -> Vec<String> {
    let mut paragraphs = vec![
        format!("Options: {}.", options_in_words(&summary.options)),
        format!(
            "Intervals hold the mean with {:.0} % confidence: {} draws of as many clips, with replacement. The baseline \
             drives straight on at the speed of t0.",
            summary.confidence * 100.0,
            summary.resamples
        ),
    ];
    if !summary.failures.is_empty() {
        paragraphs.push(format!(
            "{} failed; their errors are in the table.",
            clips(summary.failures.len())
        ));
    }
    if rows > MOST_ROWS {
        paragraphs.push(format!(
            "The table holds the {MOST_ROWS} clips with the greatest minADE."
        ));
    }
    paragraphs
}

fn numbers(summary: &Summary) -> Vec<(String, String)> {
    let mut numbers: Vec<(String, String)> = Vec::new();
    for key in ["min_ade_6.4s", "ade", "best_fde", "best_corner_distance", "comfortable"] {
        if let Some(metric) = summary.metric(key) {
            numbers.push((metric.name.clone(), metric.text(&metric.model)));
            if key == "ade"
                && let Some(interval) = &metric.constant_velocity
            {
                numbers.push(("ADE of constant velocity".into(), metric.text(interval)));
            }
        }
    }
    if let Some(time) = summary.times_ms.iter().find(|time| time.stage.starts_with("drive")) {
        numbers.push(("median time of a drive".into(), format!("{:.0} ms", time.median)));
    }
    numbers
}

fn model_color() -> Color {
    color::series(0)
}

fn baseline_color() -> Color {
    color::series(1)
}

fn charts(summary: &Summary, measured: &[&Entry]) -> Vec<Scene> {
    let mut charts: Vec<Scene> = Vec::new();
    let [width, height] = CHART;
    let errors: Vec<&ErrorNumbers> = measured.iter().filter_map(|entry| entry.errors()).collect();
    if !errors.is_empty() {
        let values = |of: fn(&ErrorNumbers) -> f64| errors.iter().map(|errors| of(errors)).collect::<Vec<f64>>();
        let (model, baseline) = (values(|e| e.min_ade), values(|e| e.constant_velocity));
        charts.push(histogram(&model).scene(width, height));
        charts.push(shares(&model, &baseline).scene(width, height));
        charts.push(horizons(summary).scene(width, height));
        charts.push(against_baseline(measured).scene(width, height));
        charts.push(ends(measured).scene(width, height));
    }
    let times = times(summary);
    if !times.categories.is_empty() {
        charts.push(times.scene(width, height));
    }
    charts
}

fn histogram(min_ade: &[f64]) -> Histogram {
    Histogram {
        title: "minADE".into(),
        x: Axis::new("minADE (m)").at_least(0.0, 0.0),
        y: Axis::new("clips"),
        samples: vec![Sample {
            name: "model".into(),
            color: model_color(),
            values: min_ade.to_vec(),
        }],
        bins: 0,
    }
}

fn shares(model: &[f64], baseline: &[f64]) -> LineChart {
    LineChart {
        title: "Share of clips with an ADE up to …".into(),
        x: Axis::new("ADE (m)").at_least(0.0, 0.0),
        y: Axis::new("share").range(0.0, 1.0),
        lines: vec![
            Line::new("constant velocity", baseline_color(), cumulative(baseline)),
            Line::new("best sample", model_color(), cumulative(model)),
        ],
        legend: true,
        ..LineChart::default()
    }
}

fn horizons(summary: &Summary) -> LineChart {
    let found = HORIZONS.iter().filter_map(|seconds| {
        let metric = summary.metric(&format!("min_ade_{seconds}s"))?;
        Some((*seconds, metric.model, metric.constant_velocity?))
    });
    let found: Vec<(f64, ConfidenceInterval, ConfidenceInterval)> = found.collect();
    let line =
        |name: &str, color: Color, of: fn(&(f64, ConfidenceInterval, ConfidenceInterval)) -> ConfidenceInterval| {
            let points = found.iter().map(|at| [at.0, of(at).estimate]).collect();
            let band = found.iter().map(|at| [at.0, of(at).lower, of(at).upper]).collect();
            Line::new(name, color, points).band(band).dots()
        };
    LineChart {
        title: "ADE up to a horizon, mean over clips".into(),
        x: Axis::new("horizon (s)").at_least(0.0, 6.4),
        y: Axis::new("ADE (m)").at_least(0.0, 0.0),
        lines: vec![
            line("constant velocity", baseline_color(), |at| at.2),
            line("best sample", model_color(), |at| at.1),
        ],
        legend: true,
        ..LineChart::default()
    }
}

fn against_baseline(measured: &[&Entry]) -> ScatterChart {
    ScatterChart {
        title: "Model and constant velocity, clip by clip".into(),
        x: Axis::new("ADE of constant velocity (m)").at_least(0.0, 0.0),
        y: Axis::new("minADE (m)").at_least(0.0, 0.0),
        clouds: vec![cloud(measured, |errors| [errors.constant_velocity, errors.min_ade])],
        diagonal: false,
    }
}

fn ends(measured: &[&Entry]) -> ScatterChart {
    ScatterChart {
        title: "Where the best sample ends, seen from the true end".into(),
        x: Axis::new("to the right (m)").at_least(-0.5, 0.5),
        y: Axis::new("ahead (m)").at_least(-0.5, 0.5),
        clouds: vec![cloud(measured, |errors| [-errors.end[1], errors.end[0]])],
        diagonal: false,
    }
}

fn cloud(measured: &[&Entry], point: fn(&ErrorNumbers) -> [f64; 2]) -> Cloud {
    let points = measured
        .iter()
        .filter_map(|entry| Some((point(entry.errors()?), entry.key.clone())));
    Cloud {
        name: "clips".into(),
        color: model_color(),
        points: points.collect(),
    }
}

fn times(summary: &Summary) -> BarChart {
    let stages: Vec<_> = summary
        .times_ms
        .iter()
        .filter(|time| !time.stage.starts_with("drive"))
        .collect();
    BarChart {
        title: "Time per clip, median and 95 %".into(),
        x: Axis::new("time (ms)").at_least(0.0, 0.0),
        categories: stages.iter().map(|time| time.stage.to_owned()).collect(),
        series: vec![BarSeries {
            name: "median".into(),
            color: model_color(),
            values: stages.iter().map(|time| time.median).collect(),
            intervals: stages.iter().map(|time| [time.median, time.percentile_95]).collect(),
        }],
    }
}
