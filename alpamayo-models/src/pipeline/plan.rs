//! What a drive results in.

use std::time::Duration;

use alpamayo_core::Trajectory;

/// The model's plan for one clip: one entry per sample in every list.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The chain of causation in words; empty where a row produced no `<|cot_end|>`.
    pub reasoning: Vec<String>,
    /// 64 poses at 10 Hz from t0 + 0.1 s on, metres, ego frame at t0.
    pub trajectories: Vec<Trajectory>,
    /// The flow's normalised actions `[waypoints, 2]`: acceleration and curvature.
    pub actions: Vec<Vec<[f32; 2]>>,
    /// Generated token ids up to and including `<|traj_future_start|>` (or all of them where it never came).
    pub tokens: Vec<Vec<u32>>,
    /// Whether `<|traj_future_start|>` came before the limit.
    pub stopped: Vec<bool>,
    /// What a user should know: rows that ran into the generation limit, actions outside the vehicle's bounds.
    pub warnings: Vec<String>,
    /// Time per stage, of the whole batch.
    pub timings: Timings,
}

/// Wall-clock time of a drive's stages, each up to the point where the device has finished it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Frames to patches, prompt to tokens.
    pub preprocess: Duration,
    /// The vision tower.
    pub encode: Duration,
    /// The prompt through the decoder.
    pub prefill: Duration,
    /// The chain of causation, token by token.
    pub generate: Duration,
    /// Tokens generated per row, for time per token.
    pub generated_tokens: usize,
    /// Flow matching.
    pub flow: Duration,
    /// Actions to trajectories, ids to text.
    pub postprocess: Duration,
}

impl Timings {
    /// All stages together.
    pub fn total(&self) -> Duration {
        self.preprocess + self.encode + self.prefill + self.generate + self.flow + self.postprocess
    }
}
