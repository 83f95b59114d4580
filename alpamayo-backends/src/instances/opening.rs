//! Devices are opened while no stage runs.
//!
//! CubeCL holds its list of open devices until the thread of the one that is being opened has time for it, and whatever runs on that
//! thread may look into the list: a stage there and who opens a second runtime on a device of the same number (CUDA's first GPU and
//! Vulkan's first discrete one) would wait for each other for ever.

use std::sync::{PoisonError, RwLock};

use cubecl::Runtime;

/// Shared by all stages that run, alone for who opens a device. It guards no data, so a panic leaves nothing half-done.
static STAGES: RwLock<()> = RwLock::new(());

/// Opens a device once the stages that run have ended.
pub(super) fn open<R: Runtime>(device: &R::Device) {
    let _alone = STAGES.write().unwrap_or_else(PoisonError::into_inner);
    R::client(device);
}

/// Runs a stage while no device is opened.
pub(super) fn run<T>(stage: impl FnOnce() -> T) -> T {
    let _shared = STAGES.read().unwrap_or_else(PoisonError::into_inner);
    stage()
}
