//! The position of every prompt token on three axes: time, height and width (interleaved multimodal RoPE).

use crate::{Error, Result};

/// Positions of a prompt's tokens.
///
/// Text advances all three axes together. The cells of an image share one time and count their rows and columns; the
/// token after an image continues behind its highest position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultimodalPositions {
    /// `[time, height, width]` of every token.
    pub ids: Vec<[i64; 3]>,
    /// What to add to the index of a later token to get its position, on all three axes.
    pub rope_delta: i64,
}

impl MultimodalPositions {
    /// Positions of a prompt whose `image_pad` tokens are, one image after another, the merged cells of the images
    /// with these `grid_thw` (time steps, rows and columns of patches).
    ///
    /// # Errors
    /// [`Error::Positions`] if images and tokens don't match, or a grid is not a whole number of cells.
    pub fn new(ids: &[u32], image_pad: u32, grid_thw: &[[usize; 3]], spatial_merge_size: usize) -> Result<Self> {
        let mut positions = Vec::with_capacity(ids.len());
        let mut images = grid_thw.iter().enumerate();
        let mut next = 0;
        while positions.len() < ids.len() {
            let rest = &ids[positions.len()..];
            if rest[0] != image_pad {
                positions.push([next; 3]);
                next += 1;
                continue;
            }
            let Some((index, grid)) = images.next() else {
                let reason = format!(
                    "{} images, but token {} belongs to another",
                    grid_thw.len(),
                    positions.len()
                );
                return Err(Error::Positions(reason));
            };
            let cells = cells(index, grid, spatial_merge_size)?;
            let found = rest.iter().take_while(|&&id| id == image_pad).count();
            let expected: usize = cells.iter().product();
            if found < expected {
                return Err(Error::Positions(format!(
                    "image {index} has {expected} tokens, but only {found} are there"
                )));
            }
            push_image(&mut positions, cells, next);
            next += cells.into_iter().max().unwrap_or(0) as i64;
        }
        if let Some((index, _)) = images.next() {
            return Err(Error::Positions(format!(
                "{} images, but tokens for {index} only",
                grid_thw.len()
            )));
        }
        Ok(Self {
            rope_delta: next - positions.len() as i64,
            ids: positions,
        })
    }

    /// Position, on all three axes, of the token at a later index.
    pub fn after(&self, index: usize) -> i64 {
        index as i64 + self.rope_delta
    }
}

/// Time steps, rows and columns of merged cells of an image.
fn cells(index: usize, grid: &[usize; 3], merge: usize) -> Result<[usize; 3]> {
    let [time, height, width] = *grid;
    let possible = merge > 0 && height % merge == 0 && width % merge == 0 && grid.iter().all(|&size| size > 0);
    match possible {
        // Beyond this no prompt is that long.
        true if grid.iter().all(|&size| size < 1 << 20) => Ok([time, height / merge, width / merge]),
        _ => Err(Error::Positions(format!(
            "image {index} has {time} x {height} x {width} patches, which are no whole cells of {merge} x {merge}"
        ))),
    }
}

fn push_image(positions: &mut Vec<[i64; 3]>, [time, height, width]: [usize; 3], start: i64) {
    for t in 0..time as i64 {
        for row in 0..height as i64 {
            positions.extend((0..width as i64).map(|column| [start + t, start + row, start + column]));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAD: u32 = 9;

    #[test]
    fn text_around_an_image() {
        let mut ids = vec![1, 2];
        ids.extend([PAD; 6]);
        ids.extend([3, 4]);
        let positions = MultimodalPositions::new(&ids, PAD, &[[1, 4, 6]], 2).unwrap();
        let expected = [
            [0, 0, 0],
            [1, 1, 1],
            [2, 2, 2],
            [2, 2, 3],
            [2, 2, 4],
            [2, 3, 2],
            [2, 3, 3],
            [2, 3, 4],
            [5, 5, 5],
            [6, 6, 6],
        ];
        assert_eq!(positions.ids, expected);
        assert_eq!(positions.rope_delta, 7 - 10);
        assert_eq!(positions.after(10), 7);
    }

    #[test]
    fn images_and_tokens_that_do_not_match() {
        let new = |ids: &[u32], grids: &[[usize; 3]], merge| {
            MultimodalPositions::new(ids, PAD, grids, merge)
                .unwrap_err()
                .to_string()
        };
        assert!(new(&[1, PAD], &[], 2).contains("token 1"));
        assert!(new(&[PAD, 1], &[[1, 2, 4]], 2).contains("only 1"));
        assert!(new(&[1, 1], &[[1, 2, 2]], 2).contains("tokens for 0"));
        assert!(new(&[PAD], &[[1, 3, 2]], 2).contains("whole cells"));
        assert!(new(&[PAD], &[[1, 2, 2]], 0).contains("whole cells"));
        assert!(new(&[PAD], &[[usize::MAX, 2, 2]], 2).contains("whole cells"));
    }

    proptest! {
        /// Every token continues behind the highest position so far or belongs to an image that does.
        #[test]
        fn positions_never_repeat(parts in prop::collection::vec((0..5usize, 1..4usize, 1..4usize), 0..5)) {
            let mut ids = vec![];
            let mut grids = vec![];
            for (text, height, width) in parts {
                ids.extend(vec![1; text]);
                ids.extend(vec![PAD; height * width]);
                grids.push([1, height * 2, width * 2]);
            }
            ids.push(1);
            let positions = MultimodalPositions::new(&ids, PAD, &grids, 2).unwrap();
            prop_assert_eq!(positions.ids.len(), ids.len());
            let distinct: std::collections::BTreeSet<_> = positions.ids.iter().collect();
            prop_assert_eq!(distinct.len(), ids.len());
            let highest = positions.ids.concat().into_iter().max().unwrap();
            prop_assert_eq!(positions.after(ids.len()), highest + 1);
        }
    }
}
