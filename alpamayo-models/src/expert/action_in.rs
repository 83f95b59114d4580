//! Noisy actions and the flow's time → the expert's hidden size.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Activation, Linear, Norm};
use alpamayo_core::ModelConfig;
use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};

use crate::error::Result;
use crate::host::upload;
use crate::parameters::ParameterSource;

/// RMSNorms and the LayerNorm of the projection.
const NORM_EPSILON: f64 = 1e-5;
/// An action: acceleration and curvature.
pub(crate) const ACTION_FEATURES: usize = 2;

/// Fourier features of acceleration, curvature and time, an MLP with RMSNorms, and a LayerNorm; per waypoint.
#[derive(Module, Debug)]
pub struct ActionInProjection<B: Backend> {
    /// `[3, num_fourier_feats / 2]`: frequencies of acceleration, curvature and time.
    pub frequencies: Param<Tensor<B, 2>>,
    /// Linear layers, one more than `num_enc_layers`; all but the last are followed by SiLU.
    pub linears: Vec<Linear<B>>,
    /// RMSNorms; `norms[i]` comes before `linears[i + 1]`.
    pub norms: Vec<Norm<B>>,
    /// Final LayerNorm.
    pub norm: Norm<B>,
}

impl<B: ModelBackend> ActionInProjection<B> {
    /// Builds the projection from a source's fields `action_in_proj.*`.
    ///
    /// Buffers: `action_in_proj.frequencies.{0,1,2}` for acceleration, curvature and time.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &ModelConfig, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let projection = &config.action_in_proj;
        let count = projection.num_fourier_feats / 2;
        let rows = ACTION_FEATURES + 1;
        let mut frequencies = Vec::with_capacity(rows * count);
        for row in 0..rows {
            let stored = source.buffer(&format!("action_in_proj.frequencies.{row}"), count)?;
            frequencies.extend(stored.unwrap_or_else(|| default_frequencies(config, count)));
        }
        let frequencies = upload(frequencies, [rows, count], source.device());
        let (hidden, layers) = (projection.hidden_size, projection.num_enc_layers);
        let mut linears = vec![source.linear("action_in_proj.linears.0", rows * 2 * count, &[hidden], true)?];
        let mut norms = Vec::with_capacity(layers);
        for index in 1..=layers {
            let out = if index == layers {
                config.expert.hidden_size
            } else {
                hidden
            };
            let norm = source.rms_norm(&format!("action_in_proj.norms.{}", index - 1), hidden, NORM_EPSILON)?;
            norms.push(Norm::Rms(norm));
            linears.push(source.linear(&format!("action_in_proj.linears.{index}"), hidden, &[out], true)?);
        }
        Ok(Self {
            frequencies: Param::initialized(burn::module::ParamId::new(), frequencies),
            linears,
            norms,
            norm: source.layer_norm("action_in_proj.norm", config.expert.hidden_size, NORM_EPSILON)?,
        })
    }

    /// Actions `[waypoints, 2]` at flow time `time` in [0, 1] → `[waypoints, hidden]`.
    pub fn forward(&self, actions: Tensor<B, 2>, time: f32) -> Tensor<B, 2> {
        let features = B::fourier_features(actions, time, &self.frequencies.val());
        let last = self.norms.len();
        let activation = |index| {
            if index == last {
                Activation::None
            } else {
                Activation::Silu
            }
        };
        let mut x = B::project(features, &self.linears[0], activation(0));
        for (index, (norm, linear)) in self.norms.iter().zip(&self.linears[1..]).enumerate() {
            x = B::norm_project(x, norm, linear, activation(index + 1));
        }
        B::normalize(x, &self.norm)
    }
}

/// `logspace(0, log10(max_freq), count)`, rounded to the checkpoint's dtype as the reference's buffers are.
fn default_frequencies(config: &ModelConfig, count: usize) -> Vec<f32> {
    let top = config.action_in_proj.max_freq.log10();
    (0..count)
        .map(|index| 10f64.powf(top * index as f64 / (count.max(2) - 1) as f64))
        .map(|frequency| config.model_dtype.round(frequency) as f32)
        .collect()
}
