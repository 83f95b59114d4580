//! Frames to patches, in parallel.

use fast_image_resize::Resizer;
use rayon::prelude::*;

use super::{Patches, patches, resize, smart_resize};
use crate::{Frame, ModelConfig, Result};

/// Turns frames of any size into patches.
///
/// ```
/// # fn main() -> alpamayo_core::Result<()> {
/// use alpamayo_core::{Frame, ImageProcessor};
/// let processor = ImageProcessor { patch_size: 16, merge_size: 2, temporal_patch_size: 2, min_pixels: 163_840, max_pixels: 196_608 };
/// let patches = processor.process(&[Frame::new(1920, 1080, vec![0; 1920 * 1080 * 3])?])?;
/// assert_eq!(patches.grid_thw, [[1, 20, 36]]);
/// assert_eq!(patches.tokens_per_image(), [180]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageProcessor {
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Patches along a side of the square that becomes one token.
    pub merge_size: usize,
    /// How often the network wants every frame.
    pub temporal_patch_size: usize,
    /// Fewest pixels of a resized image.
    pub min_pixels: usize,
    /// Most pixels of a resized image.
    pub max_pixels: usize,
}

impl ImageProcessor {
    /// The processor of a model's images.
    pub fn new(config: &ModelConfig) -> Self {
        Self {
            patch_size: config.vision.patch_size,
            merge_size: config.vision.spatial_merge_size,
            temporal_patch_size: config.vision.temporal_patch_size,
            min_pixels: config.min_pixels,
            max_pixels: config.max_pixels,
        }
    }

    /// The height and width to which a frame of this size is resized.
    ///
    /// # Errors
    /// [`Error::Resize`](crate::Error::Resize), see [`smart_resize`].
    pub fn resized(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        smart_resize(
            height,
            width,
            self.patch_size * self.merge_size,
            self.min_pixels,
            self.max_pixels,
        )
    }

    /// Resizes frames and cuts them into patches. The frames may have different sizes.
    ///
    /// # Errors
    /// [`Error::Resize`](crate::Error::Resize) for a frame whose shape is not possible.
    pub fn process(&self, frames: &[Frame]) -> Result<Patches> {
        let sizes: Vec<(usize, usize)> = frames
            .iter()
            .map(|frame| self.resized(frame.height(), frame.width()))
            .collect::<Result<_>>()?;
        let rows = resized_rows(frames, &sizes)?;
        let mut pixels = vec![0; sizes.iter().map(|(height, width)| height * width * 3).sum()];
        let parts = parts_of(&mut pixels, sizes.iter().map(|(height, width)| height * width * 3));
        frames.par_iter().zip(&sizes).zip(&rows).zip(parts).try_for_each_init(
            Resizer::new,
            |resizer, (((frame, &(height, width)), rows), part)| {
                let rgb = resize::along_columns(rows, [frame.height(), width], height, resizer)?;
                patches::cut(&rgb, width, self.patch_size, self.merge_size, part);
                Ok(())
            },
        )?;
        let grid = |&(height, width): &(usize, usize)| [1, height / self.patch_size, width / self.patch_size];
        Ok(Patches {
            pixels,
            grid_thw: sizes.iter().map(grid).collect(),
            channels: 3,
            patch_size: self.patch_size,
            temporal_patch_size: self.temporal_patch_size,
            spatial_merge_size: self.merge_size,
        })
    }
}

/// Rows of a frame that are resized by one thread at a time: more pieces than frames, so that no thread waits long for another.
const BAND: usize = 128;

/// Frames with the width they are resized to, and their own height.
fn resized_rows(frames: &[Frame], sizes: &[(usize, usize)]) -> Result<Vec<Vec<u8>>> {
    let mut rows: Vec<Vec<u8>> = (frames.iter().zip(sizes))
        .map(|(frame, (_, width))| vec![0; frame.height() * width * 3])
        .collect();
    let mut bands = Vec::new();
    for ((frame, (_, width)), rows) in frames.iter().zip(sizes).zip(&mut rows) {
        let sources = frame.rgb().chunks((frame.width() * 3 * BAND).max(1));
        let targets = rows.chunks_mut((width * 3 * BAND).max(1));
        bands.extend(sources.zip(targets).map(|band| (frame.width(), *width, band)));
    }
    bands
        .into_par_iter()
        .try_for_each_init(Resizer::new, |resizer, (from, to, (source, target))| {
            resize::along_rows(source, [source.len() / (from * 3), from], to, target, resizer)
        })?;
    Ok(rows)
}

/// Consecutive parts of a slice.
fn parts_of(mut rest: &mut [u8], lengths: impl Iterator<Item = usize>) -> Vec<&mut [u8]> {
    let mut parts = Vec::new();
    for length in lengths {
        let (part, others) = rest.split_at_mut(length);
        parts.push(part);
        rest = others;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::TestData;

    const RELEASED: ImageProcessor = ImageProcessor {
        patch_size: 16,
        merge_size: 2,
        temporal_patch_size: 2,
        min_pixels: 163_840,
        max_pixels: 196_608,
    };

    /// The patches of the frame `{height}x{width}.frame` in a file of reference tensors, whose grid is compared.
    fn patches_of(data: &TestData, height: usize, width: usize) -> Patches {
        let planes = data.values::<u8>(&format!("{height}x{width}.frame"));
        let frame = Frame::from_planar(width, height, &planes).unwrap();
        let patches = RELEASED.process(std::slice::from_ref(&frame)).unwrap();
        let grid: Vec<i64> = patches.grid_thw.concat().iter().map(|&size| size as i64).collect();
        assert_eq!(grid, data.values::<i64>(&format!("{height}x{width}.grid_thw")));
        patches
    }

    #[test]
    fn a_reference_image() {
        let data = TestData::read("image.safetensors");
        assert!(patches_of(&data, 97, 333).pixels == data.values::<u8>("97x333.patches"));
    }

    #[test]
    fn an_image_of_several_is_what_it_is_alone() {
        let frame = |width: usize, height: usize| {
            let rgb = (0..width * height * 3).map(|byte| (byte % 251) as u8).collect();
            Frame::new(width, height, rgb).unwrap()
        };
        let frames = [frame(640, 360), frame(480, 480), frame(333, 97)];
        let together = RELEASED.process(&frames).unwrap();
        let alone: Vec<Patches> = frames
            .iter()
            .map(|frame| RELEASED.process(std::slice::from_ref(frame)).unwrap())
            .collect();
        assert!(together.split().eq(alone));
    }

    /// With `ALPAMAYO_DOMAIN` naming a directory of reference values: large images too.
    #[test]
    #[ignore = "needs a directory of reference values"]
    fn large_reference_images() {
        let directory = std::env::var("ALPAMAYO_DOMAIN").unwrap();
        // Joining an absolute path gives that path.
        let data = TestData::read(&format!("{directory}/images.safetensors"));
        for (height, width) in [(1080, 1920), (480, 640), (97, 333)] {
            let patches = patches_of(&data, height, width).repeated_pixels();
            assert!(
                patches == data.values::<u8>(&format!("{height}x{width}.patches_u8")),
                "{height}x{width}"
            );
        }
    }

    #[test]
    fn frames_of_different_sizes_are_what_they_are_alone() {
        let frame = |width: usize, height: usize| {
            let pixels = (0..width * height * 3).map(|i| (i * 7 + i / 11) as u8).collect();
            Frame::new(width, height, pixels).unwrap()
        };
        let frames = [frame(40, 30), frame(64, 100), frame(333, 97)];
        let together = RELEASED.process(&frames).unwrap();
        let alone: Vec<Patches> = frames
            .iter()
            .map(|frame| RELEASED.process(std::slice::from_ref(frame)).unwrap())
            .collect();
        assert_eq!(
            together.pixels,
            alone
                .iter()
                .flat_map(|patches| patches.pixels.clone())
                .collect::<Vec<u8>>()
        );
        assert_eq!(
            together.grid_thw,
            alone
                .iter()
                .flat_map(|patches| patches.grid_thw.clone())
                .collect::<Vec<_>>()
        );
        assert_eq!(RELEASED.process(&[]).unwrap().num_patches(), 0);
    }

    #[test]
    fn a_frame_that_is_too_long() {
        let error = RELEASED
            .process(&[Frame::new(402, 2, vec![0; 402 * 2 * 3]).unwrap()])
            .unwrap_err()
            .to_string();
        assert!(error.contains("2x402") && error.contains("200 times"), "{error}");
    }
}
