//! What the images' sizes alone decide: position embeddings and rotations.

use std::collections::HashMap;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::Rotary;
use burn::tensor::{Tensor, backend::Backend};

use super::{PositionGrid, patch_order};
use crate::error::{Error, Result};
use crate::rotary::{inverse_frequencies, rotary_table};

/// Base of the tower's rotation frequencies.
const ROPE_THETA: f64 = 10_000.0;

/// Position embeddings and rotations of a sequence of images, computed once per sequence of sizes.
#[derive(Debug, Clone)]
pub struct VisionTables<B: Backend> {
    /// The position grid at every patch `[patches, hidden]`.
    pub positions: Tensor<B, 2>,
    /// Rotations by row and column, one row per patch.
    pub rotary: Rotary<B>,
    /// Patches of each image (of each time step, where an image has several).
    pub image_lengths: Vec<usize>,
    /// Tokens of each image.
    pub tokens_per_image: Vec<usize>,
}

impl<B: ModelBackend> VisionTables<B> {
    pub(super) fn new(
        grid: &PositionGrid<B>,
        head_dim: usize,
        grid_thw: &[[usize; 3]],
        device: &B::Device,
    ) -> Result<Self> {
        let merge = grid.spatial_merge_size;
        let frequencies = inverse_frequencies(ROPE_THETA, head_dim / 2);
        let mut sizes = HashMap::new();
        let (mut positions, mut angles) = (Vec::new(), Vec::new());
        let (mut image_lengths, mut tokens_per_image) = (Vec::new(), Vec::new());
        for &[time, height, width] in grid_thw {
            check(time, height, width, merge)?;
            let (embedding, image_angles) = sizes.entry((height, width)).or_insert_with(|| {
                let embedding = grid.interpolate(height, width, device);
                (embedding, angles_of(height, width, merge, &frequencies))
            });
            for _ in 0..time {
                positions.push(embedding.clone());
                angles.extend_from_slice(image_angles);
                image_lengths.push(height * width);
            }
            tokens_per_image.push(time * height * width / (merge * merge));
        }
        if positions.is_empty() {
            return Err(Error::Argument {
                argument: "grid_thw",
                reason: "there are no images".into(),
            });
        }
        Ok(Self {
            positions: Tensor::cat(positions, 0),
            rotary: rotary_table(&angles, 2 * frequencies.len(), device),
            image_lengths,
            tokens_per_image,
        })
    }
}

/// Angles of an image's patches `[patches, head_dim / 2]`: the row's, then the column's.
fn angles_of(height: usize, width: usize, merge: usize, frequencies: &[f32]) -> Vec<f32> {
    patch_order(height, width, merge)
        .flat_map(|(row, column)| [row, column])
        .flat_map(|place| frequencies.iter().map(move |frequency| place as f32 * frequency))
        .collect()
}

fn check(time: usize, height: usize, width: usize, merge: usize) -> Result<()> {
    let whole = |length: usize| length > 0 && length.is_multiple_of(merge);
    if time > 0 && whole(height) && whole(width) {
        return Ok(());
    }
    Err(Error::Argument {
        argument: "grid_thw",
        reason: format!("an image of {time} x {height} x {width} patches has no whole cells of {merge} x {merge}"),
    })
}
