//! CubeCL's buffers as the driver knows them.

use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;
use cubecl::stream_id::StreamId;

/// A buffer's address, once all work on it has been handed to the driver.
pub(crate) fn address(client: &ComputeClient<CudaRuntime>, handle: &Handle) -> Option<u64> {
    Some(client.get_resource(handle.clone()).ok()?.resource().ptr)
}

/// Whether the buffer was made by the calling thread's stream.
///
/// Memory of another stream's buffer might be reused before work on this one has read it.
pub(super) fn is_of_this_stream(handle: &Handle) -> bool {
    handle.stream == StreamId::current()
}
