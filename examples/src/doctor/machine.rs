//! The machine and the device.

use std::process::Command;

use alpamayo_backends::Device;
use alpamayo_backends::device::Limits;
use serde::{Deserialize, Serialize};

/// What runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Version of the project.
    pub version: String,
    /// Whether the build was optimised: times of another mean nothing.
    pub optimised: bool,
    /// Operating system and processor.
    pub system: String,
    /// Cores that the system gives.
    pub cores: usize,
    /// Bytes of the system's memory, where it tells.
    pub memory: Option<u64>,
    /// The device as its name is written.
    pub device: String,
    /// What its driver calls it.
    pub description: String,
    /// Bytes of the device's own memory.
    pub device_memory: Option<u64>,
    /// Bytes that one kernel can read as one buffer.
    pub largest_buffer: Option<u64>,
    /// Buffers of one kernel.
    pub buffers: Option<u32>,
    /// Units of a workgroup.
    pub workgroup_units: Option<u32>,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_memory: Option<u64>,
    /// Workgroups in each dimension of a dispatch.
    pub workgroups: Option<[u32; 3]>,
    /// Units that run in step, the fewest and the most.
    pub plane_units: Option<[u32; 2]>,
    /// What is there beyond the minimum.
    pub features: Vec<String>,
}

impl Machine {
    /// This machine with a device of it.
    pub fn new(device: Device, description: String, limits: &Limits) -> Self {
        let limits = limits.clone();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: system_memory(),
            device: device.to_string(),
            description,
            device_memory: limits.memory,
            largest_buffer: limits.largest_buffer,
            buffers: limits.buffers,
            workgroup_units: limits.workgroup_units,
            workgroup_memory: limits.workgroup_memory,
            workgroups: limits.workgroups,
            plane_units: limits.plane_units,
            features: limits.features,
        }
    }
}

/// Bytes of the system's memory, as Linux and macOS tell it.
fn system_memory() -> Option<u64> {
    if let Ok(text) = std::fs::read_to_string("/proc/meminfo") {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        return Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024);
    }
    let output = Command::new("sysctl").args(["-n", "hw.memsize"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
