//! CubeCL's runtime for wgpu, over a server that can record.

use burn_wgpu::WgpuDevice;
use cubecl::client::ComputeClient;
use cubecl::device::DeviceId;
use cubecl::ir::TargetProperties;
use cubecl::wgpu::AutoCompiler;
use cubecl::zspace::{Shape, Strides};
use cubecl::{Runtime, wgpu as stock};
use wgpu::Backend;

use super::opening;
use super::server::Server;

/// CubeCL's [`WgpuRuntime`](stock::WgpuRuntime), but that what is launched can be recorded and submitted again.
#[derive(Debug, Clone)]
pub struct WgpuRuntime;

impl Runtime for WgpuRuntime {
    type Compiler = AutoCompiler;
    type Server = Server;
    type Device = WgpuDevice;

    fn client(device: &WgpuDevice) -> ComputeClient<Self> {
        opening::open(device);
        ComputeClient::load(device)
    }

    fn name(client: &ComputeClient<Self>) -> &'static str {
        match client.info() {
            Backend::Vulkan if cfg!(feature = "vulkan") => "wgpu<spirv>",
            Backend::Metal if cfg!(feature = "metal") => "wgpu<msl>",
            _ => "wgpu<wgsl>",
        }
    }

    fn require_array_lengths() -> bool {
        stock::WgpuRuntime::require_array_lengths()
    }

    fn max_cube_count() -> (u32, u32, u32) {
        stock::WgpuRuntime::max_cube_count()
    }

    fn can_read_tensor(shape: &Shape, strides: &Strides) -> bool {
        stock::WgpuRuntime::can_read_tensor(shape, strides)
    }

    fn target_properties() -> TargetProperties {
        stock::WgpuRuntime::target_properties()
    }

    fn enumerate_devices(type_id: u16, info: &Backend) -> Vec<DeviceId> {
        stock::WgpuRuntime::enumerate_devices(type_id, info)
    }
}
