//! Lines over a common axis, with bands of uncertainty.

use super::Chart;
use super::axis::Axis;
use super::frame::{Frame, LegendItem, SMALL, Surroundings};
use crate::scene::color::{self, Color};
use crate::scene::node::{Anchor, Label, Node, Stroke};
use crate::scene::{Point, Rect};

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend; a line without one is not in the legend.
    pub name: String,
    /// Colour, width and dashes.
    pub stroke: Stroke,
    /// Its points; one that is not finite interrupts the line.
    pub points: Vec<Point>,
    /// A band around it: x, lower end, upper end.
    pub band: Vec<[f64; 3]>,
    /// Whether each point is marked by a dot.
    pub dots: bool,
}

impl Line {
    /// An unbroken line two pixels wide.
    pub fn new(name: impl Into<String>, color: Color, points: Vec<Point>) -> Self {
        Self {
            name: name.into(),
            stroke: Stroke::new(color, 2.0),
            points,
            band: Vec::new(),
            dots: false,
        }
    }

    /// With a band: x, lower end, upper end.
    pub fn band(mut self, band: Vec<[f64; 3]>) -> Self {
        self.band = band;
        self
    }

    /// With a dot at each point.
    pub fn dots(mut self) -> Self {
        self.dots = true;
        self
    }

    /// With another stroke.
    pub fn stroke(mut self, stroke: Stroke) -> Self {
        self.stroke = stroke;
        self
    }
}

/// Lines over a common axis, as in severity curves.
#[derive(Clone, Debug, Default)]
pub struct LineChart {
    /// Title; may be empty.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines, from back to front.
    pub lines: Vec<Line>,
    /// Vertical lines across the chart: where, and what is written beside it, if anything.
    pub marks: Vec<(f64, String)>,
    /// Horizontal dashed lines across the chart (a noise floor): where, and what is written above it, if anything.
    pub levels: Vec<(f64, String)>,
    /// Whether the lines' names are shown.
    pub legend: bool,
}

impl LineChart {
    fn legend_items(&self) -> Vec<LegendItem> {
        let named = self.lines.iter().filter(|line| self.legend && !line.name.is_empty());
        named
            .map(|line| LegendItem {
                name: line.name.clone(),
                stroke: line.stroke.clone(),
                filled: false,
            })
            .collect()
    }

    fn annotations(&self, frame: &Frame) -> Vec<Node> {
        let data = frame.data;
        let mut nodes = Vec::new();
        for (value, name) in &self.marks {
            let [x, _] = frame.place([*value, 0.0]);
            nodes.push(Node::line(
                vec![[x, data.y], [x, data.bottom()]],
                Stroke::new(color::HISTORY, 1.0),
            ));
            let label = Label::new(name, [x + 5.0, data.y + SMALL - 1.0], SMALL).color(color::MUTED);
            nodes.push(label.halo(color::PAPER).into());
        }
        for (value, name) in &self.levels {
            let [_, y] = frame.place([0.0, *value]);
            let stroke = Stroke::new(color::MUTED, 1.2).dashed(3.0, 4.0);
            nodes.push(Node::line(vec![[data.x, y], [data.right(), y]], stroke));
            let label = Label::new(name, [data.right() - 4.0, y - 5.0], SMALL).color(color::MUTED);
            nodes.push(label.anchor(Anchor::End).halo(color::PAPER).into());
        }
        nodes
    }
}

impl Chart for LineChart {
    fn draw(&self, area: Rect) -> Vec<Node> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let bands = || self.lines.iter().flat_map(|line| &line.band);
        let x = self.x.resolve(points().map(|p| p[0]).chain(bands().map(|b| b[0])));
        let levels = self.levels.iter().map(|level| level.0);
        let heights = points()
            .map(|p| p[1])
            .chain(bands().flat_map(|b| [b[1], b[2]]))
            .chain(levels);
        let y = self.y.resolve(heights);
        let around = Surroundings {
            title: &self.title,
            x: &self.x,
            y: &self.y,
            categories: &[],
            legend: &self.legend_items(),
        };
        let frame = Frame::new(area, around, x, y);
        let mut nodes = self.annotations(&frame);
        for line in &self.lines {
            let upper = line.band.iter().map(|b| frame.place([b[0], b[2]]));
            let lower = line.band.iter().rev().map(|b| frame.place([b[0], b[1]]));
            nodes.push(Node::polygon(
                upper.chain(lower).collect(),
                line.stroke.color.with_alpha(0.16),
            ));
        }
        for line in &self.lines {
            let points: Vec<Point> = line.points.iter().map(|point| frame.place(*point)).collect();
            if line.dots {
                nodes.extend(points.iter().map(|point| Node::dot(*point, 3.5, line.stroke.color)));
            }
            nodes.push(Node::line(points, line.stroke.clone()));
        }
        frame.around(nodes)
    }
}
