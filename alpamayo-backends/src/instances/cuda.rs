//! NVIDIA GPUs through CUDA.

use burn_cubecl::CubeBackend;
use cubecl::cuda::CudaRuntime;

pub use burn_cuda::CudaDevice;

use super::KernelRuntime;

/// Burn's CUDA backend without fusion or autotuning.
pub type Cuda = CubeBackend<CudaRuntime, f32, i32, u8>;

impl KernelRuntime for CudaRuntime {}
