//! Speed and curvature over time.

use super::extent::Extent;
use super::input::{FigureInput, STEP, Track};
use super::overlay::wrap;
use super::style;
use crate::chart::{Axis, Chart, Line, LineChart};
use crate::scene::{Node, Point, Rect, Stroke};

/// Shortest step in metres whose curvature is shown: slower than 0.5 m/s a heading says nothing.
const SHORTEST_STEP: f64 = 0.05;

/// Speed and curvature of a track between its poses.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Seconds after t0, metres per second; negative where the car moves against its heading.
    pub speed: Vec<Point>,
    /// Seconds after t0, one over metres (left positive); not finite where the car hardly moves.
    pub curvature: Vec<Point>,
}

/// Speed and curvature of a track whose first pose is at `start` seconds.
pub fn of(track: &Track, start: f64) -> Profile {
    let (ground, headings) = (track.ground(), track.headings());
    let mut profile = Profile::default();
    for (i, (points, headings)) in ground.windows(2).zip(headings.windows(2)).enumerate() {
        let time = start + (i as f64 + 0.5) * STEP;
        let step = [points[1][0] - points[0][0], points[1][1] - points[0][1]];
        let middle = headings[0] + 0.5 * wrap(headings[1] - headings[0]);
        let backward = step[0] * middle.cos() + step[1] * middle.sin() < 0.0;
        let distance = if backward {
            -step[0].hypot(step[1])
        } else {
            step[0].hypot(step[1])
        };
        let moves = distance.abs() >= SHORTEST_STEP;
        let curvature = if moves {
            wrap(headings[1] - headings[0]) / distance
        } else {
            f64::NAN
        };
        profile.speed.push([time, distance / STEP]);
        profile.curvature.push([time, curvature]);
    }
    profile
}

/// Draws both charts side by side in `area`.
pub fn draw(input: &FigureInput, extent: &Extent, area: Rect) -> Vec<Node> {
    let history = of(&input.history, -STEP * (input.history.xyz.len() as f64 - 1.0));
    let mut lines = vec![(history, style::history())];
    for style in style::plans(input) {
        lines.push((ahead(&input.plans[style.index].track), style.stroke()));
    }
    lines.extend(input.truth.as_ref().map(|truth| (ahead(truth), style::truth())));

    let columns = area.columns(2, 28.0);
    let speed = chart("Speed (m/s)", extent.speed, lines.iter().map(|(p, s)| (&p.speed, s)));
    let curvature = chart(
        "Curvature (1/m), left positive",
        extent.curvature,
        lines.iter().map(|(p, s)| (&p.curvature, s)),
    );
    let mut nodes = speed.draw(columns[0]);
    nodes.extend(curvature.draw(columns[1]));
    nodes
}

/// A track that begins where the vehicle is at t0.
fn ahead(track: &Track) -> Profile {
    let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let xyz: Vec<[f32; 3]> = [[0.0; 3]].iter().chain(track.xyz).copied().collect();
    let rot: Vec<[[f32; 3]; 3]> = [identity].iter().chain(track.rot).copied().collect();
    of(&Track::new(&xyz, &rot), 0.0)
}

fn chart<'a>(title: &str, range: [f64; 2], lines: impl Iterator<Item = (&'a Vec<Point>, &'a Stroke)>) -> LineChart {
    let line =
        |(points, stroke): (&Vec<Point>, &Stroke)| Line::new("", stroke.color, points.clone()).stroke(stroke.clone());
    LineChart {
        title: title.to_owned(),
        x: Axis::new("seconds after t0").range(-1.6, 6.4),
        y: Axis::new("").range(range[0], range[1]),
        lines: lines.map(line).collect(),
        marks: vec![(0.0, String::new())],
        ..LineChart::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_has_its_speed_and_its_curvature() {
        let (radius, speed) = (25.0f64, 8.0f64);
        let pose = |i: usize| {
            let angle = (i as f64 * STEP * speed / radius) as f32;
            let (sine, cosine) = angle.sin_cos();
            let xyz = [radius as f32 * sine, radius as f32 * (1.0 - cosine), 0.0];
            (xyz, [[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        };
        let (xyz, rot): (Vec<_>, Vec<_>) = (0..40).map(pose).unzip();
        let profile = of(&Track::new(&xyz, &rot), 0.0);
        assert_eq!(profile.speed.len(), 39);
        assert!((profile.speed[0][0] - 0.05).abs() < 1e-12);
        assert!(profile.speed.iter().all(|point| (point[1] - speed).abs() < 0.01));
        assert!(
            profile
                .curvature
                .iter()
                .all(|point| (point[1] - 1.0 / radius).abs() < 1e-3)
        );
        // Without rotations the displacements give nearly the same, but at the ends.
        let profile = of(&Track::new(&xyz, &[]), 0.0);
        assert!(
            profile.curvature[2..37]
                .iter()
                .all(|point| (point[1] - 1.0 / radius).abs() < 1e-3)
        );
    }

    #[test]
    fn against_the_heading_is_a_negative_speed() {
        let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let profile = of(&Track::new(&[[0.0; 3], [-0.2, 0.0, 0.0]], &[identity; 2]), 0.0);
        assert!((profile.speed[0][1] + 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_standing_car_has_no_curvature() {
        let profile = of(&Track::new(&[[1.0, 2.0, 0.0]; 5], &[]), 0.0);
        assert!(profile.speed.iter().all(|point| point[1] == 0.0));
        assert!(profile.curvature.iter().all(|point| point[1].is_nan()));
    }
}
