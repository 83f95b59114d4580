//! Title, description and numbers.

use super::input::FigureInput;
use crate::scene::color;
use crate::scene::node::{Anchor, Label, Node, Weight};
use crate::scene::{Rect, text};

const TITLE: f64 = 30.0;
const TEXT: f64 = 16.0;
const VALUE: f64 = 24.0;
const NAME: f64 = 13.0;
const NUMBER_GAP: f64 = 34.0;
const NUMBER_HEIGHT: f64 = 50.0;

/// Draws the header from the top of `area`; also returns where it ends.
pub fn draw(input: &FigureInput, area: Rect) -> (Vec<Node>, f64) {
    let rows = number_rows(input, area.width);
    let width = rows
        .first()
        .map_or(0.0, |row| row.iter().map(number_width).sum::<f64>());
    let beside = rows.len() <= 1 && width < 0.55 * area.width;
    let limit = if beside { area.width - width } else { area.width };

    let mut nodes = Vec::new();
    let mut y = area.y;
    if !input.title.is_empty() {
        y += TITLE * 0.85;
        let title = text::shorten(&input.title, TITLE, Weight::SemiBold, limit);
        nodes.push(Label::new(title, [area.x, y], TITLE).bold().into());
    }
    for line in text::wrap(&input.description, TEXT, Weight::Regular, limit.min(1100.0))
        .iter()
        .take(3)
    {
        y += TEXT * 1.5;
        nodes.push(Label::new(line, [area.x, y], TEXT).color(color::MUTED).into());
    }
    let mut top = if beside { area.y - 4.0 } else { y + 12.0 };
    for row in &rows {
        nodes.extend(numbers(row, area, top, beside));
        top += NUMBER_HEIGHT;
    }
    let bottom = if rows.is_empty() { y } else { y.max(top - 6.0) };
    (nodes, bottom)
}

type Number = (String, String);

fn number_width((name, value): &Number) -> f64 {
    let (name, value) = (
        text::width(name, NAME, Weight::Regular),
        text::width(value, VALUE, Weight::SemiBold),
    );
    name.max(value) + NUMBER_GAP
}

/// The numbers in rows that fit.
fn number_rows(input: &FigureInput, limit: f64) -> Vec<Vec<Number>> {
    let mut rows: Vec<Vec<Number>> = Vec::new();
    let mut used = 0.0;
    for number in &input.numbers {
        let width = number_width(number);
        match rows.last_mut() {
            Some(row) if used + width <= limit => {
                row.push(number.clone());
                used += width;
            }
            _ => {
                rows.push(vec![number.clone()]);
                used = width;
            }
        }
    }
    rows
}

/// One row of numbers, at the right end of `area` beside the title or at its left end below it.
fn numbers(row: &[Number], area: Rect, top: f64, beside: bool) -> Vec<Node> {
    let total: f64 = row.iter().map(number_width).sum();
    let mut x = if beside {
        area.right() - total + NUMBER_GAP
    } else {
        area.x
    };
    let mut nodes = Vec::new();
    for number in row {
        let width = number_width(number);
        let (position, anchor) = if beside {
            (x + width - NUMBER_GAP, Anchor::End)
        } else {
            (x, Anchor::Start)
        };
        let name = Label::new(&number.0, [position, top + NAME], NAME).color(color::MUTED);
        nodes.push(name.anchor(anchor).into());
        let value = Label::new(&number.1, [position, top + NAME + VALUE + 3.0], VALUE).bold();
        nodes.push(value.anchor(anchor).into());
        x += width;
    }
    nodes
}
