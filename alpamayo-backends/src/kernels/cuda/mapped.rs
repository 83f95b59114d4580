//! Memory of the host's that the device reads by itself.

use std::mem::MaybeUninit;
use std::sync::Arc;

use cudarc::driver::{DriverError, result, sys};
use rayon::prelude::*;

use crate::layers::HostRows;

/// Bytes that a host thread copies at a time.
const PIECE: usize = 256 << 10;

/// The rows `(rows, columns)` of bf16, copied to where the device of that number reads them; `None` where the driver refuses, as it
/// does beyond what it may keep from being moved or swapped.
pub(super) fn host_rows(device: usize, bytes: &[u8], shape: (usize, usize)) -> Option<HostRows> {
    let memory = Mapped::copy_of(i32::try_from(device).ok()?, bytes).ok()?;
    let address = memory.address;
    let rows = HostRows::new(Arc::new(memory), shape)?;
    // SAFETY: the driver has told the address; the memory waits for the device before it goes.
    Some(unsafe { rows.at(device, address) })
}

/// Pinned memory that is mapped into a device's address space, all of it initialised.
struct Mapped {
    context: sys::CUcontext,
    start: *mut u8,
    bytes: usize,
    /// Where the device finds it.
    address: sys::CUdeviceptr,
}

// SAFETY: plain memory that nothing writes any more, and a context that may be used from any thread.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// All host threads copy the bytes.
    fn copy_of(ordinal: i32, bytes: &[u8]) -> Result<Self, DriverError> {
        // Not write-combined: the host looks rows up too, where the device doesn't.
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        let device = result::device::get(ordinal)?;
        // SAFETY: the device is valid; its context stays retained as long as the process runs.
        let (context, start) = unsafe {
            let context = result::primary_ctx::retain(device)?;
            result::ctx::set_current(context)?;
            (context, result::malloc_host(bytes.len(), flags)?.cast::<u8>())
        };
        // Freed from here on, also behind an error.
        let mut memory = Self {
            context,
            start,
            bytes: bytes.len(),
            address: 0,
        };
        // SAFETY: so many bytes were allocated, and nobody else knows of them; they may be uninitialised.
        let target = unsafe { std::slice::from_raw_parts_mut(start.cast::<MaybeUninit<u8>>(), bytes.len()) };
        (target.par_chunks_mut(PIECE))
            .zip(bytes.par_chunks(PIECE))
            .for_each(|(to, from)| _ = to.write_copy_of_slice(from));
        // SAFETY: the memory was allocated in the current context, to be mapped.
        unsafe { sys::cuMemHostGetDevicePointer_v2(&mut memory.address, start.cast(), 0) }.result()?;
        Ok(memory)
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the memory lives as long as this does, is initialised, and nothing writes it.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl Drop for Mapped {
    /// Once the device has done what it was told, which may read the memory; where it fails, the memory is left to the process.
    fn drop(&mut self) {
        // SAFETY: the context is retained; the memory was allocated in it and is freed once.
        unsafe {
            let waited = result::ctx::set_current(self.context).and_then(|()| result::ctx::synchronize());
            if waited.is_ok() {
                let _ = result::free_host(self.start.cast());
            }
        }
    }
}
