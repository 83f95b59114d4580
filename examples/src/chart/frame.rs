//! Title, axes, grid and legend around a chart's data.

use super::axis::{Axis, ticks};
use crate::scene::color::{self, Color};
use crate::scene::node::{Anchor, Label, Node, Paint, Stroke, Weight};
use crate::scene::{Point, Rect, text};

/// Size of the type on axes and in legends.
pub const SMALL: f64 = 13.0;
/// Size of the type of titles.
pub const TITLE: f64 = 16.0;
const LEGEND_ROW: f64 = 20.0;
const SWATCH: f64 = 20.0;

/// How a series is shown in the legend.
#[derive(Clone, Debug)]
pub struct LegendItem {
    /// The series' name.
    pub name: String,
    /// Its line or the outline of its marks.
    pub stroke: Stroke,
    /// Whether a filled box stands for it instead of a line.
    pub filled: bool,
}

/// A chart without its data: where values go, and everything around them.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The rectangle of the data.
    pub data: Rect,
    x: [f64; 2],
    y: [f64; 2],
    decoration: Vec<Node>,
}

/// What stands around the data.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Title; may be empty.
    pub title: &'a str,
    /// The horizontal axis.
    pub x: &'a Axis,
    /// The vertical axis.
    pub y: &'a Axis,
    /// Names at the horizontal positions 0, 1, 2 … of the vertical axis instead of numbers; may be empty.
    pub categories: &'a [String],
    /// The series; no legend where there are none.
    pub legend: &'a [LegendItem],
}

impl Frame {
    /// Lays a chart out in `area` for values in the ranges `x` and `y`.
    pub fn new(area: Rect, around: Surroundings, x: [f64; 2], y: [f64; 2]) -> Self {
        let mut decoration = Vec::new();
        let mut top = area.y;
        if !around.title.is_empty() {
            top += TITLE + 6.0;
            let title = text::shorten(around.title, TITLE, Weight::SemiBold, area.width);
            decoration.push(Label::new(title, [area.x, area.y + TITLE], TITLE).bold().into());
        }
        top = legend(&mut decoration, around.legend, area, top);
        let count = ((area.bottom() - top) / 45.0).clamp(2.0, 8.0) as usize;
        let y_ticks = if around.categories.is_empty() {
            ticks(y, count)
        } else {
            named(around.categories)
        };
        let limit = area.width * 0.4;
        let widest = y_ticks
            .iter()
            .map(|(_, name)| text::width(name, SMALL, Weight::Regular))
            .fold(0.0, f64::max)
            .min(limit);
        let y_label = if around.y.label.is_empty() { 0.0 } else { SMALL + 8.0 };
        let x_label = if around.x.label.is_empty() { 0.0 } else { SMALL + 7.0 };
        let data = Rect::new(area.x, top, area.width, area.bottom() - top).inset(
            widest + y_label + 10.0,
            8.0,
            8.0,
            SMALL + x_label + 8.0,
        );
        let mut frame = Self { data, x, y, decoration };
        frame.x_axis(area, &around.x.label);
        frame.y_axis(area, &around.y.label, &y_ticks, limit, around.categories.is_empty());
        frame
    }

    /// Where a value goes.
    pub fn place(&self, [x, y]: Point) -> Point {
        let right = (x - self.x[0]) / (self.x[1] - self.x[0]);
        let up = (y - self.y[0]) / (self.y[1] - self.y[0]);
        [
            self.data.x + right * self.data.width,
            self.data.bottom() - up * self.data.height,
        ]
    }

    /// The whole chart: axes behind, then the data, cut off at the data's rectangle.
    pub fn around(self, data: Vec<Node>) -> Vec<Node> {
        // Half a line's width outside of the rectangle is let through.
        let clip = self.data.inset(-3.0, -3.0, -3.0, -3.0);
        let mut nodes = self.decoration;
        nodes.push(Node::clipped(clip, data));
        nodes
    }

    fn x_axis(&mut self, area: Rect, label: &str) {
        let count = (self.data.width / 60.0).clamp(2.0, 10.0) as usize;
        let data = self.data;
        for (value, name) in ticks(self.x, count) {
            let [x, _] = self.place([value, self.y[0]]);
            self.grid_line([x, data.y], [x, data.bottom()], value == 0.0);
            let position = [x, data.bottom() + SMALL + 5.0];
            self.note(name, position, Anchor::Middle);
        }
        if !label.is_empty() {
            self.note(
                label.to_owned(),
                [data.center()[0], area.bottom() - 2.0],
                Anchor::Middle,
            );
        }
    }

    fn y_axis(&mut self, area: Rect, label: &str, ticks: &[(f64, String)], limit: f64, grid: bool) {
        let data = self.data;
        for (value, name) in ticks {
            let [_, y] = self.place([self.x[0], *value]);
            if grid {
                self.grid_line([data.x, y], [data.right(), y], *value == 0.0);
            }
            let name = text::shorten(name, SMALL, Weight::Regular, limit);
            self.note(name, [data.x - 8.0, y + 0.36 * SMALL], Anchor::End);
        }
        if !label.is_empty() {
            let position = [area.x + SMALL - 1.0, data.center()[1]];
            let label = Label::new(label, position, SMALL).color(color::MUTED);
            self.decoration.push(label.anchor(Anchor::Middle).turned(-90.0).into());
        }
    }

    fn grid_line(&mut self, from: Point, to: Point, strong: bool) {
        let color = if strong { color::FRAME } else { color::GRID };
        self.decoration
            .push(Node::line(vec![from, to], Stroke::new(color, 1.0)));
    }

    fn note(&mut self, content: String, position: Point, anchor: Anchor) {
        let label = Label::new(content, position, SMALL).color(color::MUTED);
        self.decoration.push(label.anchor(anchor).into());
    }
}

fn named(categories: &[String]) -> Vec<(f64, String)> {
    categories
        .iter()
        .enumerate()
        .map(|(i, name)| (i as f64, name.clone()))
        .collect()
}

/// Draws the legend in as many rows as it needs; returns where the rest begins.
pub fn legend(nodes: &mut Vec<Node>, items: &[LegendItem], area: Rect, top: f64) -> f64 {
    if items.is_empty() {
        return top;
    }
    let (mut x, mut y) = (area.x, top);
    for item in items {
        let name = text::shorten(&item.name, SMALL, Weight::Regular, area.width - SWATCH - 8.0);
        let width = SWATCH + 7.0 + text::width(&name, SMALL, Weight::Regular) + 18.0;
        if x > area.x && x + width - 18.0 > area.right() {
            (x, y) = (area.x, y + LEGEND_ROW);
        }
        let middle = y + LEGEND_ROW / 2.0;
        nodes.push(swatch(item, [x, middle]));
        nodes.push(Label::new(name, [x + SWATCH + 7.0, middle + 0.36 * SMALL], SMALL).into());
        x += width;
    }
    y + LEGEND_ROW + 2.0
}

/// The sign of a series, its left end at `[x, y]`.
pub fn swatch(item: &LegendItem, [x, y]: Point) -> Node {
    if item.filled {
        let color: Color = item.stroke.color;
        let area = Rect::new(x + 4.0, y - 6.0, 12.0, 12.0);
        Node::Rectangle {
            area,
            radius: 2.0,
            paint: Paint::fill(color),
        }
    } else {
        Node::line(vec![[x, y], [x + SWATCH, y]], item.stroke.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_of_the_ranges_are_corners_of_the_data() {
        let (x, y) = (Axis::new("time (s)"), Axis::new("speed (m/s)"));
        let around = Surroundings {
            title: "Speed",
            x: &x,
            y: &y,
            categories: &[],
            legend: &[],
        };
        let area = Rect::new(10.0, 20.0, 400.0, 200.0);
        let frame = Frame::new(area, around, [-2.0, 6.0], [0.0, 15.0]);
        let data = frame.data;
        let near = |a: Point, b: Point| (a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9;
        assert!(near(frame.place([-2.0, 0.0]), [data.x, data.bottom()]));
        assert!(near(frame.place([6.0, 15.0]), [data.right(), data.y]));
        assert!(data.x > area.x && data.right() < area.right() && data.bottom() < area.bottom());
    }
}
