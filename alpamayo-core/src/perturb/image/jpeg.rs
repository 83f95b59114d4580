//! JPEG compression.

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::ImageContext;
use crate::frame::Frame;
use crate::{Error, Result};

/// Encodes at the severity's quality and decodes again.
pub(super) fn jpeg_compression(frame: &mut Frame, context: &ImageContext) -> Result<()> {
    let quality = context.parameter(100.0, [25.0, 18.0, 15.0, 10.0, 7.0]).round() as u8;
    let (width, height) = (frame.width(), frame.height());
    let failed = |reason: String| Error::Frame {
        height,
        width,
        reason: format!("cannot be compressed as JPEG: {reason}"),
    };
    let mut encoded = Vec::new();
    JpegEncoder::new_with_quality(&mut encoded, quality)
        .encode(frame.rgb(), width as u32, height as u32, ExtendedColorType::Rgb8)
        .map_err(|error| failed(error.to_string()))?;
    // The decoder's integer paths, the same on every processor.
    let options = DecoderOptions::default()
        .set_use_unsafe(false)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let decoded = JpegDecoder::new_with_options(ZCursor::new(&encoded), options)
        .decode()
        .map_err(|error| failed(error.to_string()))?;
    frame.rgb_mut().copy_from_slice(&decoded);
    Ok(())
}
