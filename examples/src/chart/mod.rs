//! Small plots: lines with bands, points, distributions, bars.
//!
//! A chart is plain data; [`Chart::draw`] gives its shapes inside a rectangle of a larger picture, [`Chart::scene`] a
//! picture of its own, for SVG or PNG.
//!
//! - [`axis`]: ranges and ticks;
//! - [`frame`]: title, axes, grid and legend around the data;
//! - [`mod@line`], [`scatter`], [`distribution`], [`bar`]: the charts.

pub mod axis;
pub mod bar;
pub mod distribution;
pub mod frame;
pub mod line;
pub mod scatter;

pub use axis::Axis;
pub use bar::{BarChart, BarSeries};
pub use distribution::{Histogram, Sample, cumulative};
pub use line::{Line, LineChart};
pub use scatter::{Cloud, ScatterChart};

use crate::scene::{Node, Rect, Scene};

/// A plot.
pub trait Chart {
    /// The plot's shapes inside `area`.
    fn draw(&self, area: Rect) -> Vec<Node>;

    /// The plot as a picture of `width` by `height` pixels.
    fn scene(&self, width: f64, height: f64) -> Scene {
        let area = Rect::new(0.0, 0.0, width, height).inset(12.0, 12.0, 16.0, 10.0);
        Scene::new(width, height, self.draw(area))
    }
}
