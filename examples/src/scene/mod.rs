//! A picture as a list of shapes, written as SVG (text stays text) or drawn to PNG.
//!
//! One description gives both: the PNG is the SVG drawn by `resvg` with the bundled font, so it looks the same on
//! every machine.
//!
//! - [`geometry`]: points and rectangles;
//! - [`color`]: colours, and the palette that all pictures share;
//! - [`node`]: the shapes;
//! - [`text`]: widths, wrapping and shortening of text in the bundled font;
//! - [`photo`]: camera frames inside a picture;
//! - [`svg`], [`png`]: the two ways out.

pub mod color;
pub mod geometry;
pub mod node;
pub mod photo;
pub mod png;
pub mod svg;
pub mod text;

pub use color::Color;
pub use geometry::{Point, Rect};
pub use node::{Anchor, Label, Node, Paint, Stroke, Weight};
pub use photo::Photo;

use std::path::Path;

use crate::error::{Error, Result};

/// A picture: its size in pixels, and its shapes from back to front.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// Colour behind everything; `None` leaves it transparent.
    pub background: Option<Color>,
    /// The shapes, in pixels from the upper left corner.
    pub nodes: Vec<Node>,
}

impl Scene {
    /// A picture on white.
    pub fn new(width: f64, height: f64, nodes: Vec<Node>) -> Self {
        Self {
            width,
            height,
            background: Some(color::PAPER),
            nodes,
        }
    }

    /// The picture as an SVG document.
    pub fn to_svg(&self) -> String {
        svg::document(self)
    }

    /// The picture as the bytes of a PNG file, `scale` pixels per unit of the scene.
    ///
    /// # Errors
    ///
    /// [`Error::Picture`] where the size in pixels is zero or too large to draw.
    pub fn to_png(&self, scale: f64) -> Result<Vec<u8>> {
        png::draw(self, scale)
    }

    /// Writes the picture to `path`, as SVG or as PNG by the file's ending.
    ///
    /// # Errors
    ///
    /// [`Error::PictureFormat`] for another ending, [`Error::Io`] where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let bytes = match ending.to_ascii_lowercase().as_str() {
            "svg" => self.to_svg().into_bytes(),
            "png" => self.to_png(1.0)?,
            _ => return Err(Error::PictureFormat(path.to_path_buf())),
        };
        std::fs::write(path, bytes).map_err(Error::io("write", path))
    }
}
