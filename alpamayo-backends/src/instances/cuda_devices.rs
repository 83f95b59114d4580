//! The GPUs that the CUDA driver lists.

use burn_cuda::CudaDevice;
use cudarc::driver::{result, sys};

use crate::device::{BackendKind, Device, Found};

/// NVIDIA's GPUs; none where the driver's library is missing.
pub(crate) fn list() -> Vec<Found> {
    if !super::cuda_libraries::has_driver() || result::init().is_err() {
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

/// Bytes of a device's memory.
pub(crate) fn memory(device: &CudaDevice) -> Option<u64> {
    let device = result::device::get(i32::try_from(device.index).ok()?).ok()?;
    // SAFETY: the device was just given by the driver.
    unsafe { result::device::total_mem(device) }
        .ok()
        .map(|bytes| bytes as u64)
}

/// Whether a device's memory is its own: that of a system on a chip (Jetson) is the host's.
pub(crate) fn has_own_memory(device: &CudaDevice) -> Option<bool> {
    let device = result::device::get(i32::try_from(device.index).ok()?).ok()?;
    let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED;
    // SAFETY: the device was just given by the driver.
    let integrated = unsafe { result::device::get_attribute(device, attribute) };
    integrated.ok().map(|integrated| integrated == 0)
}
