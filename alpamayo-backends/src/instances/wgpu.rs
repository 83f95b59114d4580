//! Any GPU through wgpu: Vulkan, Metal or WebGPU, whichever the crate's features compile and the machine has.

use burn_cubecl::CubeBackend;
use cubecl::Runtime;
use cubecl::wgpu::WgpuRuntime;

pub use burn_wgpu::WgpuDevice;

use super::KernelRuntime;
use crate::kernels::matmul::cooperative;
use crate::layers::CacheFormat;

/// Burn's wgpu backend without fusion or autotuning.
pub type Wgpu = CubeBackend<WgpuRuntime, f32, i32, u32>;

impl KernelRuntime for WgpuRuntime {
    fn has_own_memory(device: &WgpuDevice) -> Option<bool> {
        match device {
            WgpuDevice::DiscreteGpu(_) => Some(true),
            WgpuDevice::IntegratedGpu(_) | WgpuDevice::Cpu => Some(false),
            _ => None,
        }
    }

    fn cache_format(device: &WgpuDevice) -> CacheFormat {
        if cooperative::is_available(&Self::client(device)) {
            CacheFormat::Bf16
        } else {
            CacheFormat::F32
        }
    }
}
