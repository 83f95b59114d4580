//! The plan on the road, in a camera's frame.

use super::input::{Camera, FigureInput, Track};
use super::style;
use crate::scene::color::{self, Color};
use crate::scene::node::{Node, Stroke};
use crate::scene::{Point, Rect};

/// Half the width in metres of the ribbon that the bold plan is drawn as.
const HALF_RIBBON: f64 = 0.9;
/// Each step is drawn as this many pieces, since wide lenses bend straight lines.
const PIECES: usize = 4;

/// The tracks as the camera sees them on the ground, drawn over its frame in `area`. Nothing where its projection is
/// unknown.
pub fn draw(input: &FigureInput, camera: &Camera, area: Rect) -> Vec<Node> {
    let Some(projection) = &camera.projection else {
        return Vec::new();
    };
    let seen = |point: [f64; 3]| match projection.project(point) {
        Some([x, y]) => [area.x + x * area.width, area.y + y * area.height],
        None => [f64::NAN; 2],
    };
    let styles = style::plans(input);
    let mut nodes = Vec::new();
    if let Some(best) = styles.last() {
        nodes.extend(ribbon(&Fine::of(&input.plans[best.index].track), &seen, best.color));
    }
    for style in styles.iter().filter(|style| !style.best) {
        let track = &input.plans[style.index].track;
        let line = Fine::of(track).offset(0.0).map(seen).collect::<Vec<Point>>();
        nodes.push(Node::line(line.clone(), Stroke::new(color::PAPER.with_alpha(0.7), 3.6)));
        nodes.push(Node::line(line, Stroke::new(style.color, 2.2)));
    }
    if let Some(truth) = &input.truth {
        let line: Vec<Point> = Fine::of(truth).offset(0.0).map(seen).collect();
        nodes.push(Node::line(
            line.clone(),
            Stroke::new(color::PAPER.with_alpha(0.85), 4.4),
        ));
        nodes.push(Node::line(line, style::truth()));
    }
    vec![Node::clipped(area, nodes)]
}

/// The bold plan as a strip of the road.
fn ribbon(fine: &Fine, seen: &dyn Fn([f64; 3]) -> Point, color: Color) -> Vec<Node> {
    let sides = fine
        .offset(HALF_RIBBON)
        .map(seen)
        .zip(fine.offset(-HALF_RIBBON).map(seen));
    let mut strips: Vec<Vec<(Point, Point)>> = vec![Vec::new()];
    for (left, right) in sides {
        if left[0].is_finite() && right[0].is_finite() {
            let last = strips.len() - 1;
            strips[last].push((left, right));
        } else {
            strips.push(Vec::new());
        }
    }
    let edge = Stroke::new(color, 2.4);
    let mut nodes = Vec::new();
    for strip in strips.iter().filter(|strip| strip.len() > 1) {
        let left: Vec<Point> = strip.iter().map(|(left, _)| *left).collect();
        let right: Vec<Point> = strip.iter().map(|(_, right)| *right).collect();
        let outline = left.iter().chain(right.iter().rev()).copied().collect();
        nodes.push(Node::polygon(outline, color.with_alpha(0.38)));
        nodes.push(Node::line(left, edge.clone()));
        nodes.push(Node::line(right, edge.clone()));
    }
    nodes
}

/// A track from the vehicle on, in small pieces, with its headings.
struct Fine {
    points: Vec<([f64; 3], f64)>,
}

impl Fine {
    fn of(track: &Track) -> Self {
        let poses = track.xyz.iter().map(|point| point.map(f64::from)).zip(track.headings());
        let mut points = vec![([0.0; 3], 0.0)];
        for (to, heading_to) in poses {
            let (from, heading_from) = points[points.len() - 1];
            for piece in 1..=PIECES {
                let share = piece as f64 / PIECES as f64;
                let point = std::array::from_fn(|i| from[i] + share * (to[i] - from[i]));
                points.push((point, heading_from + share * wrap(heading_to - heading_from)));
            }
        }
        Self { points }
    }

    /// The track moved to its left by `left` metres.
    fn offset(&self, left: f64) -> impl Iterator<Item = [f64; 3]> {
        self.points.iter().map(move |([x, y, z], heading)| {
            let (sine, cosine) = heading.sin_cos();
            [x - left * sine, y + left * cosine, *z]
        })
    }
}

/// An angle between -π and π.
pub fn wrap(angle: f64) -> f64 {
    let turn = std::f64::consts::TAU;
    angle - turn * (angle / turn).round()
}
