//! The model's configuration, read from a checkpoint's `config.json` and its backbone's.
//!
//! Both files are written by Python frameworks and carry dozens of fields that mean nothing here. What is needed is
//! read and checked; a value that would change what the model computes, and is not implemented, is an error.

mod backbone;
mod fields;
mod read;
mod target;
#[cfg(test)]
mod tests;
mod validate;

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Poses of the ego history that the model is given, 10 Hz, the last at t0.
pub const HISTORY_POSES: usize = 16;

/// Everything about a checkpoint that is not a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Rows of the embedding table and of `lm_head`: the backbone's tokens and the added ones.
    pub vocab_size: usize,
    /// The decoder that reads the prompt and writes the reasoning.
    pub text: DecoderConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// The action expert: a second decoder of the same depth, over the first one's cache.
    pub expert: DecoderConfig,
    /// The projection of noisy actions into the expert.
    pub action_in_proj: ActionInProjConfig,
    /// Actions to trajectories and back.
    pub action_space: UnicycleConfig,
    /// The sampler of actions.
    pub flow: FlowMatchingConfig,
    /// The ego history as tokens.
    pub history_tokenizer: DeltaTokenizerConfig,
    /// Bins of the future trajectory's tokenizer, whose tokens stand before the history's.
    pub future_num_bins: usize,
    /// Fewest pixels of a resized image.
    pub min_pixels: usize,
    /// Most pixels of a resized image.
    pub max_pixels: usize,
    /// Number of trajectory tokens `<i0>`, `<i1>` ….
    pub traj_vocab_size: usize,
    /// Id of `<i0>`: the number of tokens of the backbone's tokenizer.
    pub traj_token_start_idx: usize,
    /// Ids of the tokens around trajectories.
    pub traj_token_ids: TrajTokenIds,
    /// Tokens of the history in the prompt: poses times numbers per pose.
    pub tokens_per_history_traj: usize,
    /// Tokens generated at most, if the caller doesn't say.
    pub tokens_per_future_traj: usize,
    /// Whether the vocabulary has all special tokens, or the six trajectory tokens only.
    pub add_special_tokens: bool,
    /// The precision in which the checkpoint's values are meant.
    pub model_dtype: ModelDtype,
    /// The backbone's directory, relative to the checkpoint, or its name on a hub.
    pub vlm_name_or_path: String,
}

/// A stack of transformer decoder layers.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Channels of the residual stream.
    pub hidden_size: usize,
    /// Channels inside the SwiGLU MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; a divisor of `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Channels per head; even.
    pub head_dim: usize,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Rotary slots that follow the t, h and w position; their sum is `head_dim / 2`.
    pub mrope_section: [usize; 3],
}

/// The vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Channels of the residual stream.
    pub hidden_size: usize,
    /// Channels inside the MLP.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Channels of an image: 3.
    pub in_channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Side, in patches, of the square that becomes one token.
    pub spatial_merge_size: usize,
    /// How often a frame is repeated in a patch.
    pub temporal_patch_size: usize,
    /// Channels of the mergers' output: the decoder's `hidden_size`.
    pub out_hidden_size: usize,
    /// Entries of the learned position grid; a square number.
    pub num_position_embeddings: usize,
    /// Blocks whose output a deepstack merger reads, merger by merger, in any order, each once. The mergers' outputs are in the
    /// order of the blocks.
    pub deepstack_visual_indexes: Vec<usize>,
}

impl VisionConfig {
    /// Side, in pixels, of the square that becomes one token: images are resized to multiples of it.
    pub fn resize_factor(&self) -> usize {
        self.patch_size * self.spatial_merge_size
    }

    /// Values of one patch as the network reads it: channels · temporal · patch · patch.
    pub fn patch_values(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }
}

/// Fourier features of an action and of time, and the MLP behind them.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionInProjConfig {
    /// Hidden layers of the MLP.
    pub num_enc_layers: usize,
    /// Channels of the MLP.
    pub hidden_size: usize,
    /// Features per number, sines and cosines together; even.
    pub num_fourier_feats: usize,
    /// Highest frequency, in turns per unit.
    pub max_freq: f64,
}

/// The unicycle's action space: acceleration (m/s²) and curvature (1/m), normalised.
///
/// [`Default`] is what the released checkpoints hold.
#[derive(Debug, Clone, PartialEq)]
pub struct UnicycleConfig {
    /// Steps of a trajectory.
    pub n_waypoints: usize,
    /// Seconds per step.
    pub dt: f64,
    /// Mean acceleration, m/s².
    pub accel_mean: f64,
    /// Standard deviation of the acceleration, m/s².
    pub accel_std: f64,
    /// Mean curvature, 1/m.
    pub curvature_mean: f64,
    /// Standard deviation of the curvature, 1/m.
    pub curvature_std: f64,
    /// Lowest and highest possible acceleration, m/s².
    pub accel_bounds: [f64; 2],
    /// Lowest and highest possible curvature, 1/m.
    pub curvature_bounds: [f64; 2],
    /// Smoothing weight of the heading's third difference.
    pub theta_lambda: f64,
    /// Ridge of the heading.
    pub theta_ridge: f64,
    /// Smoothing weight of the speed's third difference.
    pub v_lambda: f64,
    /// Ridge of the speed.
    pub v_ridge: f64,
    /// Smoothing weight of the acceleration's second difference.
    pub a_lambda: f64,
    /// Ridge of the acceleration.
    pub a_ridge: f64,
    /// Smoothing weight of the curvature's second difference.
    pub kappa_lambda: f64,
    /// Ridge of the curvature.
    pub kappa_ridge: f64,
}

impl Default for UnicycleConfig {
    fn default() -> Self {
        Self {
            n_waypoints: 64,
            dt: 0.1,
            accel_mean: 0.02902694707164455,
            accel_std: 0.6810426736454882,
            curvature_mean: 0.0002692167976330542,
            curvature_std: 0.026148280660833106,
            accel_bounds: [-9.8, 9.8],
            curvature_bounds: [-0.33, 0.33],
            theta_lambda: 1e-6,
            theta_ridge: 1e-8,
            v_lambda: 1e-6,
            v_ridge: 1e-4,
            a_lambda: 1e-4,
            a_ridge: 1e-4,
            kappa_lambda: 1e-4,
            kappa_ridge: 1e-4,
        }
    }
}

/// Flow matching with Euler steps.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowMatchingConfig {
    /// Euler steps from noise to action.
    pub num_inference_steps: usize,
    /// Weight α of Alpamayo 1.5's guidance by the route, v = (1-α)·v_without + α·v_with; 1 is no guidance. Where the
    /// prompt has no route both are the same; with a route, any other weight is refused
    /// ([`PromptBuilder::build`](crate::PromptBuilder::build)).
    pub inference_guidance_weight: f64,
}

/// The tokenizer of differences between history poses, over ±4, ±4 and ±10 m.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaTokenizerConfig {
    /// Bins per number.
    pub num_bins: usize,
    /// Whether a pose has a fourth number, its heading.
    pub predict_yaw: bool,
}

/// Ids of the tokens around trajectories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrajTokenIds {
    /// `<|traj_history|>`, replaced by the history's numbers.
    pub history: u32,
    /// `<|traj_future|>`.
    pub future: u32,
    /// `<|traj_history_start|>`.
    pub history_start: u32,
    /// `<|traj_future_start|>`, which ends the reasoning.
    pub future_start: u32,
    /// `<|traj_history_end|>`.
    pub history_end: u32,
    /// `<|traj_future_end|>`.
    pub future_end: u32,
}

impl TrajTokenIds {
    /// Each id with its name in `config.json`; the token is `<|traj_{name}|>`.
    pub fn named(&self) -> [(&'static str, u32); 6] {
        [
            ("history", self.history),
            ("future", self.future),
            ("history_start", self.history_start),
            ("future_start", self.future_start),
            ("history_end", self.history_end),
            ("future_end", self.future_end),
        ]
    }
}

/// The precision of a checkpoint's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelDtype {
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Single precision.
    F32,
}

impl ModelDtype {
    /// `value`, rounded to single precision and then to this one.
    pub fn round(self, value: f64) -> f64 {
        let value = value as f32;
        match self {
            Self::Bf16 => half::bf16::from_f32(value).to_f64(),
            Self::F16 => half::f16::from_f32(value).to_f64(),
            Self::F32 => f64::from(value),
        }
    }
}

impl ModelConfig {
    /// Reads `config.json` in `checkpoint`, and the backbone's `config.json` in `vlm` or else where `vlm_name_or_path`
    /// points. Where that is the hub name of a released backbone its sizes are known.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Json`] for files, [`Error::Config`] and [`Error::UnknownTarget`] for what they hold,
    /// [`Error::BackboneNotLocal`] for an unknown backbone that is no directory.
    pub fn from_checkpoint(checkpoint: &Path, vlm: Option<&Path>) -> Result<Self> {
        let path = checkpoint.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let document = read::parse(&path, &text)?;
        let name = fields::Fields::root(&path, &document)?.text("vlm_name_or_path")?;
        let (backbone_path, backbone) = backbone::read_config(checkpoint, name, vlm)?;
        read::model(
            &path,
            &document,
            &backbone_path,
            &read::parse(&backbone_path, &backbone)?,
        )
    }

    /// Reads the texts of the two `config.json` files.
    ///
    /// # Errors
    /// As [`ModelConfig::from_checkpoint`], with `config.json` and `vlm/config.json` as file names.
    pub fn from_json(alpamayo: &str, backbone: &str) -> Result<Self> {
        let (path, backbone_path) = (Path::new("config.json"), Path::new("vlm/config.json"));
        let document = read::parse(path, alpamayo)?;
        read::model(path, &document, backbone_path, &read::parse(backbone_path, backbone)?)
    }

    /// The tokenizer file that belongs to `checkpoint`: in `vlm`, or where `vlm_name_or_path` points, or in the
    /// checkpoint itself. It is not opened.
    ///
    /// # Errors
    /// [`Error::BackboneNotLocal`] if the backbone is a hub name.
    pub fn tokenizer_path(&self, checkpoint: &Path, vlm: Option<&Path>) -> Result<PathBuf> {
        backbone::tokenizer_path(checkpoint, &self.vlm_name_or_path, vlm)
    }

    /// Id of the history's bin 0: the history's tokens follow the future's.
    pub fn history_token_start(&self) -> u32 {
        // Both were checked to be below `vocab_size`, which is checked to fit.
        (self.traj_token_start_idx + self.future_num_bins) as u32
    }
}
