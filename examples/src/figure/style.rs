//! How history, truth and samples look in every part of a figure.

use super::input::FigureInput;
use crate::chart::frame::LegendItem;
use crate::scene::Stroke;
use crate::scene::color::{self, Color};

/// How one sample is drawn.
pub struct PlanStyle {
    /// The sample.
    pub index: usize,
    /// The colour of its reasoning.
    pub color: Color,
    /// Whether it is the one that is drawn boldly.
    pub best: bool,
}

impl PlanStyle {
    /// The sample's line.
    pub fn stroke(&self) -> Stroke {
        if self.best {
            Stroke::new(self.color, 3.4)
        } else {
            Stroke::new(self.color.with_alpha(0.65), 1.8)
        }
    }
}

/// Every sample's style, the boldly drawn one last, on top of the others.
pub fn plans(input: &FigureInput) -> Vec<PlanStyle> {
    let best = input.best();
    let groups = input.groups();
    let style = |(rank, index): (usize, usize)| PlanStyle {
        index,
        color: color::series(rank),
        best: index == best,
    };
    let ranked = groups
        .iter()
        .enumerate()
        .flat_map(|(rank, (_, samples))| samples.iter().map(move |i| (rank, *i)));
    let mut styles: Vec<PlanStyle> = ranked.map(style).collect();
    styles.sort_by_key(|style| (style.best, style.index));
    styles
}

/// The line of what was driven before.
pub fn history() -> Stroke {
    Stroke::new(color::HISTORY, 3.0)
}

/// The line of what happened.
pub fn truth() -> Stroke {
    Stroke::new(color::INK, 2.2).dashed(7.0, 6.0)
}

/// The lines' names.
pub fn legend(input: &FigureInput) -> Vec<LegendItem> {
    let item = |name: String, stroke: Stroke| LegendItem {
        name,
        stroke,
        filled: false,
    };
    let mut items = Vec::new();
    if !input.history.xyz.is_empty() {
        items.push(item("history".to_owned(), history()));
    }
    if input.truth.is_some() {
        items.push(item("what happened".to_owned(), truth()));
    }
    let groups = input.groups();
    let best = input.best();
    for (rank, (_, samples)) in groups.iter().enumerate() {
        let name = match (input.plans.len(), groups.len()) {
            (1, _) => "plan".to_owned(),
            (_, 1) => format!("{} samples", samples.len()),
            _ => sample_names(samples),
        };
        let bold = samples.contains(&best);
        let name = match (bold && input.plans.len() > 1, input.truth.is_some()) {
            (true, true) => format!("{name} (bold: {}, the closest)", best + 1),
            (true, false) => format!("{name} (bold: the first)"),
            _ => name,
        };
        items.push(item(
            name,
            Stroke::new(color::series(rank), if bold { 3.4 } else { 1.8 }),
        ));
    }
    items
}

/// `sample 3`, `samples 1, 3–5`.
pub fn sample_names(samples: &[usize]) -> String {
    let mut runs: Vec<[usize; 2]> = Vec::new();
    for sample in samples.iter().map(|i| i + 1) {
        match runs.last_mut() {
            Some(run) if run[1] + 1 == sample => run[1] = sample,
            _ => runs.push([sample, sample]),
        }
    }
    let runs: Vec<String> = runs
        .iter()
        .map(|[from, to]| match to - from {
            0 => from.to_string(),
            1 => format!("{from}, {to}"),
            _ => format!("{from}–{to}"),
        })
        .collect();
    let noun = if samples.len() == 1 { "sample" } else { "samples" };
    format!("{noun} {}", runs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_named_by_runs() {
        assert_eq!(sample_names(&[2]), "sample 3");
        assert_eq!(sample_names(&[0, 1]), "samples 1, 2");
        assert_eq!(sample_names(&[0, 2, 3, 4, 7]), "samples 1, 3–5, 8");
    }
}
