//! Points over two quantities.

use super::Chart;
use super::axis::Axis;
use super::frame::{Frame, LegendItem, Surroundings};
use crate::scene::color::{self, Color};
use crate::scene::node::{Node, Paint, Stroke};
use crate::scene::{Point, Rect};

/// Points of one kind.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// The kind's name in the legend.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// Its points, each with what a viewer shows when pointing at it.
    pub points: Vec<(Point, String)>,
}

/// Points over two quantities, as clean against perturbed errors.
#[derive(Clone, Debug, Default)]
pub struct ScatterChart {
    /// Title; may be empty.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The points by kind; a legend is drawn where there is more than one.
    pub clouds: Vec<Cloud>,
    /// Whether the line of equal values is drawn; both axes then show the same range.
    pub diagonal: bool,
}

impl Chart for ScatterChart {
    fn draw(&self, area: Rect) -> Vec<Node> {
        let points = || {
            self.clouds
                .iter()
                .flat_map(|cloud| cloud.points.iter().map(|(point, _)| *point))
        };
        let mut x = self.x.resolve(points().map(|p| p[0]));
        let mut y = self.y.resolve(points().map(|p| p[1]));
        if self.diagonal {
            x = [x[0].min(y[0]), x[1].max(y[1])];
            y = x;
        }
        let items = self
            .clouds
            .iter()
            .filter(|_| self.clouds.len() > 1)
            .map(|cloud| LegendItem {
                name: cloud.name.clone(),
                stroke: Stroke::new(cloud.color, 2.0),
                filled: true,
            });
        let around = Surroundings {
            title: &self.title,
            x: &self.x,
            y: &self.y,
            categories: &[],
            legend: &items.collect::<Vec<_>>(),
        };
        let frame = Frame::new(area, around, x, y);
        let mut nodes = Vec::new();
        if self.diagonal {
            let ends = vec![frame.place([x[0], x[0]]), frame.place([x[1], x[1]])];
            nodes.push(Node::line(ends, Stroke::new(color::MUTED, 1.2).dashed(5.0, 4.0)));
        }
        for cloud in &self.clouds {
            let paint = Paint::fill(cloud.color.with_alpha(0.6)).outlined(Stroke::new(color::PAPER, 0.8));
            nodes.extend(cloud.points.iter().map(|(point, title)| {
                let (center, paint) = (frame.place(*point), paint.clone());
                Node::Circle {
                    center,
                    radius: 4.5,
                    paint,
                }
                .titled(title)
            }));
        }
        frame.around(nodes)
    }
}
