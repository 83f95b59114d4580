//! The tower: patch embedding, position grid, blocks, mergers.

use alpamayo_backends::ModelBackend;
use alpamayo_core::VisionConfig;
use burn::module::Module;
use burn::tensor::backend::Backend;

use super::merger::MergerNorm;
use super::{Merger, PatchEmbedding, PositionGrid, VisionBlock};
use crate::error::Result;
use crate::parameters::ParameterSource;

/// The vision tower of the backbone.
#[derive(Module, Debug)]
pub struct VisionTower<B: Backend> {
    /// Pixels → hidden size.
    pub patch_embed: PatchEmbedding<B>,
    /// Learned positions.
    pub pos_embed: PositionGrid<B>,
    /// Transformer blocks.
    pub blocks: Vec<VisionBlock<B>>,
    /// One merger per entry of `deepstack_visual_indexes`.
    pub deepstack: Vec<Merger<B>>,
    /// The final merger.
    pub merger: Merger<B>,
    /// Blocks after which a deepstack merger reads the hidden state.
    #[module(skip)]
    pub deepstack_visual_indexes: Vec<usize>,
}

impl<B: ModelBackend> VisionTower<B> {
    /// Builds the tower from a source's fields `vision.*`.
    ///
    /// # Errors
    /// As the source's, or when the sizes don't fit together.
    pub fn new(config: &VisionConfig, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let patch_embed = PatchEmbedding::new(config, source)?;
        let pos_embed = PositionGrid::new(config, source)?;
        let blocks = (0..config.depth)
            .map(|index| VisionBlock::new(config, index, source))
            .collect::<Result<_>>()?;
        let deepstack = (0..config.deepstack_visual_indexes.len())
            .map(|index| Merger::new(config, &format!("vision.deepstack.{index}"), MergerNorm::Cell, source))
            .collect::<Result<_>>()?;
        let merger = Merger::new(config, "vision.merger", MergerNorm::Patch, source)?;
        Ok(Self {
            patch_embed,
            pos_embed,
            blocks,
            deepstack,
            merger,
            deepstack_visual_indexes: config.deepstack_visual_indexes.clone(),
        })
    }
}
