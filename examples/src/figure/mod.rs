//! One drive as a figure: what the cameras saw, where the car could go and went, how fast, and why in words.
//!
//! [`draw`] lays out, on 1600 pixels of width,
//!
//! - the title, a description and the numbers ([`header`]);
//! - the cameras at t0 in the places they have on the car, the plan on the road of the main one ([`cameras`],
//!   [`projection`], [`overlay`]);
//! - the view from above, forward up, equal axes ([`above`]);
//! - speed and curvature over time ([`profile`]);
//! - the reasoning of every sample, equal ones together ([`reasoning`]).
//!
//! ```
//! use alpamayo_examples::figure::{self, FigureInput, Plan, Track};
//!
//! let xyz: Vec<[f32; 3]> = (1..=64).map(|step| [0.9 * step as f32, 0.0, 0.0]).collect();
//! let mut input = FigureInput { title: "No cameras".into(), ..FigureInput::default() };
//! input.plans.push(Plan::new(Track::new(&xyz, &[]), "Keep the lane."));
//! input.number("speed at t0", "9.0 m/s");
//! let svg = figure::draw(&input)?.to_svg();
//! assert!(svg.contains("Keep the lane."));
//! # Ok::<(), alpamayo_examples::Error>(())
//! ```
//!
//! [`FigureInput::from_clip`] fills in what a clip holds.

pub mod above;
pub mod cameras;
pub mod extent;
mod from_clip;
pub mod header;
pub mod input;
pub mod overlay;
pub mod profile;
pub mod projection;
pub mod reasoning;
mod style;
#[cfg(test)]
mod tests;

pub use extent::Extent;
pub use input::{Camera, FigureInput, Plan, Track, Vehicle};
pub use projection::Projection;

use crate::error::Result;
use crate::scene::{Rect, Scene};

/// Width of a figure in pixels.
pub const WIDTH: f64 = 1600.0;
const MARGIN: f64 = 40.0;
const GAP: f64 = 24.0;
/// Width of the view from above, and its least height.
const ABOVE_WIDTH: f64 = 540.0;
const PROFILE_HEIGHT: f64 = 236.0;

/// Draws a drive.
///
/// # Errors
///
/// [`crate::error::Error::Picture`] where a camera's bytes are no frame of its size.
pub fn draw(input: &FigureInput) -> Result<Scene> {
    let page = Rect::new(MARGIN, 0.0, WIDTH - 2.0 * MARGIN, 0.0);
    let extent = input.extent.unwrap_or_else(|| Extent::of(input));

    let (mut nodes, top) = header::draw(input, Rect::new(page.x, 36.0, page.width, 0.0));
    let left = Rect::new(page.x, top + GAP, page.width - ABOVE_WIDTH - GAP, 0.0);

    let (shapes, bottom) = cameras::draw(input, left)?;
    nodes.extend(shapes);

    let profiles = Rect::new(left.x, bottom + GAP, left.width, PROFILE_HEIGHT);
    nodes.extend(profile::draw(input, &extent, profiles));

    let above_height = (profiles.bottom() - left.y).max(ABOVE_WIDTH);
    let above = Rect::new(left.right() + GAP, left.y, ABOVE_WIDTH, above_height);
    nodes.extend(above::draw(input, &extent, above));

    let below = Rect::new(page.x, above.bottom() + GAP, page.width, 0.0);
    let (shapes, bottom) = reasoning::draw(input, below);
    nodes.extend(shapes);

    Ok(Scene::new(WIDTH, (bottom + MARGIN * 0.8).ceil(), nodes))
}
