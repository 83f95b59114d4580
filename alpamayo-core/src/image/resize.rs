//! Antialiased bicubic resizing of 8-bit images.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::resample::resample;
use crate::{Error, Frame, Result};

/// Resizes a frame as PyTorch's antialiased bicubic interpolation does on a CPU, to the bit: along the rows first,
/// rounded to 8 bits, then along the columns.
///
/// # Errors
/// [`Error::Frame`] for a height or width that is no frame's.
pub fn resize(frame: &Frame, height: usize, width: usize) -> Result<Frame> {
    Frame::new(width, height, resized_rgb(frame, height, width, &mut Resizer::new())?)
}

/// As [`resize`], with a resizer to be used again; the pixels alone, `[height, width, 3]`.
fn resized_rgb(frame: &Frame, height: usize, width: usize, resizer: &mut Resizer) -> Result<Vec<u8>> {
    let mut rows = vec![0; frame.height() * width * 3];
    along_rows(frame.rgb(), [frame.height(), frame.width()], width, &mut rows, resizer)?;
    along_columns(&rows, [frame.height(), width], height, resizer)
}

/// Rows of pixels `[height, width, 3]`, each resized to `to` pixels. Rows don't depend on each other.
pub(super) fn along_rows(
    pixels: &[u8],
    [height, width]: [usize; 2],
    to: usize,
    target: &mut [u8],
    resizer: &mut Resizer,
) -> Result<()> {
    // In one call for both axes the resizer would take the columns first.
    pass(pixels, [height, width], [height, to], target, resizer)
}

/// The columns of pixels `[height, width, 3]`, each resized to `to` pixels.
pub(super) fn along_columns(
    pixels: &[u8],
    [height, width]: [usize; 2],
    to: usize,
    resizer: &mut Resizer,
) -> Result<Vec<u8>> {
    let mut target = vec![0; to * width * 3];
    pass(pixels, [height, width], [to, width], &mut target, resizer)?;
    Ok(target)
}

/// One axis, from one `[height, width]` to another.
fn pass(pixels: &[u8], from: [usize; 2], to: [usize; 2], target: &mut [u8], resizer: &mut Resizer) -> Result<()> {
    /// Beyond this reduction the weights need a bit of precision that the resizer does not have.
    const REDUCTION: usize = 100;
    if from == to {
        target.copy_from_slice(pixels);
        return Ok(());
    }
    if from[0] > to[0] * REDUCTION {
        target.copy_from_slice(&resample(pixels, from[0], from[1] * 3, to[0]));
        return Ok(());
    }
    if from[1] > to[1] * REDUCTION {
        target.copy_from_slice(&resample(pixels, from[1], 3, to[1]));
        return Ok(());
    }
    let error = |reason: String| Error::Resize {
        height: from[0],
        width: from[1],
        reason,
    };
    let [from_height, from_width, to_height, to_width] = [from[0], from[1], to[0], to[1]].map(u32::try_from);
    let (Ok(from_height), Ok(from_width), Ok(to_height), Ok(to_width)) = (from_height, from_width, to_height, to_width)
    else {
        return Err(error(format!("{}x{} is too large", to[0], to[1])));
    };
    // Named types: images of any type would have the resizer compiled for all of them.
    let source = TypedImageRef::<U8x3>::from_buffer(from_width, from_height, pixels);
    let source = source.map_err(|reason| error(reason.to_string()))?;
    let target = TypedImage::<U8x3>::from_buffer(to_width, to_height, target);
    let mut target = target.map_err(|reason| error(reason.to_string()))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    resizer
        .resize_typed(&source, &mut target, &options)
        .map_err(|reason| error(reason.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_definition(frame: &Frame, height: usize, width: usize) -> Vec<u8> {
        let rows = match frame.width() == width {
            true => frame.rgb().to_vec(),
            false => resample(frame.rgb(), frame.width(), 3, width),
        };
        match frame.height() == height {
            true => rows,
            false => resample(&rows, frame.height(), width * 3, height),
        }
    }

    /// Noise, or black and white, where clamping matters.
    fn frame() -> impl Strategy<Value = Frame> {
        (1..150usize, 1..150usize, any::<u32>(), any::<bool>()).prop_map(|(width, height, seed, extreme)| {
            let mut state = seed | 1;
            let pixels = (0..width * height * 3).map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                if extreme { (state & 1) as u8 * 255 } else { state as u8 }
            });
            Frame::new(width, height, pixels.collect()).unwrap()
        })
    }

    proptest! {
        #[test]
        fn equal_to_the_definition(frame in frame(), height in 1..150usize, width in 1..150usize) {
            let resized = resize(&frame, height, width).unwrap();
            prop_assert_eq!(resized.rgb(), by_definition(&frame, height, width));
        }
    }

    #[test]
    fn equal_to_the_definition_at_large_ratios() {
        for (height, width, to_height, to_width) in [
            (3, 6000, 32, 32),
            (6000, 3, 32, 32),
            (2, 3200, 2, 32),
            (2, 3201, 2, 32),
            (2, 4, 640, 960),
            (1, 1, 32, 64),
        ] {
            let pixels = (0..height * width * 3)
                .map(|i| (i * i * 31 + i / 7 * 13) as u8)
                .collect();
            let frame = Frame::new(width, height, pixels).unwrap();
            let resized = resize(&frame, to_height, to_width).unwrap();
            assert!(
                resized.rgb() == by_definition(&frame, to_height, to_width),
                "{height}x{width}"
            );
        }
    }

    #[test]
    fn no_size_makes_it_panic() {
        let frame = Frame::new(2, 2, vec![7; 12]).unwrap();
        assert!(resize(&frame, 0, 4).is_err());
        assert!(resize(&frame, 4, 0).is_err());
        assert_eq!(resize(&frame, 2, 2).unwrap(), frame);
    }
}
