//! The cameras at t0, in the places they have on the car.

use super::input::{Camera, FigureInput};
use super::overlay;
use crate::error::Result;
use crate::scene::color::{self, Color};
use crate::scene::node::{Anchor, Label, Node, Paint, Stroke, Weight};
use crate::scene::{Photo, Rect, text};

const GAP: f64 = 8.0;
const LABEL: f64 = 13.0;
/// Height that the main picture never exceeds.
const MAIN_HEIGHT: f64 = 620.0;
/// Embedded pixels per drawn pixel, for sharp prints.
const DENSITY: f64 = 2.0;

/// The main camera where it is there.
const FRONT_WIDE: usize = 1;
/// What looks forward and to the sides, from left to right.
const AHEAD: [usize; 3] = [0, 6, 2];
/// What looks back, from left to right.
const BEHIND: [usize; 3] = [3, 4, 5];

/// What a camera is called.
pub fn name(index: usize) -> String {
    match index {
        0 => "Cross left 120°".to_owned(),
        1 => "Front wide 120°".to_owned(),
        2 => "Cross right 120°".to_owned(),
        3 => "Rear left 70°".to_owned(),
        4 => "Rear tele 30°".to_owned(),
        5 => "Rear right 70°".to_owned(),
        6 => "Front tele 30°".to_owned(),
        other => format!("Camera {other}"),
    }
}

/// Draws the cameras from the top of `area` over its whole width; also returns where they end.
///
/// # Errors
///
/// [`crate::error::Error::Picture`] where a camera's bytes are no frame of its size.
pub fn draw(input: &FigureInput, area: Rect) -> Result<(Vec<Node>, f64)> {
    let find = |index: usize| input.cameras.iter().find(|camera| camera.index == index);
    let Some(main) = find(FRONT_WIDE).or_else(|| find(6)).or(input.cameras.first()) else {
        return Ok((Vec::new(), area.y));
    };
    let others: Vec<&Camera> = input
        .cameras
        .iter()
        .filter(|camera| camera.index != main.index)
        .collect();
    let known = |camera: &&Camera| AHEAD.contains(&camera.index) || BEHIND.contains(&camera.index);
    let mut nodes = Vec::new();
    let mut y = strip(&mut nodes, &places(&AHEAD, &others), area, area.y)?;

    let aspect = aspect(main);
    let height = (area.width / aspect).min(MAIN_HEIGHT);
    let place = Rect::new(area.x, y, area.width, height).fit(aspect);
    nodes.extend(photo(main, place)?);
    nodes.extend(overlay::draw(input, main, place));
    nodes.extend(plate(main, place));
    y += height + GAP;

    y = strip(&mut nodes, &places(&BEHIND, &others), area, y)?;
    let unknown: Vec<Option<&Camera>> = others
        .iter()
        .filter(|camera| !known(camera))
        .map(|c| Some(*c))
        .collect();
    for row in unknown.chunks(3) {
        y = strip(&mut nodes, row, area, y)?;
    }
    Ok((nodes, y - GAP))
}

/// The cameras of a strip in their places; empty where none of them is there.
fn places<'a>(indices: &[usize], cameras: &[&'a Camera<'a>]) -> Vec<Option<&'a Camera<'a>>> {
    let places: Vec<_> = indices
        .iter()
        .map(|index| cameras.iter().find(|camera| camera.index == *index).copied())
        .collect();
    if places.iter().any(Option::is_some) {
        places
    } else {
        Vec::new()
    }
}

/// Draws a strip of up to three pictures; returns where it ends.
fn strip(nodes: &mut Vec<Node>, row: &[Option<&Camera>], area: Rect, top: f64) -> Result<f64> {
    let Some(first) = row.iter().flatten().next() else {
        return Ok(top);
    };
    let columns = Rect::new(area.x, top, area.width, 0.0).columns(3, GAP);
    let height = columns[0].width / aspect(first).max(0.8);
    for (column, camera) in columns.iter().zip(row) {
        let place = Rect { height, ..*column };
        match camera {
            Some(camera) => {
                let place = place.fit(aspect(camera));
                nodes.extend(photo(camera, place)?);
                nodes.extend(plate(camera, place));
            }
            None => nodes.extend(nothing(place)),
        }
    }
    Ok(top + height + GAP)
}

fn aspect(camera: &Camera) -> f64 {
    camera.width.max(1) as f64 / camera.height.max(1) as f64
}

fn photo(camera: &Camera, area: Rect) -> Result<Vec<Node>> {
    let photo = Photo::from_rgb(
        camera.width,
        camera.height,
        camera.rgb,
        (DENSITY * area.width).ceil() as usize,
    )?;
    Ok(vec![Node::Image { area, photo }])
}

/// The camera's name in a corner of its picture.
fn plate(camera: &Camera, area: Rect) -> Vec<Node> {
    const BEHIND_TEXT: Color = Color::hex(0x14181f).with_alpha(0.72);
    let name = name(camera.index);
    let width = text::width(&name, LABEL, Weight::Regular) + 16.0;
    let place = Rect::new(area.x + 8.0, area.y + 8.0, width, LABEL + 9.0);
    vec![
        Node::Rectangle {
            area: place,
            radius: 4.0,
            paint: Paint::fill(BEHIND_TEXT),
        },
        Label::new(name, [place.x + 8.0, place.bottom() - 6.5], LABEL)
            .color(color::PAPER)
            .into(),
    ]
}

/// The place of a camera that was not given.
fn nothing(area: Rect) -> Vec<Node> {
    let paint = Paint::fill(color::PANEL).outlined(Stroke::new(color::GRID, 1.0));
    let [x, y] = area.center();
    let label = Label::new("not given", [x, y + 4.0], LABEL).color(color::HISTORY);
    vec![Node::rectangle(area, paint), label.anchor(Anchor::Middle).into()]
}
