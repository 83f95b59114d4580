//! The reasoning of every sample, equal ones together, beside what the data says.

use super::input::FigureInput;
use super::style::sample_names;
use crate::scene::color::{self, Color};
use crate::scene::node::{Label, Node, Paint, Weight};
use crate::scene::{Rect, text};

const TEXT: f64 = 18.0;
const LEADING: f64 = 26.0;
const HEAD: f64 = 13.0;
const TITLE: f64 = 16.0;
/// Space on the left of a card's text, for its colour.
const INDENT: f64 = 18.0;
const GAP: f64 = 20.0;

struct Card {
    color: Color,
    head: String,
    text: String,
}

/// Draws the reasoning from the top of `area`; also returns where it ends.
pub fn draw(input: &FigureInput, area: Rect) -> (Vec<Node>, f64) {
    let cards = cards(input);
    if cards.is_empty() {
        return (Vec::new(), area.y);
    }
    let mut nodes: Vec<Node> = vec![Label::new("Reasoning", [area.x, area.y + 14.0], TITLE).bold().into()];
    let columns = area.columns(cards.len().min(2), 32.0);
    let mut ends = vec![area.y + TITLE + 12.0; columns.len()];
    for card in &cards {
        // The column that ends higher takes the next card.
        let shortest = (0..columns.len())
            .min_by(|a, b| ends[*a].total_cmp(&ends[*b]))
            .unwrap_or(0);
        let (shapes, bottom) = draw_card(
            card,
            Rect {
                y: ends[shortest],
                ..columns[shortest]
            },
        );
        nodes.extend(shapes);
        ends[shortest] = bottom + GAP;
    }
    (nodes, ends.into_iter().fold(area.y, f64::max) - GAP)
}

fn cards(input: &FigureInput) -> Vec<Card> {
    let error = |samples: &[usize]| -> Option<String> {
        let truth = input.truth.as_ref()?;
        let errors = samples.iter().filter_map(|i| input.plans[*i].track.ade(truth));
        let [low, high] = crate::chart::axis::span(errors)?;
        let (low, high) = (format!("{low:.2}"), format!("{high:.2}"));
        Some(if low == high {
            format!("ADE {low} m")
        } else {
            format!("ADE {low}–{high} m")
        })
    };
    let groups = input.groups();
    let card = |(rank, (reasoning, samples)): (usize, &(&str, Vec<usize>))| {
        let who = match (input.plans.len(), groups.len()) {
            (1, _) => "plan".to_owned(),
            (count, 1) => format!("all {count} samples"),
            _ => sample_names(samples),
        };
        let text = if reasoning.trim().is_empty() {
            "(no words)"
        } else {
            reasoning
        };
        Card {
            color: color::series(rank),
            head: [Some(who), error(samples)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" · "),
            text: text.to_owned(),
        }
    };
    let mut cards: Vec<Card> = groups.iter().enumerate().map(card).collect();
    cards.extend(input.true_reasoning.as_ref().map(|text| Card {
        color: color::INK,
        head: "what the data says".to_owned(),
        text: text.clone(),
    }));
    cards
}

fn draw_card(card: &Card, area: Rect) -> (Vec<Node>, f64) {
    let limit = area.width - INDENT;
    let mut y = area.y + HEAD;
    let mut lines: Vec<Node> = Vec::new();
    for line in text::wrap(&card.head, HEAD, Weight::Regular, limit) {
        lines.push(Label::new(line, [area.x + INDENT, y], HEAD).color(color::MUTED).into());
        y += HEAD + 4.0;
    }
    y += TEXT - HEAD + 4.0;
    for line in text::wrap(&card.text, TEXT, Weight::Regular, limit) {
        lines.push(Label::new(line, [area.x + INDENT, y], TEXT).into());
        y += LEADING;
    }
    let bottom = y - LEADING + 8.0;
    let bar = Rect::new(area.x, area.y, 5.0, bottom - area.y);
    let mut nodes = vec![Node::Rectangle {
        area: bar,
        radius: 2.5,
        paint: Paint::fill(card.color),
    }];
    nodes.extend(lines);
    (nodes, bottom)
}
