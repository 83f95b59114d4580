//! Arguments and output that the programs share.

use std::path::{Path, PathBuf};

use alpamayo_backends::Device;
use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_models::{DriveOptions, LoadOptions};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

/// A path of the bundled miniature model, `checkpoint` or `clips/{name}`.
pub fn bundled(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/nano").join(path)
}

/// The names of the bundled clips, each of which has the reference's plan.
pub const BUNDLED_CLIPS: [&str; 6] = [
    "barriers",
    "green_start",
    "pedestrian",
    "red_light",
    "right_curve",
    "slow_truck",
];

/// How weights are stored on the device.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Weights {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The checkpoint's own bfloat16.
    Bf16,
    /// 8 bits, a step per 32 values.
    Int8,
    /// 4 bits, a step per 32 values; 8 for vision tower and output head.
    Int4,
}

impl From<Weights> for WeightFormat {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::F32 => Self::F32,
            Weights::F16 => Self::F16,
            Weights::Bf16 => Self::Bf16,
            Weights::Int8 => Self::Int8,
            Weights::Int4 => Self::Int4,
        }
    }
}

/// How the key-value cache is stored on the device.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Cache {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
}

impl From<Cache> for CacheFormat {
    fn from(cache: Cache) -> Self {
        match cache {
            Cache::F32 => Self::F32,
            Cache::Bf16 => Self::Bf16,
        }
    }
}

/// Where and how the model runs.
#[derive(Debug, Clone, Args)]
pub struct BackendArguments {
    /// Backend and device: cpu, candle, vulkan, metal, wgpu, cuda:0 … (the build's features decide which are there)
    #[arg(long, default_value = "cpu")]
    pub backend: Device,
    /// How weights are stored [default: the backend's choice]
    #[arg(long, value_enum)]
    pub weights: Option<Weights>,
    /// How the key-value cache is stored [default: the backend's choice]
    #[arg(long, value_enum)]
    pub cache: Option<Cache>,
}

/// Which checkpoint is loaded, and where.
#[derive(Debug, Clone, Args)]
pub struct ModelArguments {
    /// Checkpoint directory [default: the bundled nano model]
    #[arg(long)]
    pub checkpoint: Option<PathBuf>,
    /// Directory with the backbone's config.json and tokenizer.json, where the checkpoint has none
    #[arg(long)]
    pub vlm: Option<PathBuf>,
    /// The tokenizer.json, where the checkpoint has none
    #[arg(long)]
    pub tokenizer: Option<PathBuf>,
    /// Where it runs.
    #[command(flatten)]
    pub backend: BackendArguments,
}

impl ModelArguments {
    /// The checkpoint's directory.
    pub fn checkpoint(&self) -> PathBuf {
        self.checkpoint.clone().unwrap_or_else(|| bundled("checkpoint"))
    }

    /// Options of loading, with a progress bar on the terminal.
    pub fn load_options(&self) -> LoadOptions {
        let bar = loading_bar();
        LoadOptions {
            weight_format: self.backend.weights.map(Into::into),
            cache_format: self.backend.cache.map(Into::into),
            token_table: None,
            vlm: self.vlm.clone(),
            tokenizer: self.tokenizer.clone(),
            progress: Some(Box::new(move |progress| {
                bar.set_length(progress.bytes_total);
                bar.set_position(progress.bytes_done);
                if progress.bytes_done == progress.bytes_total {
                    bar.finish_and_clear();
                }
            })),
        }
    }
}

/// How the model is asked.
#[derive(Debug, Clone, Args)]
pub struct SamplingArguments {
    /// Rows, each with its own reasoning and trajectory
    #[arg(long, default_value_t = 6)]
    pub samples: usize,
    /// Seed of every random draw
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Sampling temperature
    #[arg(long, default_value_t = 0.6)]
    pub temperature: f64,
    /// Nucleus sampling's probability
    #[arg(long, default_value_t = 0.98)]
    pub top_p: f64,
    /// Sample from the k most likely tokens only; 1 is greedy
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Most tokens of reasoning
    #[arg(long, default_value_t = 256)]
    pub max_generation_length: usize,
    /// Flow steps [default: the checkpoint's]
    #[arg(long)]
    pub flow_steps: Option<usize>,
}

impl SamplingArguments {
    /// As the model takes them.
    pub fn drive_options(&self) -> DriveOptions {
        DriveOptions {
            samples: self.samples,
            seed: self.seed,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            max_generation_length: Some(self.max_generation_length),
            flow_steps: self.flow_steps,
            ..DriveOptions::default()
        }
    }
}

fn loading_bar() -> ProgressBar {
    let template = "loading {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}
