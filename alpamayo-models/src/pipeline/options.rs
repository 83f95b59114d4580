//! Options of loading and of driving.

use std::fmt;
use std::path::PathBuf;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_core::{PromptStyle, SamplingOptions};

use crate::import::Progress;
use crate::token_table::TablePlacement;

/// Called after every tensor of an import.
pub type BoxedProgress = Box<dyn FnMut(Progress<'_>) + Send>;

/// How a model is put on its device.
#[derive(Default)]
pub struct LoadOptions {
    /// How weights are stored; where not given as the checkpoint holds them if that is in few bits, else the backend's own choice.
    pub weight_format: Option<WeightFormat>,
    /// How the cache's keys and values are stored; the backend's own choice where not given.
    pub cache_format: Option<CacheFormat>,
    /// Where the table of token embeddings is kept; where not given [as few bits ask for](TablePlacement::of).
    pub token_table: Option<TablePlacement>,
    /// Directory with the backbone's `config.json` and `tokenizer.json`, instead of the one that `vlm_name_or_path` names.
    pub vlm: Option<PathBuf>,
    /// The tokenizer file, instead of the backbone's `tokenizer.json`.
    pub tokenizer: Option<PathBuf>,
    /// Called while weights are loaded.
    pub progress: Option<BoxedProgress>,
}

impl LoadOptions {
    /// The weight format asked for, or the backend's choice.
    pub fn weight_format<B: ModelBackend>(&self, device: &B::Device) -> WeightFormat {
        self.weight_format.unwrap_or_else(|| B::default_weight_format(device))
    }

    /// The cache format asked for, or the backend's choice.
    pub fn cache_format<B: ModelBackend>(&self, device: &B::Device) -> CacheFormat {
        self.cache_format
            .unwrap_or_else(|| B::default_cache_format(self.weight_format::<B>(device), device))
    }

    /// The place asked for the token embeddings, or what follows from the weights' format and the device.
    pub fn token_table<B: ModelBackend>(&self, weights: WeightFormat, device: &B::Device) -> TablePlacement {
        self.token_table
            .unwrap_or_else(|| TablePlacement::of(weights, B::limits(device).own_memory))
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("weight_format", &self.weight_format)
            .field("cache_format", &self.cache_format)
            .field("token_table", &self.token_table)
            .field("vlm", &self.vlm)
            .field("tokenizer", &self.tokenizer)
            .field("progress", &self.progress.is_some())
            .finish()
    }
}

/// How to drive: sampling of the reasoning and the flow's noise. Samples, tokens and steps are at most 100,000 each.
#[derive(Debug, Clone, PartialEq)]
pub struct DriveOptions {
    /// Rows per clip, each with its own reasoning and trajectory.
    pub samples: usize,
    /// Which prompt is built.
    pub prompt: PromptStyle,
    /// Seed of every random draw. Row i's draws depend on the seed and on i alone.
    pub seed: u64,
    /// What the logits are divided by before sampling.
    pub temperature: f64,
    /// Only the `top_k` most likely tokens are drawn from; 1 is greedy decoding.
    pub top_k: Option<usize>,
    /// Tokens of least probability are dropped while their sum is at most `1 - top_p`.
    pub top_p: f64,
    /// Most tokens that a row generates; the checkpoint's `tokens_per_future_traj` where not given.
    pub max_generation_length: Option<usize>,
    /// Euler steps of the flow; the checkpoint's `num_inference_steps` where not given.
    pub flow_steps: Option<usize>,
    /// The flow's noise `[rows, waypoints, 2]`, row-major; drawn from the seed where not given.
    pub noise: Option<Vec<f32>>,
    /// Tokens that rows must begin with instead of sampling: none, one sequence for all rows, or one per row. After them a row
    /// goes on by itself, unless they contain `<|traj_future_start|>`, which stops it. A plan's `tokens` replay its reasoning.
    pub forced_tokens: Vec<Vec<u32>>,
}

impl Default for DriveOptions {
    fn default() -> Self {
        let sampling = SamplingOptions::default();
        Self {
            samples: 6,
            prompt: PromptStyle::default(),
            seed: 0,
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            max_generation_length: None,
            flow_steps: None,
            noise: None,
            forced_tokens: Vec::new(),
        }
    }
}

impl DriveOptions {
    /// One row, the most likely token at every step.
    pub fn greedy() -> Self {
        Self {
            samples: 1,
            top_k: Some(1),
            ..Self::default()
        }
    }

    /// The sampling part.
    pub fn sampling(&self) -> SamplingOptions {
        SamplingOptions {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
        }
    }
}
