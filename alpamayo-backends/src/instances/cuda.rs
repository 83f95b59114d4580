//! NVIDIA GPUs through CUDA.

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;

pub use burn_cuda::CudaDevice;

use super::{KernelRuntime, Pieces, Recorded, cuda_devices};
use crate::error::Result;
use crate::kernels::cuda::{buffers, cublaslt, hopper, record, upload};
use crate::kernels::linear::LibraryProduct;
use crate::kernels::native::NativeWork;
use crate::layers::{CacheFormat, HostBytes, HostRows};

/// Burn's CUDA backend without fusion or autotuning.
pub type Cuda = CubeBackend<CudaRuntime, f32, i32, u8>;

impl KernelRuntime for CudaRuntime {
    fn cache_format(_device: &CudaDevice) -> CacheFormat {
        CacheFormat::Bf16
    }

    fn memory(device: &CudaDevice) -> Option<u64> {
        cuda_devices::memory(device)
    }

    fn has_own_memory(device: &CudaDevice) -> Option<bool> {
        cuda_devices::has_own_memory(device)
    }

    fn hand_over(_client: &ComputeClient<Self>) -> Result<()> {
        // The driver has it already.
        Ok(())
    }

    fn place(client: &ComputeClient<Self>, memory: &Handle) -> Option<(u64, u64)> {
        Some((buffers::address(client, memory)?, 0))
    }

    fn has_library(device: &CudaDevice) -> bool {
        cublaslt::is_present(device)
    }

    fn upload(
        client: &ComputeClient<Self>,
        device: &CudaDevice,
        bytes: usize,
        pieces: &mut Pieces<'_>,
    ) -> Option<Handle> {
        upload::upload(client, device, bytes, pieces)
    }

    fn host_rows(
        _client: &ComputeClient<Self>,
        device: &CudaDevice,
        bytes: &HostBytes,
        shape: (usize, usize),
    ) -> Option<HostRows> {
        hopper::store_host_rows(device, (**bytes).as_ref(), shape)
    }

    fn library_product(product: &LibraryProduct<'_, Self>) -> Option<CubeTensor<Self>> {
        cublaslt::product(product)
    }

    fn has_native(device: &CudaDevice) -> bool {
        hopper::is_present(device)
    }

    fn native(work: &NativeWork<'_, Self>) -> Option<CubeTensor<Self>> {
        hopper::run(work)
    }

    fn record(client: &ComputeClient<Self>, device: &CudaDevice, work: &mut dyn FnMut()) -> Recorded {
        record::record(client, device, work)
    }
}
