//! Pixels of patches → the tower's hidden size.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Activation, Linear};
use alpamayo_core::VisionConfig;
use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use crate::error::Result;
use crate::parameters::ParameterSource;

/// The patch embedding: a convolution whose kernel covers one patch, hence a matrix `[hidden, channels · temporal · patch²]`.
#[derive(Module, Debug)]
pub struct PatchEmbedding<B: Backend> {
    /// The kernel, flattened, and its bias.
    pub projection: Linear<B>,
}

impl<B: ModelBackend> PatchEmbedding<B> {
    /// Builds the module from a source's field `vision.patch_embed`.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &VisionConfig, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let patch = config.in_channels * config.temporal_patch_size * config.patch_size * config.patch_size;
        Ok(Self {
            projection: source.linear("vision.patch_embed", patch, &[config.hidden_size], true)?,
        })
    }

    /// `[patches, channels · temporal · patch²]` → `[patches, hidden]`.
    pub fn forward(&self, pixels: Tensor<B, 2>) -> Tensor<B, 2> {
        B::project(pixels, &self.projection, Activation::None)
    }
}
