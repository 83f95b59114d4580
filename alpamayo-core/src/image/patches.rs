//! Images cut into patches, as the vision tower reads them.

use rayon::prelude::*;

/// The patches of one or more images, 8 bits per value.
///
/// Rows are ordered image, row of cells, column of cells, row in the cell, column in the cell, where a cell is
/// the `spatial_merge_size` x `spatial_merge_size` patches that become one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patches {
    /// `[patches, channels, patch_size, patch_size]`: the frame once, not repeated over `temporal_patch_size`.
    pub pixels: Vec<u8>,
    /// Time steps, rows and columns of patches of every image.
    pub grid_thw: Vec<[usize; 3]>,
    /// Channels of a patch: 3.
    pub channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// How often the network wants every frame.
    pub temporal_patch_size: usize,
    /// Patches along a side of the square that becomes one token.
    pub spatial_merge_size: usize,
}

impl Patches {
    /// Number of patches of all images.
    pub fn num_patches(&self) -> usize {
        self.grid_thw.iter().map(|grid| grid.iter().product::<usize>()).sum()
    }

    /// Number of tokens that each image becomes.
    pub fn tokens_per_image(&self) -> Vec<usize> {
        let cell = self.spatial_merge_size * self.spatial_merge_size;
        self.grid_thw
            .iter()
            .map(|grid| grid.iter().product::<usize>() / cell)
            .collect()
    }

    /// The patches of each image alone.
    pub fn split(&self) -> impl Iterator<Item = Self> {
        let area = self.channels * self.patch_size * self.patch_size;
        let mut start = 0;
        self.grid_thw.iter().map(move |grid| {
            let first = start;
            start += grid.iter().product::<usize>() * area;
            Self {
                pixels: self.pixels[first..start].to_vec(),
                grid_thw: vec![*grid],
                ..*self
            }
        })
    }

    /// Values of one patch as the network reads it: channels · temporal · patch · patch.
    pub fn values_per_patch(&self) -> usize {
        self.channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// The network's input `[patches, channels * temporal_patch_size * patch_size * patch_size]`: every value as
    /// `(x - 127.5) / 127.5`, each frame repeated `temporal_patch_size` times.
    pub fn normalized(&self) -> Vec<f32> {
        let table: [f32; 256] = std::array::from_fn(|value| (value as f32 - 127.5) / 127.5);
        self.repeated(|value| table[usize::from(value)])
    }

    /// As [`Patches::normalized`], before normalisation.
    pub fn repeated_pixels(&self) -> Vec<u8> {
        self.repeated(|value| value)
    }

    fn repeated<T: Copy + Default + Send>(&self, convert: impl Fn(u8) -> T + Sync) -> Vec<T> {
        let plane = self.patch_size * self.patch_size;
        let row = self.values_per_patch();
        let mut values = vec![T::default(); self.num_patches() * row];
        if row == 0 {
            return values;
        }
        values
            .par_chunks_mut(row)
            .zip(self.pixels.par_chunks(self.channels * plane))
            .for_each(|(row, patch)| {
                for (copies, plane_pixels) in row
                    .chunks_mut(self.temporal_patch_size * plane)
                    .zip(patch.chunks(plane))
                {
                    for copy in copies.chunks_mut(plane) {
                        for (value, &pixel) in copy.iter_mut().zip(plane_pixels) {
                            *value = convert(pixel);
                        }
                    }
                }
            });
        values
    }
}

/// Cuts one image, `[height, width, 3]` with sides that are multiples of `patch_size * merge`, into patches.
pub(super) fn cut(rgb: &[u8], width: usize, patch_size: usize, merge: usize, patches: &mut [u8]) {
    let plane = patch_size * patch_size;
    let cells_per_row = width / (patch_size * merge);
    for (index, patch) in patches.chunks_exact_mut(3 * plane).enumerate() {
        let (cell, within) = (index / (merge * merge), index % (merge * merge));
        let row = cell / cells_per_row * merge + within / merge;
        let column = cell % cells_per_row * merge + within % merge;
        let (red, rest) = patch.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        for y in 0..patch_size {
            let start = ((row * patch_size + y) * width + column * patch_size) * 3;
            let line = rgb[start..start + patch_size * 3].chunks_exact(3);
            let targets = y * patch_size..(y + 1) * patch_size;
            let targets = red[targets.clone()]
                .iter_mut()
                .zip(&mut green[targets.clone()])
                .zip(&mut blue[targets]);
            for (pixel, ((red, green), blue)) in line.zip(targets) {
                (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every value of the repeated patches is the pixel that the order of the axes says.
        #[test]
        fn the_order_of_axes(
            rows in 1..4usize, columns in 1..4usize, merge in 1..4usize, patch_size in 1..5usize, temporal in 1..4usize,
        ) {
            let (height, width) = (rows * merge * patch_size, columns * merge * patch_size);
            let rgb: Vec<u8> = (0..height * width * 3).map(|i| (i * 37 % 251) as u8).collect();
            let mut pixels = vec![0; rgb.len()];
            cut(&rgb, width, patch_size, merge, &mut pixels);
            let patches = Patches {
                pixels,
                grid_thw: vec![[1, rows * merge, columns * merge]],
                channels: 3,
                patch_size,
                temporal_patch_size: temporal,
                spatial_merge_size: merge,
            };
            prop_assert_eq!(patches.num_patches(), rows * columns * merge * merge);
            prop_assert_eq!(patches.tokens_per_image(), vec![rows * columns]);
            let repeated = patches.repeated_pixels();
            let normalized = patches.normalized();
            prop_assert_eq!(repeated.len(), patches.num_patches() * patches.values_per_patch());
            for (index, (&value, &normal)) in repeated.iter().zip(&normalized).enumerate() {
                // The reverse of [rows, columns, merge, merge, channels, temporal, patch, patch].
                let mut rest = index;
                let mut axis = |size: usize| { let i = rest % size; rest /= size; i };
                let (x, y, _, channel) = (axis(patch_size), axis(patch_size), axis(temporal), axis(3));
                let (in_column, in_row, column, row) = (axis(merge), axis(merge), axis(columns), axis(rows));
                let pixel_row = (row * merge + in_row) * patch_size + y;
                let pixel_column = (column * merge + in_column) * patch_size + x;
                prop_assert_eq!(value, rgb[(pixel_row * width + pixel_column) * 3 + channel]);
                prop_assert_eq!(normal, (f32::from(value) - 127.5) / 127.5);
            }
        }
    }
}
