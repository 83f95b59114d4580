//! Large host buffers to the device through one pinned block.
//!
//! CubeCL copies a slice twice on the host, into memory that is fresh each time, before the driver copies it a third time into
//! its own pinned memory. Here all host threads copy it once, to where the device can fetch it.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use burn_cuda::CudaDevice;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;
use cudarc::driver::{DriverError, result};
use rayon::prelude::*;

use super::stream::OrderedStream;

/// Bytes that a host thread copies at a time.
const PIECE: usize = 256 << 10;

/// One block per device, `None` where the driver can't order its copies.
static UPLOADS: LazyLock<Mutex<HashMap<usize, Option<Upload>>>> = LazyLock::new(Mutex::default);

/// The bytes on the device, or `None` where the driver refuses; then the client's own way is left.
pub fn upload(client: &ComputeClient<CudaRuntime>, device: &CudaDevice, bytes: &[u8]) -> Option<Handle> {
    // On the client's own thread the address is had without waiting for it.
    let run = || {
        let mut uploads = UPLOADS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let upload = uploads
            .entry(device.index)
            .or_insert_with(|| Upload::open(device.index));
        let handle = client.empty(bytes.len());
        let address = client.get_resource(handle.clone()).ok()?.resource().ptr;
        upload.as_mut()?.copy(address, bytes).ok()?;
        Some(handle)
    };
    client.exclusive(run).ok().flatten()
}

/// A stream and pinned memory for what is on its way.
struct Upload {
    stream: OrderedStream,
    pinned: Pinned,
}

impl Upload {
    fn open(index: usize) -> Option<Self> {
        Some(Self {
            stream: OrderedStream::new(i32::try_from(index).ok()?)?,
            pinned: Pinned::default(),
        })
    }

    fn copy(&mut self, address: u64, bytes: &[u8]) -> Result<(), DriverError> {
        // What was uploaded before has to have left the block.
        self.stream.wait()?;
        let staged = self.pinned.at_least(bytes.len())?;
        staged
            .par_chunks_mut(PIECE)
            .zip(bytes.par_chunks(PIECE))
            .for_each(|(to, from)| to.copy_from_slice(from));
        let staged = &*staged;
        self.stream.ordered(|stream| {
            // SAFETY: the device buffer was made for so many bytes; the block is left alone until the copy is over.
            unsafe { result::memcpy_htod_async(address, staged, stream) }
        })
    }
}

/// Host memory that the device reads by itself.
struct Pinned {
    start: *mut u8,
    capacity: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Default for Pinned {
    fn default() -> Self {
        Self {
            start: std::ptr::null_mut(),
            capacity: 0,
        }
    }
}

impl Pinned {
    /// The first so many bytes; the context is current and nothing is being copied from the block.
    fn at_least(&mut self, bytes: usize) -> Result<&mut [u8], DriverError> {
        if bytes > self.capacity {
            let capacity = bytes.next_power_of_two();
            // SAFETY: the block before is not in use any more; the new one is zeroed, so that all of it is initialised.
            unsafe {
                if !self.start.is_null() {
                    result::free_host(std::mem::replace(&mut self.start, std::ptr::null_mut()).cast())?;
                    self.capacity = 0;
                }
                let start: *mut u8 = result::malloc_host(capacity, 0)?.cast();
                start.write_bytes(0, capacity);
                *self = Self { start, capacity };
            }
        }
        if bytes == 0 {
            return Ok(&mut []);
        }
        // SAFETY: the block has the bytes, they are initialised, and it is borrowed mutably.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start, bytes) })
    }
}
