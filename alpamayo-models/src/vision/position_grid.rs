//! The learned grid of positions, interpolated to an image's size.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::Weight;
use alpamayo_core::VisionConfig;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::patch_order;
use crate::error::Result;
use crate::linspace::linspace;
use crate::parameters::ParameterSource;

/// A learned `side` x `side` grid of position embeddings.
#[derive(Module, Debug)]
pub struct PositionGrid<B: Backend> {
    /// `[side², hidden]`, row by row.
    pub table: Weight<B>,
    /// Points along one axis.
    pub side: usize,
    /// Patches along one axis of a merged cell.
    pub spatial_merge_size: usize,
}

impl<B: ModelBackend> PositionGrid<B> {
    /// Builds the module from a source's field `vision.pos_embed`.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &VisionConfig, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let positions = config.num_position_embeddings;
        Ok(Self {
            table: source.embedding("vision.pos_embed", positions, config.hidden_size)?,
            side: positions.isqrt(),
            spatial_merge_size: config.spatial_merge_size,
        })
    }

    /// The grid interpolated bilinearly to `height` x `width` patches, in patch order: `[height · width, hidden]`.
    pub fn interpolate(&self, height: usize, width: usize, device: &B::Device) -> Tensor<B, 2> {
        let (rows, columns) = (axis(self.side, height), axis(self.side, width));
        let patches = height * width;
        let mut ids = Vec::with_capacity(4 * patches);
        let mut weights = Vec::with_capacity(4 * patches);
        for corner in 0..4 {
            for (row, column) in patch_order(height, width, self.spatial_merge_size) {
                let (row, row_weight) = rows[row][corner / 2];
                let (column, column_weight) = columns[column][corner % 2];
                ids.push((row * self.side + column) as i32);
                weights.push(row_weight * column_weight);
            }
        }
        let ids = Tensor::from_data(TensorData::new(ids, [4 * patches]), device);
        let weights = Tensor::<B, 2>::from_data(TensorData::new(weights, [4 * patches, 1]), device);
        let corners = B::lookup_rows(ids, &self.table) * weights;
        let corner = |index: usize| corners.clone().narrow(0, index * patches, patches);
        corner(0) + corner(1) + corner(2) + corner(3)
    }
}

/// For each of `length` points spread over `side` grid points, corners aligned: the two neighbours and their weights.
fn axis(side: usize, length: usize) -> Vec<[(usize, f32); 2]> {
    linspace(0.0, (side - 1) as f32, length)
        .into_iter()
        .map(|position| {
            let low = position as usize;
            let fraction = position - low as f32;
            [(low, 1.0 - fraction), ((low + 1).min(side - 1), fraction)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::axis;

    #[test]
    fn corners_are_aligned() {
        for length in [1, 2, 3, 20, 36, 48, 77] {
            let points = axis(48, length);
            assert_eq!(points[0], [(0, 1.0), (1, 0.0)]);
            for [(low, a), (high, b)] in &points {
                assert!(low <= high && *high < 48 && (a + b - 1.0).abs() < 1e-6);
            }
            if length > 1 {
                assert_eq!(points[length - 1], [(47, 1.0), (47, 0.0)]);
            }
        }
        assert_eq!(axis(48, 48)[13], [(13, 1.0), (14, 0.0)]);
    }
}
