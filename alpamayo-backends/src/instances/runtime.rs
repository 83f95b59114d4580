//! What differs between the GPU runtimes.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::ComputeClient;
use cubecl::server::Handle;

use crate::error::{Result, unreadable};
use crate::kernels::linear::LibraryProduct;
use crate::kernels::native::NativeWork;
use crate::layers::{CacheFormat, HostBytes, HostRows};

/// Pieces of the host's memory, one after another.
pub type Pieces<'a> = dyn Iterator<Item = &'a [u8]> + Send + 'a;

/// What became of work that was to be recorded.
pub enum Recorded {
    /// It was recorded and has not run.
    Repeatable(Box<dyn Recording>),
    /// It has run, and was recorded.
    RunAndRepeatable(Box<dyn Recording>),
    /// It has run, and can't be repeated.
    Once,
    /// It has not run, and was not recorded.
    Nothing,
}

/// Work that can be launched again, over the same buffers.
pub trait Recording: Send {
    /// Queues the work behind what the client was told before; whether that went well.
    fn replay(&self) -> bool;
}

/// A CubeCL runtime and what its platform offers beyond the kernels that are common to all.
pub trait KernelRuntime: CubeRuntime {
    /// Whether work is recorded while it runs, also the first time. Then all parts of it are recorded as one.
    const RECORDS_WHILE_RUNNING: bool = false;

    /// How a cache of packed weights' keys and values is stored: bf16 where matrix units read them.
    fn cache_format(_device: &Self::Device) -> CacheFormat {
        CacheFormat::F32
    }

    /// Bytes of the device's memory, where the platform tells.
    fn memory(_device: &Self::Device) -> Option<u64> {
        None
    }

    /// Whether the device's memory is its own, not the host's, where the platform tells.
    fn has_own_memory(_device: &Self::Device) -> Option<bool> {
        None
    }

    /// Lets the device begin with what was queued, where the client would wait for more.
    ///
    /// # Errors
    /// When the device failed before.
    fn hand_over(client: &ComputeClient<Self>) -> Result<()> {
        client.flush().map_err(unreadable)
    }

    /// Whether kernels may take dot products of bytes, four at a time.
    fn multiplies_bytes(_client: &ComputeClient<Self>) -> bool {
        false
    }

    /// Words by which launches tell each other that they are done (`kernels/signals.rs`), none of which is waited for, on a device that begins launches before the one in front is
    /// done.
    fn signals(_device: &Self::Device) -> Option<Handle> {
        None
    }

    /// A number of the buffer that memory lies in, and how many bytes from its beginning, once all work on it has been handed over;
    /// `None` where recorded work isn't bound to it.
    fn place(_client: &ComputeClient<Self>, _memory: &Handle) -> Option<(u64, u64)> {
        None
    }

    /// Whether the platform has a library of matrix products on this device.
    fn has_library(_device: &Self::Device) -> bool {
        false
    }

    /// Pieces of the host's memory, so many bytes together, as one buffer on the device, by a way faster than the client's; `None`
    /// where there is none. A piece has been read when the next is asked for.
    fn upload(
        _client: &ComputeClient<Self>,
        _device: &Self::Device,
        _bytes: usize,
        _pieces: &mut Pieces<'_>,
    ) -> Option<Handle> {
        None
    }

    /// Rows `(rows, columns)` of bf16, copied to memory of the host's that the platform's own kernels read, or `None` where there is no
    /// such memory or no such kernel.
    fn host_rows(
        _client: &ComputeClient<Self>,
        _device: &Self::Device,
        _bytes: &HostBytes,
        _shape: (usize, usize),
    ) -> Option<HostRows> {
        None
    }

    /// A product by the platform's library, or `None` where there is none or it doesn't take this product.
    fn library_product(_product: &LibraryProduct<'_, Self>) -> Option<CubeTensor<Self>> {
        None
    }

    /// Whether the platform has kernels of its own on this device.
    fn has_native(_device: &Self::Device) -> bool {
        false
    }

    /// Work by the platform's own kernels, or `None` where there is none for it.
    fn native(_work: &NativeWork<'_, Self>) -> Option<CubeTensor<Self>> {
        None
    }

    /// Records what `work` launches from this thread, where the platform can. `work` must have run before unless it is
    /// [recorded while it runs](Self::RECORDS_WHILE_RUNNING), and this must be the client's own thread ([`ComputeClient::exclusive`]).
    fn record(_client: &ComputeClient<Self>, _device: &Self::Device, _work: &mut dyn FnMut()) -> Recorded {
        Recorded::Nothing
    }
}
