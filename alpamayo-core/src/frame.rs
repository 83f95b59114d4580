//! Camera frames: 8-bit RGB.

use crate::{Error, Result};

/// Longest side of a frame, in pixels.
pub const MAX_SIDE: usize = 1 << 15;

/// One camera frame: 8-bit RGB, interleaved `[height, width, 3]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Frame {
    /// A frame of interleaved pixels, `[height, width, 3]`.
    ///
    /// # Errors
    /// [`Error::Frame`] if a side is zero or above [`MAX_SIDE`], or the number of bytes is another.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        check(width, height, rgb.len())?;
        Ok(Self { width, height, rgb })
    }

    /// A frame of three planes, `[3, height, width]`.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn from_planar(width: usize, height: usize, planes: &[u8]) -> Result<Self> {
        check(width, height, planes.len())?;
        let (red, rest) = planes.split_at(width * height);
        let (green, blue) = rest.split_at(width * height);
        let pixels = red.iter().zip(green).zip(blue);
        Ok(Self {
            width,
            height,
            rgb: pixels.flat_map(|((&r, &g), &b)| [r, g, b]).collect(),
        })
    }

    /// Its pixels as three planes, `[3, height, width]`.
    pub fn to_planar(&self) -> Vec<u8> {
        (0..3)
            .flat_map(|channel| self.rgb.iter().skip(channel).step_by(3).copied())
            .collect()
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Its pixels, interleaved, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Its pixels, interleaved, `[height, width, 3]`, to be changed.
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// Its pixels, interleaved, `[height, width, 3]`.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "Frame({}x{})", self.width, self.height)
    }
}

fn check(width: usize, height: usize, bytes: usize) -> Result<()> {
    let sides = 1..=MAX_SIDE;
    let reason = if !sides.contains(&width) || !sides.contains(&height) {
        format!("is not possible: each side must be between 1 and {MAX_SIDE}")
    } else if width * height * 3 != bytes {
        format!("has {} bytes, not {bytes}", width * height * 3)
    } else {
        return Ok(());
    };
    Err(Error::Frame { height, width, reason })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sides_and_bytes_must_agree() {
        assert!(Frame::new(2, 1, vec![0; 6]).is_ok());
        for (width, height, bytes) in [(0, 1, 0), (2, 2, 6), (usize::MAX, 3, 9), (MAX_SIDE + 1, 1, 3)] {
            let error = Frame::new(width, height, vec![0; bytes]).unwrap_err().to_string();
            assert!(error.contains(&format!("{height}x{width}")), "{error}");
            assert!(Frame::from_planar(width, height, &vec![0; bytes]).is_err());
        }
    }

    proptest! {
        #[test]
        fn planes_and_back((width, height, rgb) in (1..9usize, 1..9usize).prop_flat_map(|(width, height)| {
            (Just(width), Just(height), prop::collection::vec(any::<u8>(), width * height * 3))
        })) {
            let frame = Frame::new(width, height, rgb.clone()).unwrap();
            let planes = frame.to_planar();
            for (index, pixel) in rgb.chunks(3).enumerate() {
                for channel in 0..3 {
                    prop_assert_eq!(planes[channel * width * height + index], pixel[channel]);
                }
            }
            prop_assert_eq!(Frame::from_planar(width, height, &planes).unwrap(), frame);
        }
    }
}
