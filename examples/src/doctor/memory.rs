//! Whether the released model fits the device.

use alpamayo_backends::device::Limits;
use alpamayo_backends::{BackendKind, Device};
use alpamayo_core::ModelConfig;
use alpamayo_models::import::{Workload, memory_needs};
use serde::{Deserialize, Serialize};

/// What the released model needs in one format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryEstimate {
    /// How weights are stored.
    pub weights: String,
    /// Bytes of weights and cache, six samples.
    pub bytes: u64,
    /// Bytes with a tenth more for activations.
    pub with_activations: u64,
    /// Whether that is below what the device has; nothing where it doesn't tell.
    pub fits: Option<bool>,
}

/// A GPU of unified memory may use about this part of it: what macOS gives by default to a GPU with 36 GB and more.
const UNIFIED_SHARE: f64 = 0.75;

/// The memory that the released model needs on the device in each format.
pub fn estimate(device: Device, limits: &Limits, system: Option<u64>) -> Vec<MemoryEstimate> {
    let config = ModelConfig::from_json(
        include_str!("../../data/r1-10b/config.json"),
        include_str!("../../data/r1-10b/backbone.json"),
    );
    let Ok(config) = config else { return Vec::new() };
    let available = limits.memory.or(match device.kind {
        BackendKind::Metal | BackendKind::CandleMetal => system.map(|bytes| (bytes as f64 * UNIFIED_SHARE) as u64),
        BackendKind::Cpu | BackendKind::Candle => system,
        // wgpu doesn't tell how much memory a GPU has.
        _ => None,
    });
    memory_needs(&config, &Workload::one_clip(&config, 6))
        .into_iter()
        .filter(|need| need.backend == device.kind.name())
        .map(|need| {
            let bytes = need.total_bytes();
            let with_activations = bytes + need.weight_bytes / 10;
            MemoryEstimate {
                weights: need.weights.to_owned(),
                bytes,
                with_activations,
                fits: available.map(|available| with_activations <= available),
            }
        })
        .collect()
}
