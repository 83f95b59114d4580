//! Neighbouring patches → one token of the decoder's hidden size.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Activation, Linear, Norm};
use alpamayo_core::VisionConfig;
use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use super::LAYER_NORM_EPSILON;
use crate::error::Result;
use crate::parameters::ParameterSource;

/// Which rows a merger's LayerNorm sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergerNorm {
    /// Each patch by itself, before the patches of a cell are concatenated (the final merger).
    Patch,
    /// The concatenated cell (the deepstack mergers).
    Cell,
}

/// Concatenates the patches of a cell and projects them: norm → fc1 → erf GELU → fc2.
#[derive(Module, Debug)]
pub struct Merger<B: Backend> {
    /// LayerNorm over a patch or over a cell.
    pub norm: Norm<B>,
    /// `[cell, cell]`, cell = hidden · merge².
    pub linear_fc1: Linear<B>,
    /// `[out_hidden, cell]`.
    pub linear_fc2: Linear<B>,
    /// What the norm sees.
    #[module(skip)]
    pub order: MergerNorm,
    /// Features of a cell.
    pub cell: usize,
}

impl<B: ModelBackend> Merger<B> {
    /// Builds the merger whose fields start with `prefix` (`vision.merger`, `vision.deepstack.{i}`).
    ///
    /// # Errors
    /// As the source's.
    pub fn new(
        config: &VisionConfig,
        prefix: &str,
        order: MergerNorm,
        source: &mut dyn ParameterSource<B>,
    ) -> Result<Self> {
        let cell = config.hidden_size * config.spatial_merge_size * config.spatial_merge_size;
        let normalized = match order {
            MergerNorm::Patch => config.hidden_size,
            MergerNorm::Cell => cell,
        };
        let field = |name: &str| format!("{prefix}.{name}");
        Ok(Self {
            norm: source.layer_norm(&field("norm"), normalized, LAYER_NORM_EPSILON)?,
            linear_fc1: source.linear(&field("linear_fc1"), cell, &[cell], true)?,
            linear_fc2: source.linear(&field("linear_fc2"), cell, &[config.out_hidden_size], true)?,
            order,
            cell,
        })
    }

    /// `[patches, hidden]`, the patches of a cell adjacent → `[patches / merge², out_hidden]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [patches, hidden] = x.dims();
        let cells = [patches * hidden / self.cell, self.cell];
        let inner = match self.order {
            MergerNorm::Patch => {
                let normalized = B::normalize(x, &self.norm).reshape(cells);
                B::project(normalized, &self.linear_fc1, Activation::GeluErf)
            }
            MergerNorm::Cell => B::norm_project(x.reshape(cells), &self.norm, &self.linear_fc1, Activation::GeluErf),
        };
        B::project(inner, &self.linear_fc2, Activation::None)
    }
}
