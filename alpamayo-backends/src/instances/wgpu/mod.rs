//! Any GPU through wgpu: Vulkan, Metal or WebGPU, whichever the crate's features compile and the machine has.

mod bindings;
mod byte_dots;
mod commands;
mod compile;
mod host_memory;
mod host_rows;
mod near_caches;
mod opening;
mod overlapping;
#[cfg(feature = "vulkan")]
mod packed_dots;
#[cfg(feature = "vulkan")]
mod read_only;
mod reading;
#[cfg(feature = "vulkan")]
mod rolled_loops;
mod runtime;
mod server;
mod signals;
#[cfg(feature = "vulkan")]
mod spirv_words;
#[cfg(test)]
mod tests;
#[cfg(feature = "vulkan")]
mod waiting;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::Runtime;
use cubecl::client::ComputeClient;
use cubecl::device::Device;
use cubecl::device_handle::DeviceHandle;
use cubecl::server::Handle;
use cubecl::stream_id::StreamId;

pub use burn_wgpu::WgpuDevice;
pub use cubecl::wgpu::WgpuSetup;
pub use opening::share_device;
pub use runtime::WgpuRuntime;

use super::{KernelRuntime, Recorded, Recording};
use crate::kernels::matmul::cooperative;
use crate::kernels::native::NativeWork;
use crate::layers::{CacheFormat, HostBytes, HostRows};
use commands::Commands;
use server::{Ended, Server};

/// Burn's wgpu backend without fusion or autotuning.
pub type Wgpu = CubeBackend<WgpuRuntime, f32, i32, u32>;

impl KernelRuntime for WgpuRuntime {
    const RECORDS_WHILE_RUNNING: bool = true;

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

    fn place(client: &ComputeClient<Self>, memory: &Handle) -> Option<(u64, u64)> {
        let managed = client.get_resource(memory.clone()).ok()?;
        let resource = managed.resource();
        // Recordings keep what they bind, so that no other buffer gets the number of one of theirs.
        Some((
            BuildHasherDefault::<DefaultHasher>::default().hash_one(&resource.buffer),
            resource.offset,
        ))
    }

    fn signals(device: &WgpuDevice) -> Option<Handle> {
        signals::words(device)
    }

    fn multiplies_bytes(client: &ComputeClient<Self>) -> bool {
        byte_dots::are_announced(client.properties())
    }

    fn host_rows(
        _client: &ComputeClient<Self>,
        device: &WgpuDevice,
        bytes: &HostBytes,
        shape: (usize, usize),
    ) -> Option<HostRows> {
        host_rows::store(device, bytes, shape)
    }

    fn native(work: &NativeWork<'_, Self>) -> Option<CubeTensor<Self>> {
        match work {
            NativeWork::HostRows { ids, table } => host_rows::run(ids, table),
            _ => None,
        }
    }

    fn record(_client: &ComputeClient<Self>, device: &WgpuDevice, work: &mut dyn FnMut()) -> Recorded {
        let server = DeviceHandle::<Server>::new(device.to_id());
        let Ok(true) = server.submit_blocking(Server::begin_recording) else {
            return Recorded::Nothing;
        };
        let open = OpenRecording(&server);
        work();
        match open.end() {
            Some(Ended::Recorded(commands)) => Recorded::RunAndRepeatable(Box::new(RecordedCommands {
                server: server.clone(),
                commands,
            })),
            Some(Ended::Interrupted) => Recorded::Once,
            None => Recorded::Nothing,
        }
    }
}

/// The device, whose launches overlap from now on where they are repeated, whether or not it gains by that.
#[cfg(test)]
pub(crate) fn overlapping_device() -> WgpuDevice {
    static OPENED: std::sync::Once = std::sync::Once::new();
    let device = WgpuDevice::default();
    OPENED.call_once(|| {
        WgpuRuntime::client(&device);
        signals::open(&device);
    });
    device
}

/// Records work; how many of its launches begin before those in front are done, and what repeats it.
#[cfg(test)]
pub(crate) fn record_and_count(device: &WgpuDevice, work: impl FnOnce()) -> Option<(usize, Box<dyn Recording>)> {
    let server = DeviceHandle::<Server>::new(device.to_id());
    server
        .submit_blocking(Server::begin_recording)
        .ok()
        .filter(|begun| *begun)?;
    let open = OpenRecording(&server);
    work();
    match open.end() {
        Some(Ended::Recorded(commands)) => Some((
            commands.waiting(),
            Box::new(RecordedCommands {
                server: server.clone(),
                commands,
            }),
        )),
        _ => None,
    }
}

/// A recording that has begun. It ends with this value, so that a panic of the work leaves a server that launches again.
struct OpenRecording<'a>(&'a DeviceHandle<Server>);

impl OpenRecording<'_> {
    fn end(self) -> Option<Ended> {
        self.0.submit_blocking(Server::end_recording).ok().flatten()
    }
}

impl Drop for OpenRecording<'_> {
    fn drop(&mut self) {
        let _ = self.0.submit_blocking(Server::end_recording);
    }
}

/// Commands, and the server in whose order they run.
struct RecordedCommands {
    server: DeviceHandle<Server>,
    commands: Commands,
}

impl Recording for RecordedCommands {
    fn replay(&self) -> bool {
        let stream = StreamId::current();
        let submitted = (self.server).submit_blocking(|server| server.submit(&self.commands, stream));
        submitted.is_ok()
    }
}
