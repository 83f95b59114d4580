//! The GPUs that the CUDA driver lists.

use burn_cuda::CudaDevice;
use cudarc::driver::{result, sys};

use crate::device::{BackendKind, Device, Found};

/// NVIDIA's GPUs; none where the driver's library is missing.
pub(crate) fn list() -> Vec<Found> {
    // SAFETY: only asks whether the driver's library can be loaded.
    if !unsafe { sys::is_culib_present() } || result::init().is_err() {
        return Vec::new();
    }
    (0..result::device::get_count().unwrap_or(0))
        .map(|ordinal| {
            let name = result::device::get(ordinal).and_then(result::device::get_name);
            Found::new(
                BackendKind::Cuda,
                ordinal as usize,
                name.unwrap_or_else(|error| format!("unnamed: {error}")),
            )
        })
        .collect()
}

/// Burn's name of a device; its kernels are kept between runs.
pub(crate) fn open(device: Device) -> CudaDevice {
    super::kernel_cache::enable();
    CudaDevice::new(device.index)
}
