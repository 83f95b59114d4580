//! Large host buffers to the device through pinned blocks.
//!
//! CubeCL copies a slice twice on the host, into memory that is fresh each time, before the driver copies it a third time into
//! its own pinned memory. Here all host threads copy it once, to where the device can fetch it: into one block while the device
//! reads the other.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use burn_cuda::CudaDevice;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;
use cudarc::driver::{DriverError, result, sys};
use rayon::prelude::*;

use super::stream::OrderedStream;
use crate::instances::Pieces;

/// Bytes that a host thread copies at a time.
const PIECE: usize = 256 << 10;

/// Bytes of a pinned block.
const BLOCK: usize = 64 << 20;

/// One pair of blocks per device, `None` where the driver can't order their copies.
static UPLOADS: LazyLock<Mutex<HashMap<usize, Option<Upload>>>> = LazyLock::new(Mutex::default);

/// The pieces on the device, one after another, or `None` where the driver refuses; then the client's own way is left.
pub fn upload(
    client: &ComputeClient<CudaRuntime>,
    device: &CudaDevice,
    bytes: usize,
    pieces: &mut Pieces<'_>,
) -> Option<Handle> {
    // Reserved by the caller's thread, whose memory it will be.
    let handle = client.empty(bytes);
    // On the client's own thread the address is had without waiting for it.
    let run = || {
        let mut uploads = UPLOADS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let upload = uploads
            .entry(device.index)
            .or_insert_with(|| Upload::open(device.index));
        let address = client.get_resource(handle.clone()).ok()?.resource().ptr;
        upload.as_mut()?.copy(address, bytes, pieces).ok()
    };
    client.exclusive(run).ok().flatten()?;
    Some(handle)
}

/// A stream, and pinned blocks for what is on its way.
struct Upload {
    stream: OrderedStream,
    blocks: [Block; 2],
    next: usize,
}

impl Upload {
    fn open(index: usize) -> Option<Self> {
        let stream = OrderedStream::new(i32::try_from(index).ok()?)?;
        // The stream has made its context the current one.
        let blocks = [Block::new().ok()?, Block::new().ok()?];
        Some(Self {
            stream,
            blocks,
            next: 0,
        })
    }

    fn copy(&mut self, mut address: u64, mut left: usize, pieces: &mut Pieces<'_>) -> Result<(), DriverError> {
        for bytes in pieces.flat_map(|piece| piece.chunks(BLOCK)) {
            // Never beyond the buffer, whatever the pieces are.
            let bytes = &bytes[..bytes.len().min(left)];
            left -= bytes.len();
            let block = &mut self.blocks[self.next];
            self.next = 1 - self.next;
            let read = block.read;
            let staged = block.fill(bytes)?;
            self.stream.ordered(|stream| {
                // SAFETY: the device buffer was made for so many bytes; the block is left alone until its event.
                unsafe {
                    result::memcpy_htod_async(address, staged, stream)?;
                    result::event::record(read, stream)
                }
            })?;
            address += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Host memory that the device reads by itself, and the event after which it has.
struct Block {
    start: *mut u8,
    read: sys::CUevent,
}

// SAFETY: plain memory and a driver's handle, with one owner.
unsafe impl Send for Block {}

impl Block {
    /// A block in the current context; it lives as long as the process.
    fn new() -> Result<Self, DriverError> {
        let read = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        // SAFETY: the memory has so many bytes; they are zeroed, so that all of it is initialised.
        let start = unsafe {
            let start: *mut u8 = result::malloc_host(BLOCK, 0)?.cast();
            start.write_bytes(0, BLOCK);
            start
        };
        Ok(Self { start, read })
    }

    /// The bytes, at most [`BLOCK`], copied into the block by all host threads once what was in it has left.
    fn fill(&mut self, bytes: &[u8]) -> Result<&[u8], DriverError> {
        // SAFETY: the event lives as long as the process. Before its first record it is over.
        unsafe { sys::cuEventSynchronize(self.read) }.result()?;
        // SAFETY: the block has these bytes, they are initialised, nothing reads them any more, and it is borrowed mutably.
        let staged = unsafe { std::slice::from_raw_parts_mut(self.start, bytes.len().min(BLOCK)) };
        (staged.par_chunks_mut(PIECE))
            .zip(bytes.par_chunks(PIECE))
            .for_each(|(to, from)| to.copy_from_slice(from));
        Ok(staged)
    }
}
