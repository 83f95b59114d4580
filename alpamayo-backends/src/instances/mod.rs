//! The backends that the model runs on, one file each.

#[cfg(feature = "wgpu")]
pub(crate) mod adapters;
#[cfg(feature = "candle")]
pub(crate) mod candle;
#[cfg(feature = "candle-cuda")]
mod candle_cuda;
#[cfg(feature = "cubecl")]
mod cube;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
pub(crate) mod cuda_devices;
#[cfg(feature = "cuda")]
pub(crate) mod cuda_libraries;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) mod kernel_cache;
#[cfg(feature = "cubecl")]
mod opening;
#[cfg(feature = "cubecl")]
mod runtime;
#[cfg(feature = "wgpu")]
pub(crate) mod wgpu;

#[cfg(feature = "candle")]
pub use candle::Candle;
#[cfg(feature = "cuda")]
pub use cuda::{Cuda, CudaDevice};
#[cfg(feature = "flex")]
pub use flex::Flex;
#[cfg(feature = "cubecl")]
pub use runtime::{KernelRuntime, Pieces, Recorded, Recording};
#[cfg(feature = "wgpu")]
pub use wgpu::{Wgpu, WgpuDevice, WgpuRuntime, WgpuSetup, share_device};
