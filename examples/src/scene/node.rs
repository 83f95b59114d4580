//! The shapes of a picture.

use super::color::Color;
use super::geometry::{Point, Rect};
use super::photo::Photo;

/// One shape.
#[derive(Clone, Debug)]
pub enum Node {
    /// A rectangle, its corners rounded by `radius` pixels.
    Rectangle {
        /// Where.
        area: Rect,
        /// Radius of the corners.
        radius: f64,
        /// Fill and outline.
        paint: Paint,
    },
    /// Straight lines from point to point. A point that is not finite interrupts the line.
    Path {
        /// The points.
        points: Vec<Point>,
        /// Whether the last point joins the first.
        closed: bool,
        /// Fill and outline.
        paint: Paint,
    },
    /// A circle.
    Circle {
        /// Its centre.
        center: Point,
        /// Its radius.
        radius: f64,
        /// Fill and outline.
        paint: Paint,
    },
    /// One line of text.
    Text(Label),
    /// A picture inside the picture.
    Image {
        /// Where; the photo is stretched to it.
        area: Rect,
        /// The pixels.
        photo: Photo,
    },
    /// Shapes that belong together.
    Group {
        /// The shapes, from back to front.
        children: Vec<Node>,
        /// Nothing is drawn outside of this.
        clip: Option<Rect>,
        /// What a viewer shows when pointing at the group.
        title: Option<String>,
    },
}

impl Node {
    /// A filled rectangle with square corners.
    pub fn rectangle(area: Rect, paint: Paint) -> Self {
        Self::Rectangle {
            area,
            radius: 0.0,
            paint,
        }
    }

    /// A line through points.
    pub fn line(points: Vec<Point>, stroke: Stroke) -> Self {
        Self::Path {
            points,
            closed: false,
            paint: Paint::stroke(stroke),
        }
    }

    /// A filled polygon.
    pub fn polygon(points: Vec<Point>, fill: Color) -> Self {
        Self::Path {
            points,
            closed: true,
            paint: Paint::fill(fill),
        }
    }

    /// A filled circle.
    pub fn dot(center: Point, radius: f64, fill: Color) -> Self {
        Self::Circle {
            center,
            radius,
            paint: Paint::fill(fill),
        }
    }

    /// Shapes of which nothing outside `clip` is drawn.
    pub fn clipped(clip: Rect, children: Vec<Node>) -> Self {
        Self::Group {
            children,
            clip: Some(clip),
            title: None,
        }
    }

    /// The shape with words that a viewer shows when pointing at it.
    pub fn titled(self, title: impl Into<String>) -> Self {
        Self::Group {
            children: vec![self],
            clip: None,
            title: Some(title.into()),
        }
    }
}

impl From<Label> for Node {
    fn from(label: Label) -> Self {
        Self::Text(label)
    }
}

/// Fill and outline of a shape.
#[derive(Clone, Debug, Default)]
pub struct Paint {
    /// Colour of the inside.
    pub fill: Option<Color>,
    /// The outline.
    pub stroke: Option<Stroke>,
}

impl Paint {
    /// Filled, without an outline.
    pub fn fill(color: Color) -> Self {
        Self {
            fill: Some(color),
            stroke: None,
        }
    }

    /// An outline alone.
    pub fn stroke(stroke: Stroke) -> Self {
        Self {
            fill: None,
            stroke: Some(stroke),
        }
    }

    /// With an outline.
    pub fn outlined(mut self, stroke: Stroke) -> Self {
        self.stroke = Some(stroke);
        self
    }
}

/// A line's colour, width and dashes; its joints and ends are round.
#[derive(Clone, Debug)]
pub struct Stroke {
    /// Colour.
    pub color: Color,
    /// Width in pixels.
    pub width: f64,
    /// Lengths of dash and gap in pixels; empty for an unbroken line.
    pub dashes: Vec<f64>,
}

impl Stroke {
    /// An unbroken line.
    pub fn new(color: Color, width: f64) -> Self {
        Self {
            color,
            width,
            dashes: Vec::new(),
        }
    }

    /// The same line, dashed.
    pub fn dashed(mut self, dash: f64, gap: f64) -> Self {
        self.dashes = vec![dash, gap];
        self
    }
}

/// Weight of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weight {
    /// Running text.
    Regular,
    /// Titles and numbers.
    SemiBold,
}

/// Which part of a line of text lies at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

/// One line of text.
#[derive(Clone, Debug)]
pub struct Label {
    /// The words.
    pub content: String,
    /// Where its baseline is.
    pub position: Point,
    /// Size of the type in pixels.
    pub size: f64,
    /// Weight of the type.
    pub weight: Weight,
    /// Which part of the text lies at the position.
    pub anchor: Anchor,
    /// Colour.
    pub color: Color,
    /// Colour of a soft outline that keeps the text readable over lines.
    pub halo: Option<Color>,
    /// Turned around its position, degrees clockwise.
    pub angle: f64,
}

impl Label {
    /// Regular text in ink, its left end at `position`.
    pub fn new(content: impl Into<String>, position: Point, size: f64) -> Self {
        Self {
            content: content.into(),
            position,
            size,
            weight: Weight::Regular,
            anchor: Anchor::Start,
            color: super::color::INK,
            halo: None,
            angle: 0.0,
        }
    }

    /// In semi-bold type.
    pub fn bold(mut self) -> Self {
        self.weight = Weight::SemiBold;
        self
    }

    /// In another colour.
    pub fn color(mut self, color: Color) -> Self {
        self.color = color;
        self
    }

    /// With another part of the text at its position.
    pub fn anchor(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }

    /// With a soft outline.
    pub fn halo(mut self, color: Color) -> Self {
        self.halo = Some(color);
        self
    }

    /// Turned by degrees clockwise.
    pub fn turned(mut self, angle: f64) -> Self {
        self.angle = angle;
        self
    }
}
