//! A sweep as a page: numbers beside the noise floor, severity curves, every pair in a table, and for each clip what moved most, clean
//! and perturbed side by side.

use std::collections::HashMap;

use alpamayo_core::Clip;

use super::curves::{self, Curve};
use super::flip::FlipRecord;
use super::measure;
use super::record::{Drive, IntentKind, PerturbedRecord, Record};
use super::rows::{Row, Rows};
use super::summary::{AgainstNoise, Group, Mean, NOISE_FLOOR, Summary};
use crate::error::Result;
use crate::evaluate::ClipItem;
use crate::evaluate::record::options_in_words;
use crate::figure::{self, Extent, FigureInput};
use crate::report::{Cell, Comparison, Page, Picture, Table, anchor};
use crate::run::{Item, ResultFile};
use crate::scene::Scene;

/// The table of pairs holds this many; of more, those that moved most.
const MOST_ROWS: usize = 5000;
/// As many comparisons are drawn, unless there are more clips: each is two figures inside of the page.
const MOST_COMPARISONS: usize = 120;
const CHART: [f64; 2] = [480.0, 320.0];
/// By what comparisons can be sorted.
const EFFECTS: [&str; 5] = [
    "mean_displacement",
    "final_displacement",
    "token_edit_distance",
    "stated_flip",
    "min_ade_change",
];

/// What the page is made of.
pub struct Sources<'a> {
    /// The drives.
    pub results: &'a ResultFile<Record>,
    /// Where clips are read from again for their figures.
    pub clips: &'a [ClipItem],
    /// The pairs.
    pub rows: &'a Rows,
    /// Their means.
    pub summary: &'a Summary,
    /// The flips, if they were looked for.
    pub flips: Option<(IntentKind, &'a [FlipRecord])>,
    /// How many pairs of each clip are drawn, those of different experiments that moved most. Every clip has its first one; the
    /// others are left out where the page would hold too many.
    pub drawn_per_clip: usize,
}

/// The page of a sweep. Clips that cannot be read again are not drawn.
///
/// # Errors
/// Where the file of results cannot be read, or a figure cannot be drawn.
pub fn page(sources: &Sources<'_>) -> Result<Page> {
    let rows = to_be_drawn(sources.rows, sources.drawn_per_clip, MOST_COMPARISONS);
    let comparisons = comparisons(sources, &rows.drawn)?;
    let drawn: Vec<&str> = comparisons.iter().map(|one| one.id.as_str()).collect();
    let mut tables = vec![groups_table(sources.summary)];
    if let Some((kind, flips)) = sources.flips {
        tables.push(flips_table(flips, kind));
    }
    tables.push(pairs_table(sources.rows, &drawn));
    Ok(Page {
        title: "What moved".into(),
        introduction: introduction(sources, &rows, comparisons.len()),
        numbers: numbers(sources.summary),
        charts: charts(sources),
        tables,
        comparisons,
        ..Page::default()
    })
}

fn introduction(sources: &Sources<'_>, rows: &ToBeDrawn<'_>, drawn: usize) -> Vec<String> {
    let summary = sources.summary;
    let mut paragraphs = vec![
        format!("Options: {}.", options_in_words(sources.results.options())),
        format!(
            "Each perturbed drive is compared with the clean one of the same clip, seed and flow noise, sample by sample. “{NOISE_FLOOR}” \
             is the clean clip against itself with another seed: what moves though nothing was changed. Means are over clips, intervals \
             hold them with 95 % confidence (bootstrap over clips); p is Wilcoxon's signed-rank test of the clips' values against their \
             own noise floor, two-sided, not corrected for the number of rows."
        ),
    ];
    let unfinished = [
        (summary.failures.len(), "failed"),
        (summary.missing, "are still to be done"),
    ];
    for (count, what) in unfinished.into_iter().filter(|(count, _)| *count > 0) {
        paragraphs.push(format!("{count} drives {what}."));
    }
    if sources.rows.rows.len() > MOST_ROWS {
        paragraphs.push(format!("The table of pairs holds the {MOST_ROWS} that moved most."));
    }
    if rows.left_out > 0 {
        paragraphs.push(format!(
            "Clean and perturbed are drawn side by side for each clip's pair that moved most, and for the {} others that moved most; \
             {} more are in the table only.",
            rows.others, rows.left_out
        ));
    }
    let lost = rows.drawn.len() - drawn;
    if lost > 0 {
        paragraphs.push(format!(
            "{lost} pairs are not drawn: their clips could not be read again."
        ));
    }
    paragraphs
}

fn numbers(summary: &Summary) -> Vec<(String, String)> {
    let [images, reused] = summary.images;
    let pairs: usize = summary.groups.iter().map(|group| group.pairs).sum();
    let mut numbers = vec![
        ("clips".to_owned(), summary.clips.to_string()),
        ("pairs of drives".to_owned(), pairs.to_string()),
    ];
    if let Some(noise) = summary.noise_floor().and_then(|noise| noise.mean("mean_displacement")) {
        numbers.push(("noise floor of the displacement".into(), format!("{} m", noise.text())));
    }
    if images > 0 {
        let share = reused as f64 / images as f64 * 100.0;
        numbers.push(("images not looked at again".into(), format!("{share:.0} %")));
    }
    numbers
}

fn charts(sources: &Sources<'_>) -> Vec<Scene> {
    let curves = curves::severity_curves(sources.summary);
    let flips = sources.flips.map(|(kind, flips)| curves::flip_curves(flips, kind));
    let curves: Vec<Curve> = curves.into_iter().chain(flips.into_iter().flatten()).collect();
    let curves = curves.iter().map(|curve| curve.scene(CHART));
    curves::effects(sources.summary).into_iter().chain(curves).collect()
}

fn groups_table(summary: &Summary) -> Table {
    let keys = [
        "mean_displacement",
        "final_displacement",
        "min_ade_change",
        "stated_flip",
        "driven_flip",
        "agreement",
    ];
    let measures = keys.iter().filter_map(|key| measure::Measure::find(key));
    let mut columns = vec!["experiment".to_owned(), "severity".to_owned(), "clips".to_owned()];
    columns.extend(measures.map(measure::Measure::label));
    columns.extend(["above the noise floor (m)", "p"].map(str::to_owned));
    let row = |group: &Group| {
        let mut cells = vec![Cell::text(group.name())];
        cells.push(Cell::from(group.condition.as_ref().map(|(_, severity)| *severity)));
        cells.push(Cell::number(group.clips as f64, 0));
        cells.extend(keys.iter().map(|key| group.mean(key).map_or(Cell::Missing, mean_cell)));
        let against = group.mean(keys[0]).and_then(|mean| mean.against_noise);
        cells.push(Cell::from(against.map(|against| against.difference)));
        cells.push(against.map_or(Cell::Missing, |against: AgainstNoise| {
            Cell::number(against.p_signed_rank, 4)
        }));
        crate::report::Row::new(cells)
    };
    let rows = summary.groups.iter().filter(|group| group.pairs > 0).map(row).collect();
    Table::new("Experiments", columns, rows)
}

fn mean_cell(mean: &Mean) -> Cell {
    let shown = mean.measure.shown(mean.interval.estimate);
    Cell::Estimate(shown, mean.text())
}

fn flips_table(flips: &[FlipRecord], kind: IntentKind) -> Table {
    let columns = [
        "clip",
        "experiment",
        "repetition",
        "clean",
        "with another seed",
        "flips at severity",
        "to",
        "drives",
    ];
    let row = |record: &FlipRecord| {
        let flip = record.flip.as_ref();
        crate::report::Row::new(vec![
            Cell::text(&record.clip),
            Cell::text(&record.experiment),
            Cell::number(f64::from(record.repetition), 0),
            Cell::text(record.clean.to_string()),
            Cell::text(record.control.to_string()),
            flip.map_or(Cell::Missing, |flip| Cell::number(flip.at.value(), 3)),
            flip.map_or(Cell::text("does not flip"), |flip| Cell::text(flip.intent.to_string())),
            Cell::number(record.probes.len() as f64, 0),
        ])
    };
    let title = format!("Where the {} intent flips", kind.name());
    Table::new(title, columns, flips.iter().map(row).collect())
}

fn moved(row: &Row) -> f64 {
    row.value("mean_displacement").unwrap_or_default()
}

fn pairs_table(found: &Rows, drawn: &[&str]) -> Table {
    let columns = [
        "clip",
        "experiment",
        "severity",
        "repetition",
        "moved (m)",
        "at the end (m)",
        "minADE change (m)",
        "edited tokens",
        "words: clean",
        "words: perturbed",
        "plan: clean",
        "plan: perturbed",
        "reasoning, perturbed",
    ];
    let mut rows: Vec<&Row> = found.rows.iter().collect();
    rows.sort_by(|a, b| moved(b).total_cmp(&moved(a)));
    let row = |row: &&Row| {
        let [clean, other] = &row.drives;
        let mut cells = vec![Cell::text(&row.clip)];
        cells.push(Cell::text(row.condition.as_ref().map_or(NOISE_FLOOR, |(name, _)| name)));
        cells.push(Cell::from(row.condition.as_ref().map(|(_, severity)| *severity)));
        cells.push(Cell::number(f64::from(row.repetition), 0));
        let keys = [
            "mean_displacement",
            "final_displacement",
            "min_ade_change",
            "token_edit_distance",
        ];
        cells.extend(keys.map(|key| Cell::from(row.value(key))));
        cells.extend([clean.stated, other.stated, clean.driven, other.driven].map(|it| Cell::text(it.to_string())));
        cells.push(Cell::text(&other.sentence));
        let (id, table_row) = (anchor(&row.key), crate::report::Row::new(cells));
        if drawn.contains(&id.as_str()) {
            table_row.link(id)
        } else {
            table_row
        }
    };
    Table::new("All pairs", columns, rows.iter().take(MOST_ROWS).map(row).collect())
}

/// The pairs whose figures a page shows.
pub(super) struct ToBeDrawn<'a> {
    /// In order of effect.
    pub drawn: Vec<&'a Row>,
    /// Those among them that are not their clips' first.
    pub others: usize,
    /// Pairs that were to be drawn, but would be too many.
    pub left_out: usize,
}

/// Of each clip those pairs of different experiments that moved most, at the severity where they did: the first of every clip, the
/// others while there are no more than `most` in all.
pub(super) fn to_be_drawn(found: &Rows, per_clip: usize, most: usize) -> ToBeDrawn<'_> {
    let mut best: HashMap<(&str, &str), &Row> = HashMap::new();
    for row in &found.rows {
        let Some((experiment, _)) = &row.condition else {
            continue;
        };
        let known = best.entry((row.clip.as_str(), experiment.as_str())).or_insert(row);
        if moved(row) > moved(known) {
            *known = row;
        }
    }
    let by_effect = |a: &&Row, b: &&Row| moved(b).total_cmp(&moved(a)).then_with(|| a.key.cmp(&b.key));
    let mut rows: Vec<&Row> = best.into_values().collect();
    rows.sort_by(by_effect);
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let (mut drawn, mut others) = (Vec::new(), Vec::new());
    for row in rows {
        let count = counts.entry(&row.clip).or_default();
        *count += 1;
        match *count {
            count if count > per_clip => {}
            1 => drawn.push(row),
            _ => others.push(row),
        }
    }
    let wanted = others.len();
    others.truncate(most.saturating_sub(drawn.len()));
    let kept = others.len();
    drawn.extend(others);
    drawn.sort_by(by_effect);
    ToBeDrawn {
        drawn,
        others: kept,
        left_out: wanted - kept,
    }
}

fn comparisons(sources: &Sources<'_>, rows: &[&Row]) -> Result<Vec<Comparison>> {
    let items: HashMap<String, &ClipItem> = sources.clips.iter().map(|clip| (clip.key(), clip)).collect();
    let mut clean: HashMap<(&str, u32), Drive> = HashMap::new();
    let mut comparisons = Vec::new();
    for row in sources.rows.rows.iter().filter(|row| row.condition.is_none()) {
        let is_drawn = rows
            .iter()
            .any(|drawn| drawn.clip == row.clip && drawn.repetition == row.repetition);
        if is_drawn && let Some(Ok(Record::Clean(record))) = sources.results.record(&row.key)? {
            clean.insert((row.clip.as_str(), row.repetition), record.drive);
        }
    }
    for row in rows {
        let Some(before) = clean.get(&(row.clip.as_str(), row.repetition)) else {
            continue;
        };
        let Some(Ok(Record::Perturbed(record))) = sources.results.record(&row.key)? else {
            continue;
        };
        let clip = items.get(&row.clip).and_then(|item| item.read().ok());
        let Some(clip) = clip else { continue };
        comparisons.push(comparison(sources, row, &clip, before, &record)?);
    }
    Ok(comparisons)
}

fn comparison(
    sources: &Sources<'_>,
    row: &Row,
    clip: &Clip,
    before: &Drive,
    record: &PerturbedRecord,
) -> Result<Comparison> {
    let title = format!("{}: {} at severity {}", row.clip, record.experiment, record.severity);
    let perturbed = record.spec.apply(clip)?.clip;
    let [clean_picture, perturbed_picture] = pair([(clip, before), (&perturbed, &record.drive)])?;
    let [clean, other] = &row.drives;
    let arrow = |a: String, b: String| if a == b { a } else { format!("{a} → {b}") };
    let mut facts = vec![
        (
            "words".to_owned(),
            arrow(clean.stated.to_string(), other.stated.to_string()),
        ),
        (
            "plan".to_owned(),
            arrow(clean.driven.to_string(), other.driven.to_string()),
        ),
    ];
    let noise = sources
        .rows
        .rows
        .iter()
        .find(|noise| noise.condition.is_none() && noise.clip == row.clip && noise.repetition == row.repetition);
    if let Some(noise) = noise {
        facts.push((
            "displacement with another seed".into(),
            format!("{:.2} m", moved(noise)),
        ));
    }
    let flips = sources.flips.into_iter().flat_map(|(_, flips)| flips);
    let is_same = |flip: &&FlipRecord| {
        (&flip.clip, &flip.experiment, flip.repetition) == (&row.clip, &record.experiment, row.repetition)
    };
    if let Some(flip) = flips.filter(is_same).find_map(|record| record.flip) {
        facts.push(("flips at severity".into(), format!("{:.3}", flip.at.value())));
    }
    facts.push(("seed".into(), record.drive.seed.to_string()));
    let effects = EFFECTS.iter().filter_map(|key| measure::Measure::find(key));
    Ok(Comparison {
        id: anchor(&row.key),
        title,
        effects: effects
            .map(|measure| {
                let value = row.value(measure.key).map(|value| measure.shown(value));
                (measure.label(), value.unwrap_or(f64::NAN))
            })
            .collect(),
        facts,
        clean: clean_picture,
        perturbed: perturbed_picture,
        clean_reasoning: clean.sentence.clone(),
        perturbed_reasoning: other.sentence.clone(),
    })
}

/// Two drives on the same axes.
fn pair(drives: [(&Clip, &Drive); 2]) -> Result<[Picture; 2]> {
    let trajectories = drives.map(|(_, drive)| drive.trajectories());
    let mut inputs = drives.map(|(clip, _)| FigureInput::from_clip(clip));
    for ((input, trajectories), (_, drive)) in inputs.iter_mut().zip(&trajectories).zip(drives) {
        for (trajectory, sample) in trajectories.iter().zip(&drive.samples) {
            input.plan(trajectory, &sample.reasoning);
        }
    }
    let extent = Extent::of(&inputs[0]).union(&Extent::of(&inputs[1]));
    let picture = |mut input: FigureInput<'_>| {
        input.extent = Some(extent);
        figure::draw(&input).map(|scene| Picture::inline(&scene))
    };
    let [clean, perturbed] = inputs;
    Ok([picture(clean)?, picture(perturbed)?])
}
