//! Buffers in the host's memory that the device reads.
//!
//! They are of the kind that the host may read (`MAP_READ`) and nothing more: on Vulkan that is memory of the host's, cached there. Of the
//! kind that the host may also write (`MAP_WRITE`) they would be the device's own memory wherever the bus reaches all of it.

use cubecl::future::block_on;
use wgpu::{Buffer, BufferDescriptor, BufferUsages, ErrorFilter, Features};

/// So many bytes, which have to be written before they are read, or `None` where the device reads no such memory or there is not so much.
pub(super) fn allocate(device: &wgpu::Device, size: u64) -> Option<Buffer> {
    #[cfg(feature = "vulkan")]
    if let Some(buffer) = vulkan::allocate(device, size) {
        return Some(buffer);
    }
    if !device.features().contains(Features::MAPPABLE_PRIMARY_BUFFERS) {
        return None;
    }
    let scope = device.push_error_scope(ErrorFilter::OutOfMemory);
    let buffer = device.create_buffer(&BufferDescriptor {
        label: None,
        size,
        usage: BufferUsages::MAP_READ | BufferUsages::STORAGE | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    block_on(scope.pop()).is_none().then_some(buffer)
}

/// CubeCL opens devices without wgpu's right to such buffers, which Vulkan itself knows nothing of.
#[cfg(feature = "vulkan")]
mod vulkan {
    use wgpu::hal::api::Vulkan;
    use wgpu::hal::{self, Device as _, MemoryFlags};
    use wgpu::{Buffer, BufferDescriptor, BufferUsages, BufferUses};

    /// `None` where the device isn't Vulkan's.
    pub(super) fn allocate(device: &wgpu::Device, size: u64) -> Option<Buffer> {
        let described = hal::BufferDescriptor {
            label: None,
            size,
            usage: BufferUses::MAP_READ | BufferUses::STORAGE_READ_ONLY | BufferUses::COPY_DST,
            memory_flags: MemoryFlags::empty(),
        };
        let known = BufferDescriptor {
            label: None,
            size,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        // SAFETY: the buffer is not of size zero, is this device's and allows all that wgpu is told of; wgpu destroys it. That nothing is
        // read before it was written is up to the caller, and would be bits of nobody's.
        unsafe {
            let buffer = device.as_hal::<Vulkan>()?.create_buffer(&described).ok()?;
            Some(device.create_buffer_from_hal::<Vulkan>(buffer, &known))
        }
    }
}
