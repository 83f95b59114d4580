//! The learned grid of positions, interpolated to an image's size.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::Weight;
use alpamayo_core::VisionConfig;
use burn::module::Module;
use burn::tensor::backend::Backend;

use crate::error::{Error, Result};
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
    /// As the source's, or when the number of positions is no square.
    pub fn new(config: &VisionConfig, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let positions = config.num_position_embeddings;
        let side = positions.isqrt();
        if side == 0 || side * side != positions {
            return Err(Error::Module {
                module: "vision.pos_embed".into(),
                reason: format!("num_position_embeddings is {positions}, which is no square"),
            });
        }
        Ok(Self {
            table: source.embedding("vision.pos_embed", positions, config.hidden_size)?,
            side,
            spatial_merge_size: config.spatial_merge_size,
        })
    }
}
