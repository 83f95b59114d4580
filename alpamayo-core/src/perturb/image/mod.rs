//! Corruptions of single images, on uint8 RGB frames before resizing.
//!
//! Names and parameters are those of ImageNet-C (Hendrycks and Dietterich, arXiv 1903.12261) and of its generalisation
//! to other image sizes, `imagecorruptions` (Michaelis et al., arXiv 1907.07484), where these know the corruption; the
//! others follow the same pattern of five levels. Two rules make one severity mean one thing at every resolution and on
//! every platform:
//!
//! - Lengths in pixels (blur radii, pixelation blocks, flakes) are ImageNet-C's for a shorter side of 224 pixels and
//!   grow with the frame's shorter side. Noise is the sensor's and stays per pixel.
//! - Arithmetic is integer or IEEE basic operations in a fixed order; exponentials, logarithms and sines come from the
//!   `libm` crate. The bytes are the same everywhere.

mod blur;
mod color;
mod dirt;
mod fog;
mod geometry;
mod jpeg;
mod motion_blur;
mod night;
mod noise;
mod occlusion;
mod pixels;
mod plane;
mod plasma;
mod rain;
mod resolution;
mod snow;
mod sun_glare;

use serde::{Deserialize, Serialize};

use super::severity::Severity;
use super::stream::ImageStreams;
use crate::Result;
use crate::frame::Frame;

/// Which corruption is applied to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// ImageNet-C: HSV value plus 0.1 … 0.5; down: minus as much.
    Brightness,
    /// ImageNet-C: distance to each channel's mean times 0.4 … 0.05.
    Contrast,
    /// Exponent 1.25 … 3 (darker midtones); down: its inverse.
    Gamma,
    /// ImageNet-C: HSV saturation times 2, 5, 20 at levels 3 to 5; down: times 0.7 … 0, with ImageNet-C's 0.3 and 0.1
    /// at levels 3 and 4.
    Saturate,
    /// Rotation of the HSV hue by 24° … 120°; down: the other way round.
    Hue,
    /// ImageNet-C: normal noise of standard deviation 0.08 … 0.38, per channel.
    GaussianNoise,
    /// ImageNet-C: Poisson noise of 60 … 3 photons at full scale, per channel.
    ShotNoise,
    /// ImageNet-C: salt and pepper on 3 … 27 % of the values.
    ImpulseNoise,
    /// ImageNet-C: normal noise that grows with the value, 0.15 … 0.6 of it.
    SpeckleNoise,
    /// ImageNet-C: Gaussian blur, standard deviation 1 … 6 pixels.
    GaussianBlur,
    /// ImageNet-C: one-sided blur along a line within 45° of the horizontal.
    MotionBlur,
    /// ImageNet-C: JPEG of quality 25 … 7 (4:4:4), encoded and decoded.
    JpegCompression,
    /// ImageNet-C: box average down to 0.6 … 0.25 of the size, repeated up again; boxes are of whole pixels.
    Pixelate,
    /// Area average down to the sizes of [`ImageKind::Pixelate`], interpolated up again: a camera of lower resolution.
    Downscale,
    /// ImageNet-C: plasma fractal (diamond-square) over the image; from level 3 to 4 more ragged, not thicker.
    Fog,
    /// Streaks of one slant per camera, under a sky that takes light and contrast.
    Rain,
    /// ImageNet-C: flakes blown along a line, under whitened daylight.
    Snow,
    /// The sun in the upper part of the image: disc, halo, lens ghosts and a veil.
    SunGlare,
    /// Less light in a linear colour space, shifted to blue, with the sensor's noise at that light.
    Night,
    /// A black box over 10 … 40 % of the image, of the image's aspect ratio.
    OcclusionBox,
    /// A black blob over exactly 10 … 40 % of the image.
    OcclusionBlob,
    /// Out-of-focus mud spots on the lens.
    Dirt,
    /// Translation by 2 … 20 % of the shorter side in a direction drawn per camera, edges repeated.
    Shift,
    /// Rotation about the centre by 1° … 10°, its sense drawn per camera, edges repeated.
    Rotate,
    /// The central 95 … 60 % of each side, enlarged to the whole image.
    Crop,
}

impl ImageKind {
    /// Every corruption, in the order of the documentation.
    pub const ALL: [Self; 25] = [
        Self::Brightness,
        Self::Contrast,
        Self::Gamma,
        Self::Saturate,
        Self::Hue,
        Self::GaussianNoise,
        Self::ShotNoise,
        Self::ImpulseNoise,
        Self::SpeckleNoise,
        Self::GaussianBlur,
        Self::MotionBlur,
        Self::JpegCompression,
        Self::Pixelate,
        Self::Downscale,
        Self::Fog,
        Self::Rain,
        Self::Snow,
        Self::SunGlare,
        Self::Night,
        Self::OcclusionBox,
        Self::OcclusionBlob,
        Self::Dirt,
        Self::Shift,
        Self::Rotate,
        Self::Crop,
    ];

    /// Whether it can be turned round with [`Direction::Down`].
    pub fn has_direction(self) -> bool {
        matches!(self, Self::Brightness | Self::Gamma | Self::Saturate | Self::Hue)
    }

    /// Corrupts one image in place. Severity 0 leaves it as it is.
    pub(crate) fn apply(self, frame: &mut Frame, context: &ImageContext) -> Result<()> {
        if context.severity.is_zero() {
            return Ok(());
        }
        match self {
            Self::Brightness => color::brightness(frame, context),
            Self::Contrast => color::contrast(frame, context),
            Self::Gamma => color::gamma(frame, context),
            Self::Saturate => color::saturate(frame, context),
            Self::Hue => color::hue(frame, context),
            Self::GaussianNoise => noise::gaussian_noise(frame, context),
            Self::ShotNoise => noise::shot_noise(frame, context),
            Self::ImpulseNoise => noise::impulse_noise(frame, context),
            Self::SpeckleNoise => noise::speckle_noise(frame, context),
            Self::GaussianBlur => blur::gaussian_blur(frame, context),
            Self::MotionBlur => motion_blur::motion_blur(frame, context),
            Self::JpegCompression => return jpeg::jpeg_compression(frame, context),
            Self::Pixelate => resolution::pixelate(frame, context),
            Self::Downscale => resolution::downscale(frame, context),
            Self::Fog => fog::fog(frame, context),
            Self::Rain => rain::rain(frame, context),
            Self::Snow => snow::snow(frame, context),
            Self::SunGlare => sun_glare::sun_glare(frame, context),
            Self::Night => night::night(frame, context),
            Self::OcclusionBox => occlusion::occlusion_box(frame, context),
            Self::OcclusionBlob => occlusion::occlusion_blob(frame, context),
            Self::Dirt => dirt::dirt(frame, context),
            Self::Shift => geometry::shift(frame, context),
            Self::Rotate => geometry::rotate(frame, context),
            Self::Crop => geometry::crop(frame, context),
        }
        Ok(())
    }
}

/// Which way a perturbation goes that has two: brighter or darker, faster or slower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More: brighter, a larger exponent, more saturated, faster.
    #[default]
    Up,
    /// Less.
    Down,
}

/// What an image corruption depends on, next to the image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageContext {
    pub(crate) severity: Severity,
    pub(crate) direction: Direction,
    pub(crate) streams: ImageStreams,
}

impl ImageContext {
    /// The parameter at this severity, given its values on the clean image and at levels 1 to 5.
    fn parameter(&self, clean: f64, levels: [f64; 5]) -> f64 {
        self.severity.interpolate(clean, levels)
    }
}

/// The frame's size relative to ImageNet-C's images of 224 pixels, by which lengths in pixels grow.
fn length_scale(frame: &Frame) -> f64 {
    frame.width().min(frame.height()) as f64 / 224.0
}

#[cfg(test)]
mod tests;
