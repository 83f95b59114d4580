//! What only Candle's CUDA devices have. Candle shares CUDA's default pool of memory with whatever else runs in the process.

use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result};

use crate::device::{BackendKind, Found};

/// The GPUs that CUDA's driver lists. None is opened for it.
pub(super) fn list() -> Vec<Found> {
    (0..CudaContext::device_count().unwrap_or(0))
        .map(|ordinal| {
            let name = result::device::get(ordinal).and_then(result::device::get_name);
            let name = name.unwrap_or_else(|error| format!("unnamed: {error}"));
            Found::new(BackendKind::CandleCuda, ordinal as usize, format!("{name}, Candle"))
        })
        .collect()
}

/// Lets the driver keep what Candle frees. Candle asks it for every tensor, and at first it gives all that is free back to the system
/// whenever somebody waits for the device, which is after every token.
pub(super) fn keep_freed_memory(index: usize) -> Result<(), DriverError> {
    let mut threshold = u64::MAX;
    // SAFETY: the pool is the driver's own; the attribute is a 64-bit number, which is only read.
    unsafe {
        result::mem_pool::set_attribute(
            pool(index)?,
            CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast::<c_void>(),
        )
    }
}

/// Bytes that the pool holds, in use or kept.
pub(super) fn reserved_memory(index: usize) -> Result<u64, DriverError> {
    let mut bytes = 0_u64;
    // SAFETY: the pool is the driver's own; the attribute is a 64-bit number.
    unsafe {
        result::mem_pool::get_attribute(
            pool(index)?,
            CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
            (&raw mut bytes).cast::<c_void>(),
        )?;
    }
    Ok(bytes)
}

fn pool(index: usize) -> Result<CUmemoryPool, DriverError> {
    let device = result::device::get(i32::try_from(index).unwrap_or(i32::MAX))?;
    // SAFETY: the device was just given by the driver.
    unsafe { result::device::get_default_mem_pool(device) }
}
