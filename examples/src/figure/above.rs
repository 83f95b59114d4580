//! The view from above: forward up, left on the left, the same scale on both axes.

use super::extent::Extent;
use super::input::{FigureInput, Track, Vehicle};
use super::style;
use crate::chart::axis::ticks;
use crate::chart::frame::{SMALL, TITLE, legend};
use crate::scene::color;
use crate::scene::node::{Anchor, Label, Node, Paint, Stroke};
use crate::scene::{Color, Point, Rect};

/// Pixels that texts of neighbouring seconds keep between them.
const SECOND_GAP: f64 = 26.0;
/// Pixels that the number of a second takes at most, width and height.
const SECOND_SIZE: [f64; 2] = [24.0, 18.0];

/// Draws the view from above in `area`.
pub fn draw(input: &FigureInput, extent: &Extent, area: Rect) -> Vec<Node> {
    let mut nodes: Vec<Node> = vec![
        Label::new("View from above", [area.x, area.y + 14.0], TITLE)
            .bold()
            .into(),
    ];
    let top = legend(&mut nodes, &style::legend(input), area, area.y + TITLE + 8.0) + 2.0;
    let panel = Rect::new(area.x, top, area.width, area.bottom() - top).inset(30.0, 0.0, 1.0, 36.0);
    let view = View::new(panel, extent);

    nodes.push(Node::rectangle(panel, Paint::fill(color::PANEL)));
    nodes.extend(view.grid());
    nodes.push(Node::clipped(panel, tracks(input, &view)));
    nodes.push(Node::rectangle(panel, Paint::stroke(Stroke::new(color::FRAME, 1.0))));
    nodes
}

/// Which pixel a place on the ground has.
struct View {
    panel: Rect,
    /// Pixels per metre.
    scale: f64,
    /// Metres ahead at the lower edge.
    lowest: f64,
    /// Metres to the left in the middle.
    middle: f64,
}

impl View {
    fn new(panel: Rect, extent: &Extent) -> Self {
        let [back, front] = extent.forward;
        let [right, left] = extent.left;
        let scale = (panel.height / (front - back)).min(panel.width / (left - right));
        Self {
            panel,
            scale,
            lowest: back,
            middle: (left + right) / 2.0,
        }
    }

    fn place(&self, [forward, left]: [f64; 2]) -> Point {
        let [x, _] = self.panel.center();
        [
            x - (left - self.middle) * self.scale,
            self.panel.bottom() - (forward - self.lowest) * self.scale,
        ]
    }

    /// The metres that the panel shows: forward, left.
    fn shown(&self) -> ([f64; 2], [f64; 2]) {
        let half = self.panel.width / self.scale / 2.0;
        let forward = [self.lowest, self.lowest + self.panel.height / self.scale];
        (forward, [self.middle - half, self.middle + half])
    }

    fn grid(&self) -> Vec<Node> {
        let (forward, left) = self.shown();
        let panel = self.panel;
        let line = |from: Point, to: Point, value: f64| {
            let color = if value == 0.0 { color::FRAME } else { color::GRID };
            Node::line(vec![from, to], Stroke::new(color, 1.0))
        };
        let note = |content: String, position: Point, anchor: Anchor| {
            Node::from(Label::new(content, position, SMALL).color(color::MUTED).anchor(anchor))
        };
        let mut nodes = Vec::new();
        for (value, name) in ticks(forward, (panel.height / 70.0) as usize) {
            let [_, y] = self.place([value, 0.0]);
            nodes.push(line([panel.x, y], [panel.right(), y], value));
            nodes.push(note(name, [panel.x - 6.0, y + 4.5], Anchor::End));
        }
        for (value, name) in ticks(left, (panel.width / 60.0) as usize) {
            let [x, _] = self.place([0.0, value]);
            nodes.push(line([x, panel.y], [x, panel.bottom()], value));
            nodes.push(note(name, [x, panel.bottom() + 16.0], Anchor::Middle));
        }
        let caption = "metres forward (up) and left of the rear axle at t0";
        nodes.push(note(
            caption.to_owned(),
            [panel.center()[0], panel.bottom() + 34.0],
            Anchor::Middle,
        ));
        nodes
    }
}

fn tracks(input: &FigureInput, view: &View) -> Vec<Node> {
    let origin = [0.0, 0.0];
    let line = |points: Vec<[f64; 2]>| {
        points
            .into_iter()
            .map(|point| view.place(point))
            .collect::<Vec<Point>>()
    };
    let ahead = |track: &Track| line([origin].into_iter().chain(track.ground()).collect());

    let mut nodes = vec![Node::line(line(input.history.ground()), style::history())];
    let styles = style::plans(input);
    for style in &styles {
        nodes.push(Node::line(ahead(&input.plans[style.index].track), style.stroke()));
    }
    if let Some(truth) = &input.truth {
        nodes.push(Node::line(ahead(truth), style::truth()));
        nodes.extend(seconds(truth).map(|(_, point)| dot(view.place(point), 3.4, color::INK)));
    }
    if let Some(best) = styles.last() {
        nodes.extend(numbered_seconds(
            input,
            &input.plans[best.index].track,
            view,
            best.color,
        ));
    }
    nodes.extend(vehicle(&input.vehicle, view));
    nodes
}

/// The places at full seconds.
fn seconds(track: &Track) -> impl Iterator<Item = (usize, [f64; 2])> {
    let whole = track
        .ground()
        .into_iter()
        .enumerate()
        .filter(|(i, _)| (i + 1) % 10 == 0);
    whole.map(|(i, point)| ((i + 1) / 10, point))
}

fn dot(center: Point, radius: f64, fill: Color) -> Node {
    let paint = Paint::fill(fill).outlined(Stroke::new(color::PAPER, 1.2));
    Node::Circle { center, radius, paint }
}

/// A dot at every full second, and its number where there is room, on the side where what happened is not if there is room there.
fn numbered_seconds(input: &FigureInput, track: &Track, view: &View, color: Color) -> Vec<Node> {
    let happened: Vec<Point> = match &input.truth {
        Some(truth) => seconds(truth).map(|(_, point)| view.place(point)).collect(),
        None => Vec::new(),
    };
    let mut nodes = Vec::new();
    let mut last = view.place([0.0, 0.0]);
    let mut taken: Vec<Rect> = Vec::new();
    for (second, point) in seconds(track) {
        let center = view.place(point);
        nodes.push(dot(center, 4.6, color));
        if (center[0] - last[0]).hypot(center[1] - last[1]) < SECOND_GAP {
            continue;
        }
        let truth_is_right = happened.get(second - 1).is_some_and(|truth| truth[0] > center[0] + 1.0);
        let sides = [truth_is_right, !truth_is_right];
        let mut places = sides.into_iter().map(|is_left| (is_left, beside(center, is_left)));
        let is_free = |place: &Rect| within(place, &view.panel) && taken.iter().all(|other| apart(place, other));
        let Some((is_left, place)) = places.find(|(_, place)| is_free(place)) else {
            continue;
        };
        last = center;
        taken.push(place);
        let (x, anchor) = if is_left {
            (place.right(), Anchor::End)
        } else {
            (place.x, Anchor::Start)
        };
        let label = Label::new(format!("{second} s"), [x, center[1] + 4.5], SMALL).color(color);
        nodes.push(label.anchor(anchor).halo(color::PANEL).into());
    }
    nodes
}

/// Where the number of a second may stand: on the left of its dot or on the right.
fn beside(center: Point, is_left: bool) -> Rect {
    const ASIDE: f64 = 12.0;
    let [width, height] = SECOND_SIZE;
    let x = if is_left {
        center[0] - ASIDE - width
    } else {
        center[0] + ASIDE
    };
    Rect::new(x, center[1] - height / 2.0, width, height)
}

fn within(inner: &Rect, outer: &Rect) -> bool {
    inner.x >= outer.x && inner.right() <= outer.right() && inner.y >= outer.y && inner.bottom() <= outer.bottom()
}

fn apart(a: &Rect, b: &Rect) -> bool {
    a.right() <= b.x || b.right() <= a.x || a.bottom() <= b.y || b.bottom() <= a.y
}

/// The vehicle at t0, with its windscreen.
fn vehicle(vehicle: &Vehicle, view: &View) -> Vec<Node> {
    let corner = |forward: f64, left: f64| {
        let (length, width) = (vehicle.length / 2.0, vehicle.width / 2.0);
        view.place([vehicle.rear_axle_to_center + forward * length, left * width])
    };
    let [upper_left, lower_right] = [corner(1.0, 1.0), corner(-1.0, -1.0)];
    let (width, height) = (lower_right[0] - upper_left[0], lower_right[1] - upper_left[1]);
    let area = Rect::new(upper_left[0], upper_left[1], width, height);
    let body = Node::Rectangle {
        area,
        radius: 0.22 * width,
        paint: Paint::fill(color::EGO.with_alpha(0.92)).outlined(Stroke::new(color::PAPER, 1.2)),
    };
    let windscreen = vec![
        corner(0.34, 0.66),
        corner(0.34, -0.66),
        corner(0.06, -0.56),
        corner(0.06, 0.56),
    ];
    vec![body, Node::polygon(windscreen, color::PANEL.with_alpha(0.85))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_is_up_left_is_left_and_the_axes_are_equal() {
        let extent = Extent {
            forward: [-20.0, 80.0],
            left: [-10.0, 10.0],
            speed: [0.0; 2],
            curvature: [0.0; 2],
        };
        let view = View::new(Rect::new(100.0, 50.0, 500.0, 1000.0), &extent);
        let [origin, ahead, left] = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]].map(|place| view.place(place));
        assert_eq!(ahead[0], origin[0]);
        assert_eq!(left[1], origin[1]);
        assert!(ahead[1] < origin[1] && left[0] < origin[0]);
        assert!((origin[1] - ahead[1] - (origin[0] - left[0])).abs() < 1e-9);
        let corners = [[80.0, 10.0], [-20.0, -10.0]].map(|place| view.place(place));
        assert!(
            corners
                .iter()
                .all(|[x, y]| (100.0..=600.0).contains(x) && (50.0..=1050.0).contains(y))
        );
    }
}
