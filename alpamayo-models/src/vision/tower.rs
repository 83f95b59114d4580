//! The tower: patch embedding, position grid, blocks, mergers.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::Attention;
use alpamayo_core::VisionConfig;
use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use super::merger::MergerNorm;
use super::{Merger, PatchEmbedding, PositionGrid, VisionBlock, VisionFeatures, VisionTables};
use crate::error::{Error, Result};
use crate::observer::{Event, Observer};
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
    /// Heads of a block.
    #[module(skip)]
    pub attention: Attention,
}

impl<B: ModelBackend> VisionTower<B> {
    /// Builds the tower from a source's fields `vision.*`.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &VisionConfig, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let attention = Attention {
            num_heads: config.num_heads,
            num_key_value_heads: config.num_heads,
            head_dim: config.hidden_size / config.num_heads,
        };
        let patch_embed = PatchEmbedding::new(config, source)?;
        let pos_embed = PositionGrid::new(config, source)?;
        let blocks = (0..config.depth)
            .map(|index| VisionBlock::new(config, attention, index, source))
            .collect::<Result<_>>()?;
        let merger = Merger::new(config, "vision.merger", MergerNorm::Patch, source)?;
        let deepstack = (0..config.deepstack_visual_indexes.len())
            .map(|index| Merger::new(config, &format!("vision.deepstack.{index}"), MergerNorm::Cell, source))
            .collect::<Result<_>>()?;
        Ok(Self {
            patch_embed,
            pos_embed,
            blocks,
            deepstack,
            merger,
            deepstack_visual_indexes: config.deepstack_visual_indexes.clone(),
            attention,
        })
    }

    /// What the images' sizes alone decide, to be used with [`forward`](Self::forward) for any images of these sizes.
    ///
    /// `grid_thw` has one `[time, height, width]` per image, in patches.
    ///
    /// # Errors
    /// [`Error::Argument`] where an image's patches don't fill whole cells.
    pub fn tables(&self, grid_thw: &[[usize; 3]], device: &B::Device) -> Result<VisionTables<B>> {
        VisionTables::new(&self.pos_embed, self.attention.head_dim, grid_thw, device)
    }

    /// Normalised pixels of all images' patches `[patches, channels · temporal · patch²]` → image tokens.
    ///
    /// # Errors
    /// [`Error::Argument`] where the tables are for another number of patches.
    pub fn forward(
        &self,
        pixels: Tensor<B, 2>,
        tables: &VisionTables<B>,
        observer: &mut dyn Observer<B>,
    ) -> Result<VisionFeatures<B>> {
        let (patches, expected) = (pixels.dims()[0], tables.image_lengths.iter().sum::<usize>());
        if patches != expected {
            let reason = format!("{patches} patches of pixels, but the images' sizes make {expected}");
            return Err(Error::Argument {
                argument: "pixels",
                reason,
            });
        }
        let x = self.patch_embed.forward(pixels);
        observer.observe(Event::PatchEmbedding(&x));
        let mut x = x + tables.positions.clone();
        let mut deepstack = Vec::with_capacity(self.deepstack.len());
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, &tables.rotary, &tables.image_lengths);
            observer.observe(Event::VisionBlock(index, &x));
            // Features are kept in the blocks' order, whatever the order of the indexes.
            let merger = self.deepstack_visual_indexes.iter().position(|&after| after == index);
            if let Some(merger) = merger {
                let merged = self.deepstack[merger].forward(x.clone());
                observer.observe(Event::Deepstack(merger, &merged));
                deepstack.push(merged);
            }
        }
        let tokens = self.merger.forward(x);
        observer.observe(Event::Merger(&tokens));
        Ok(VisionFeatures {
            tokens,
            deepstack,
            tokens_per_image: tables.tokens_per_image.clone(),
        })
    }
}
