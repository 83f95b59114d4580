//! Figures of every kind of input.

use proptest::prelude::*;

use super::*;
use crate::scene::node::{Anchor, Label, Node};
use crate::scene::text;

const WORDS: &str = "Slow down for the pedestrian who crosses from the right & keep <clear> of the crosswalk. ";
const FRAME: [usize; 2] = [96, 54];

/// What a figure of these tests shows.
#[derive(Clone, Debug)]
struct Case {
    cameras: Vec<usize>,
    calibrated: bool,
    /// Curvature (1/m) and speed (m/s) of each plan, and which sentence it has.
    plans: Vec<(f64, f64, usize)>,
    truth: bool,
    history: bool,
    numbers: usize,
    sentences: usize,
}

impl Case {
    fn usual() -> Self {
        Self {
            cameras: vec![0, 1, 2, 6],
            calibrated: true,
            plans: vec![(0.0, 9.0, 0), (0.01, 8.0, 1)],
            truth: true,
            history: true,
            numbers: 4,
            sentences: 1,
        }
    }

    fn draw(&self) -> Scene {
        let rgb: Vec<u8> = (0..FRAME[0] * FRAME[1] * 3).map(|i| (i * 7 % 256) as u8).collect();
        let pinhole = Projection::pinhole([1.7, 0.0, 1.5], 0.0, 120.0, 0.5, FRAME);
        let projection = pinhole.filter(|_| self.calibrated);
        let tracks: Vec<Vec<[f32; 3]>> = self
            .plans
            .iter()
            .map(|(bend, speed, _)| arc(*bend, *speed, 1, 65))
            .collect();
        let texts: Vec<String> = self
            .plans
            .iter()
            .map(|plan| WORDS.repeat(self.sentences * plan.2))
            .collect();
        let (truth, history) = (arc(0.003, 8.5, 1, 65), arc(0.0, 8.5, -15, 1));
        let mut input = FigureInput {
            title: "a_clip_with_a_name".to_owned(),
            description: WORDS.repeat(self.sentences),
            true_reasoning: self.truth.then(|| WORDS.to_owned()),
            ..FigureInput::default()
        };
        let camera = |index: &usize| Camera {
            index: *index,
            width: FRAME[0],
            height: FRAME[1],
            rgb: &rgb,
            projection,
        };
        input.cameras = self.cameras.iter().map(camera).collect();
        input.history = if self.history {
            Track::new(&history, &[])
        } else {
            Track::default()
        };
        input.truth = self.truth.then(|| Track::new(&truth, &[]));
        let plans = tracks
            .iter()
            .zip(&texts)
            .map(|(track, text)| Plan::new(Track::new(track, &[]), text));
        input.plans = plans.collect();
        for i in 0..self.numbers {
            input.number(format!("number {i}"), format!("{i}.25 m"));
        }
        draw(&input).unwrap()
    }
}

/// Poses on a circle through the origin, steps `from` to `to`.
fn arc(curvature: f64, speed: f64, from: i32, to: i32) -> Vec<[f32; 3]> {
    let pose = |step: i32| {
        let distance = f64::from(step) * 0.1 * speed;
        let angle = curvature * distance;
        let [x, y] = if angle.abs() < 1e-9 {
            [distance, 0.0]
        } else {
            [angle.sin() / curvature, (1.0 - angle.cos()) / curvature]
        };
        [x as f32, y as f32, 0.0]
    };
    (from..to).map(pose).collect()
}

fn labels(nodes: &[Node]) -> Vec<&Label> {
    let labels = nodes.iter().flat_map(|node| match node {
        Node::Text(label) => vec![label],
        Node::Group { children, .. } => labels(children),
        _ => Vec::new(),
    });
    labels.collect()
}

/// Left, upper, right and lower edge of a line of text.
fn bounds(label: &Label) -> [f64; 4] {
    let width = text::width(&label.content, label.size, label.weight);
    let [x, y] = label.position;
    let left = match label.anchor {
        Anchor::Start => x,
        Anchor::Middle => x - width / 2.0,
        Anchor::End => x - width,
    };
    [left, y - 0.74 * label.size, left + width, y + 0.1 * label.size]
}

fn cases() -> impl Strategy<Value = Case> {
    (
        prop::sample::subsequence(vec![0usize, 1, 2, 3, 4, 5, 6, 9, 12], 0..=9),
        prop::collection::vec((-0.05..0.05f64, 0.0..20.0f64, 0usize..4), 0..9),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0usize..14,
        0usize..6,
    )
        .prop_map(
            |(cameras, plans, calibrated, truth, history, numbers, sentences)| Case {
                cameras,
                calibrated,
                plans,
                truth,
                history,
                numbers,
                sentences,
            },
        )
}

#[test]
fn words_are_text_in_the_svg_and_the_road_is_drawn_on() {
    let svg = Case::usual().draw().to_svg();
    for words in [
        ">a_clip_with_a_name<",
        "&amp; keep &lt;clear&gt;",
        ">View from above<",
        ">what happened<",
        ">3.25 m<",
    ] {
        assert!(svg.contains(words), "{words} is missing");
    }
    assert_eq!(svg.matches("<image ").count(), 4);
    let without = Case {
        calibrated: false,
        ..Case::usual()
    }
    .draw()
    .to_svg();
    assert!(svg.matches("<path ").count() > without.matches("<path ").count());
}

#[test]
fn the_png_has_content_and_is_the_same_twice() {
    let scene = Case::usual().draw();
    let png = scene.to_png(0.5).unwrap();
    let pixels = image::load_from_memory(&png).unwrap().to_rgb8();
    assert_eq!(pixels.width(), 800);
    let painted = pixels.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
    assert!(
        painted * 3 > pixels.pixels().len(),
        "{painted} of {} pixels",
        pixels.pixels().len()
    );
    assert_eq!(png, Case::usual().draw().to_png(0.5).unwrap());
}

#[test]
fn a_frame_of_the_wrong_size_is_an_error() {
    let rgb = [0u8; 10];
    let camera = Camera {
        index: 1,
        width: 4,
        height: 4,
        rgb: &rgb,
        projection: None,
    };
    let input = FigureInput {
        cameras: vec![camera],
        ..FigureInput::default()
    };
    assert!(draw(&input).is_err());
}

#[test]
fn the_closest_sample_is_the_best() {
    let tracks = [arc(0.02, 9.0, 1, 65), arc(0.001, 9.0, 1, 65), arc(-0.01, 9.0, 1, 65)];
    let truth = arc(0.0, 9.0, 1, 65);
    let plans = tracks
        .iter()
        .map(|track| Plan::new(Track::new(track, &[]), ""))
        .collect();
    let mut input = FigureInput {
        plans,
        truth: Some(Track::new(&truth, &[])),
        ..FigureInput::default()
    };
    assert_eq!(input.best(), 1);
    input.truth = None;
    assert_eq!(input.best(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_figure_parses_and_its_texts_stay_apart_and_on_the_page(case in cases()) {
        let scene = case.draw();
        let parsed = resvg::usvg::Tree::from_str(&scene.to_svg(), &resvg::usvg::Options::default());
        prop_assert!(parsed.is_ok());
        let boxes: Vec<(&Label, [f64; 4])> =
            labels(&scene.nodes).into_iter().filter(|l| l.angle == 0.0).map(|l| (l, bounds(l))).collect();
        for (i, (label, a)) in boxes.iter().enumerate() {
            let inside = a[0] >= 0.0 && a[1] >= 0.0 && a[2] <= scene.width && a[3] <= scene.height;
            prop_assert!(inside, "{:?} leaves the page: {a:?}", label.content);
            for (other, b) in &boxes[i + 1..] {
                let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
                prop_assert!(apart, "{:?} {a:?} lies over {:?} {b:?}", label.content, other.content);
            }
        }
    }
}
