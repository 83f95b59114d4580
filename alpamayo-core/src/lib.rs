//! Everything of Alpamayo-R1 (arXiv 2511.00088) around the network, without a device: what goes in (configuration,
//! clips, images, prompts) and what is made of what comes out (sampling, reasoning, trajectories, metrics).
//!
//! Every module stands alone; together they are the model's pre- and postprocessing:
//!
//! - [`config`]: a checkpoint's configuration.
//! - [`error`]: the crate's one error type.
//! - [`frame`]: camera frames; [`clip`]: a scene's frames and poses; [`image`]: frames to patches.
//! - [`tokenizer`]: text to token ids; [`prompt`]: what the model is asked; [`positions`]: where its tokens stand.
//! - [`trajectory_tokens`]: the history as tokens of the prompt.
//! - [`sampling`]: logits to the next token; [`random`]: the streams behind it and the flow's noise.
//! - [`reasoning`]: where a generated row stops, and the sentence in it.
//! - [`action_space`]: actions to trajectories and back.
//! - [`metrics`]: how good trajectories are.
//! - [`perturb`]: changed clips for experiments.
//! - `dataset`, with the feature of that name: clips from NVIDIA's dataset and from one's own cameras.
#![deny(missing_docs)]

pub mod action_space;
pub mod clip;
pub mod config;
#[cfg(feature = "dataset")]
pub mod dataset;
pub mod error;
pub mod frame;
pub mod image;
mod local_fit;
pub mod metrics;
pub mod perturb;
pub mod positions;
pub mod prompt;
pub mod random;
pub mod reasoning;
pub mod rotation;
pub mod sampling;
pub mod scalar;
#[cfg(test)]
mod test_data;
pub mod tokenizer;
pub mod trajectory;
pub mod trajectory_tokens;

pub use action_space::{ActionNormalization, UnicycleActionSpace};
pub use clip::Clip;
pub use config::{
    ActionInProjConfig, DecoderConfig, DeltaTokenizerConfig, FlowMatchingConfig, HISTORY_POSES, ModelConfig,
    ModelDtype, TrajTokenIds, UnicycleConfig, VisionConfig,
};
use error::check_length;
pub use error::{Error, Result};
pub use frame::Frame;
pub use image::{ImageProcessor, Patches, smart_resize};
pub use positions::MultimodalPositions;
pub use prompt::{PromptBuilder, PromptStyle};
pub use random::flow_noise;
pub use reasoning::{StopPosition, extract_reasoning, is_finished, stop_position};
pub use rotation::{rotation_from_yaw, unwrap_angles, yaw_of};
pub use sampling::{LogitsFault, RowSampler, SamplingOptions, probabilities};
pub use scalar::Scalar;
pub use tokenizer::Tokenizer;
pub use trajectory::Trajectory;
pub use trajectory_tokens::{DeltaTokenizer, fuse_history};
