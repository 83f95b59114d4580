//! How long the stages take, and how long they must take at least on this machine.

mod ceilings;
mod stages;
mod table;
mod work;

pub use ceilings::Ceilings;
pub use stages::{Request, Size, measure};
pub use table::print;
pub use work::Work;

use serde::Serialize;

/// A stage's time beside the work in it.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// Median over the repetitions.
    pub milliseconds: f64,
    /// What of it the host was busy queueing work; median.
    pub host_milliseconds: f64,
    /// What has to be computed and read; none for what runs on the host.
    pub work: Option<Work>,
}

/// What one backend took.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its name.
    pub backend: String,
    /// The device's own name.
    pub device: String,
    /// How weights are stored.
    pub weights: String,
    /// Rows that share the prompt.
    pub samples: usize,
    /// Patches of all images.
    pub patches: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of reasoning per row.
    pub tokens: usize,
    /// Flow steps.
    pub flow_steps: usize,
    /// Seconds until the model was ready.
    pub load_seconds: f64,
    /// The first plan, kernels still to be compiled.
    pub first_milliseconds: f64,
    /// From frames on the host to trajectories on the host, without a stop between the stages; median.
    pub plan_milliseconds: f64,
    /// Device memory that the backend holds after the plans, which is the most it held; where it tells.
    pub memory_gib: Option<f64>,
    /// What the device can do.
    pub ceilings: Ceilings,
    /// The stages, each waited for.
    pub stages: Vec<Stage>,
}
