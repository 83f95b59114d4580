//! Points and rectangles, in pixels from the upper left corner.

/// A point: pixels to the right, pixels down.
pub type Point = [f64; 2];

/// An axis-parallel rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Rect {
    /// A rectangle from its upper left corner and its size.
    pub fn new(x: f64, y: f64, width: f64, height: f64) -> Self {
        Self { x, y, width, height }
    }

    /// The right edge.
    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    /// The lower edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }

    /// The centre.
    pub fn center(&self) -> Point {
        [self.x + self.width / 2.0, self.y + self.height / 2.0]
    }

    /// The rectangle with margins taken off on each side; never less than one pixel wide and high.
    pub fn inset(&self, left: f64, top: f64, right: f64, bottom: f64) -> Self {
        Self::new(
            self.x + left,
            self.y + top,
            (self.width - left - right).max(1.0),
            (self.height - top - bottom).max(1.0),
        )
    }

    /// `count` equal columns with `gap` pixels between them.
    pub fn columns(&self, count: usize, gap: f64) -> Vec<Self> {
        let width = (self.width - gap * count.saturating_sub(1) as f64) / count.max(1) as f64;
        (0..count)
            .map(|i| Self::new(self.x + i as f64 * (width + gap), self.y, width, self.height))
            .collect()
    }

    /// The largest rectangle of `aspect` (width over height) inside this one, centred.
    pub fn fit(&self, aspect: f64) -> Self {
        let width = self.width.min(self.height * aspect);
        let height = width / aspect;
        let [x, y] = self.center();
        Self::new(x - width / 2.0, y - height / 2.0, width, height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fit_keeps_the_aspect_and_stays_inside() {
        for (width, height) in [(300.0, 100.0), (100.0, 300.0)] {
            let outer = Rect::new(10.0, 20.0, width, height);
            let inner = outer.fit(5.0 / 3.0);
            assert!((inner.width / inner.height - 5.0 / 3.0).abs() < 1e-9);
            assert!(inner.x >= outer.x - 1e-9 && inner.right() <= outer.right() + 1e-9);
            assert!(inner.y >= outer.y - 1e-9 && inner.bottom() <= outer.bottom() + 1e-9);
        }
    }

    #[test]
    fn columns_fill_the_width() {
        let columns = Rect::new(5.0, 0.0, 100.0, 10.0).columns(3, 8.0);
        assert_eq!(columns.len(), 3);
        assert_eq!(columns[0].x, 5.0);
        assert!((columns[2].right() - 105.0).abs() < 1e-9);
    }
}
