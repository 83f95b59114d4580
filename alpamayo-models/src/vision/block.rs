//! One transformer block of the vision tower.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Activation, Attention, Linear, Norm, Rotary};
use alpamayo_core::VisionConfig;
use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use super::LAYER_NORM_EPSILON;
use crate::error::Result;
use crate::parameters::ParameterSource;

/// `x += proj(attention(norm1(x)))`, then `x += fc2(gelu_tanh(fc1(norm2(x))))`.
#[derive(Module, Debug)]
pub struct VisionBlock<B: Backend> {
    /// LayerNorm before the attention.
    pub norm1: Norm<B>,
    /// Fused `q | k | v`, `[3 · hidden, hidden]`, with bias.
    pub qkv: Linear<B>,
    /// Output projection of the attention.
    pub proj: Linear<B>,
    /// LayerNorm before the MLP.
    pub norm2: Norm<B>,
    /// First linear layer of the MLP.
    pub linear_fc1: Linear<B>,
    /// Second linear layer of the MLP.
    pub linear_fc2: Linear<B>,
    /// Heads.
    #[module(skip)]
    pub attention: Attention,
}

impl<B: ModelBackend> VisionBlock<B> {
    /// Builds block `index` from a source's fields `vision.blocks.{index}.*`.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(
        config: &VisionConfig,
        attention: Attention,
        index: usize,
        source: &mut dyn ParameterSource<B>,
    ) -> Result<Self> {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let field = |name: &str| format!("vision.blocks.{index}.{name}");
        Ok(Self {
            norm1: source.layer_norm(&field("norm1"), hidden, LAYER_NORM_EPSILON)?,
            qkv: source.linear(&field("qkv"), hidden, &[3 * hidden], true)?,
            proj: source.linear(&field("proj"), hidden, &[hidden], true)?,
            norm2: source.layer_norm(&field("norm2"), hidden, LAYER_NORM_EPSILON)?,
            linear_fc1: source.linear(&field("linear_fc1"), hidden, &[intermediate], true)?,
            linear_fc2: source.linear(&field("linear_fc2"), intermediate, &[hidden], true)?,
            attention,
        })
    }

    /// `[patches, hidden]` → `[patches, hidden]`; `rotary` has one row per patch, `image_lengths` the patches of each image.
    pub fn forward(&self, x: Tensor<B, 2>, rotary: &Rotary<B>, image_lengths: &[usize]) -> Tensor<B, 2> {
        let qkv = B::norm_project(x.clone(), &self.norm1, &self.qkv, Activation::None);
        let attended = B::vision_attention(qkv, &self.attention, rotary, image_lengths);
        let x = B::project_add(attended, &self.proj, x);
        let inner = B::norm_project(x.clone(), &self.norm2, &self.linear_fc1, Activation::GeluTanh);
        B::project_add(inner, &self.linear_fc2, x)
    }
}
