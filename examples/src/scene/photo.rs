//! Camera frames inside a picture.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{ExtendedColorType, RgbImage};

use crate::error::{Error, Result};

/// Quality of the embedded JPEG: no visible loss at the size it is drawn.
const QUALITY: u8 = 92;

/// A camera frame, compressed once and shared by every copy of the shape that shows it.
#[derive(Clone, Debug)]
pub struct Photo {
    data_uri: Arc<str>,
}

impl Photo {
    /// A frame of interleaved RGB bytes, `[height, width, 3]`, made smaller where it is wider than `max_width` pixels.
    ///
    /// # Errors
    ///
    /// [`Error::Picture`] where the number of bytes is not `width * height * 3`, or the frame is empty.
    pub fn from_rgb(width: usize, height: usize, rgb: &[u8], max_width: usize) -> Result<Self> {
        let wrong = || Error::Picture {
            action: "embed a frame",
            reason: format!("{} bytes are no {height}x{width} RGB pixels", rgb.len()),
        };
        let (columns, rows) = (
            u32::try_from(width).map_err(|_| wrong())?,
            u32::try_from(height).map_err(|_| wrong())?,
        );
        let expected = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if expected != Some(rgb.len()) || rgb.is_empty() {
            return Err(wrong());
        }
        let mut frame = RgbImage::from_raw(columns, rows, rgb.to_vec()).ok_or_else(wrong)?;
        if width > max_width {
            let smaller = (height * max_width).div_ceil(width).max(1);
            frame = image::imageops::resize(&frame, max_width as u32, smaller as u32, FilterType::CatmullRom);
        }
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, QUALITY)
            .encode(&frame, frame.width(), frame.height(), ExtendedColorType::Rgb8)
            .map_err(Error::picture("embed a frame"))?;
        Ok(Self {
            data_uri: format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)).into(),
        })
    }

    /// The photo as a `data:` address.
    pub fn data_uri(&self) -> &str {
        &self.data_uri
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        assert!(Photo::from_rgb(2, 2, &[0; 12], 100).is_ok());
        for (width, height, bytes) in [(2, 2, 11), (0, 0, 0), (usize::MAX, 2, 12)] {
            assert!(Photo::from_rgb(width, height, &vec![0; bytes], 100).is_err());
        }
    }

    #[test]
    fn wide_frames_are_made_smaller() {
        let noise: Vec<u8> = (0..400 * 200 * 3u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let full = Photo::from_rgb(400, 200, &noise, 400).unwrap();
        let half = Photo::from_rgb(400, 200, &noise, 200).unwrap();
        assert!(half.data_uri().len() * 2 < full.data_uri().len());
    }
}
