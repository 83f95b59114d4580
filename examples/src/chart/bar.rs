//! Horizontal bars by category, with intervals.

use super::Chart;
use super::axis::Axis;
use super::frame::{Frame, LegendItem, Surroundings};
use crate::scene::color::{self, Color};
use crate::scene::node::{Node, Paint, Stroke};
use crate::scene::{Point, Rect};

/// One bar in every category.
#[derive(Clone, Debug)]
pub struct BarSeries {
    /// The series' name in the legend.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// Its length in each category; a value that is not finite has no bar.
    pub values: Vec<f64>,
    /// An interval in each category, or none at all.
    pub intervals: Vec<[f64; 2]>,
}

/// Horizontal bars by category, the first category on top.
#[derive(Clone, Debug, Default)]
pub struct BarChart {
    /// Title; may be empty.
    pub title: String,
    /// The axis of the bars' lengths; zero is always on it.
    pub x: Axis,
    /// The categories' names.
    pub categories: Vec<String>,
    /// The bars; a legend is drawn where there is more than one series.
    pub series: Vec<BarSeries>,
}

impl BarChart {
    /// The height that gives every category `row` pixels.
    pub fn height(&self, row: f64) -> f64 {
        let legend = if self.series.len() > 1 { 22.0 } else { 0.0 };
        90.0 + legend + row * self.categories.len() as f64
    }
}

impl Chart for BarChart {
    fn draw(&self, area: Rect) -> Vec<Node> {
        let values = self.series.iter().flat_map(|series| &series.values).copied();
        let ends = self
            .series
            .iter()
            .flat_map(|series| &series.intervals)
            .flatten()
            .copied();
        let x = self.x.resolve(values.chain(ends).chain([0.0]));
        let items = self
            .series
            .iter()
            .filter(|_| self.series.len() > 1)
            .map(|series| LegendItem {
                name: series.name.clone(),
                stroke: Stroke::new(series.color, 2.0),
                filled: true,
            });
        let y_axis = Axis::default();
        let around = Surroundings {
            title: &self.title,
            x: &self.x,
            y: &y_axis,
            categories: &self.categories,
            legend: &items.collect::<Vec<_>>(),
        };
        let y = [self.categories.len().max(1) as f64 - 0.5, -0.5];
        let frame = Frame::new(area, around, x, y);
        let thickness = 0.72 / self.series.len().max(1) as f64;
        let mut nodes = Vec::new();
        for (rank, series) in self.series.iter().enumerate() {
            for (category, value) in series.values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                let upper = category as f64 - 0.36 + rank as f64 * thickness;
                let [start, end] = [frame.place([0.0, upper]), frame.place([*value, upper + thickness])];
                let bar = Rect::new(
                    start[0].min(end[0]),
                    start[1],
                    (end[0] - start[0]).abs(),
                    end[1] - start[1],
                );
                nodes.push(Node::rectangle(bar, Paint::fill(series.color.with_alpha(0.85))).titled(value.to_string()));
                if let Some([low, high]) = series.intervals.get(category) {
                    let middle = upper + thickness / 2.0;
                    nodes.extend(whisker(frame.place([*low, middle]), frame.place([*high, middle])));
                }
            }
        }
        frame.around(nodes)
    }
}

fn whisker(low: Point, high: Point) -> Vec<Node> {
    let stroke = Stroke::new(color::INK, 1.4);
    let end = |[x, y]: Point| Node::line(vec![[x, y - 4.0], [x, y + 4.0]], stroke.clone());
    vec![Node::line(vec![low, high], stroke.clone()), end(low), end(high)]
}
