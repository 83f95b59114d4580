//! Colours, and the palette that all pictures share.
//!
//! The series are the colours of Okabe and Ito ("Color universal design", 2008), which people with any of the common
//! colour vision deficiencies tell apart; what happened is ink and what was driven before is grey.

/// A colour in sRGB with an opacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Color {
    /// Red, green and blue.
    pub rgb: [u8; 3],
    /// Opacity, 0 to 1.
    pub alpha: f64,
}

impl Color {
    /// An opaque colour from `0xRRGGBB`.
    pub const fn hex(rgb: u32) -> Self {
        Self {
            rgb: [(rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8],
            alpha: 1.0,
        }
    }

    /// The same colour with another opacity.
    pub const fn with_alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    /// The colour as CSS writes it, without its opacity: `#rrggbb`.
    pub fn css(&self) -> String {
        let [red, green, blue] = self.rgb;
        format!("#{red:02x}{green:02x}{blue:02x}")
    }
}

/// Behind everything.
pub const PAPER: Color = Color::hex(0xffffff);
/// Behind panels.
pub const PANEL: Color = Color::hex(0xf6f7f9);
/// Text, and what happened.
pub const INK: Color = Color::hex(0x14181f);
/// Text of less weight, axes.
pub const MUTED: Color = Color::hex(0x5b6472);
/// What was driven before.
pub const HISTORY: Color = Color::hex(0x7d8796);
/// Frames of panels.
pub const FRAME: Color = Color::hex(0xc9ced6);
/// Grid lines.
pub const GRID: Color = Color::hex(0xe1e5ea);
/// The vehicle.
pub const EGO: Color = Color::hex(0x3a4352);

/// One colour per series: vermillion, blue, purple, green, orange, sky blue.
pub const SERIES: [Color; 6] = [
    Color::hex(0xd55e00),
    Color::hex(0x0072b2),
    Color::hex(0xb8609a),
    Color::hex(0x009e73),
    Color::hex(0xe69f00),
    Color::hex(0x56b4e9),
];

/// The colour of series `index`; they repeat after the sixth.
pub fn series(index: usize) -> Color {
    SERIES[index % SERIES.len()]
}
