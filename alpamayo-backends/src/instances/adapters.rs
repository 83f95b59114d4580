//! The graphics adapters that wgpu finds, GPUs before software renderers.

use std::sync::LazyLock;

use burn_wgpu::WgpuDevice;
use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use wgpu::{AdapterInfo, Backend, DeviceType};

use crate::device::{BackendKind, Device, Found};
use crate::error::{Error, Result};

/// The way to the platform's drivers, which stays open: their libraries are unloaded with the last one, and a thread that has used them and
/// ends later crashes where they were (NVIDIA's Vulkan driver 580.159).
static INSTANCE: LazyLock<wgpu::Instance> = LazyLock::new(|| {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: AutoGraphicsApi::backend().into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
});

/// The adapters that a backend of that kind reaches on this machine.
///
/// WGSL is what is left where this build has no compiler of the platform's own: elsewhere the same adapters go by their
/// platform's name.
pub(crate) fn list(kind: BackendKind) -> Vec<Found> {
    adapters(kind)
        .into_iter()
        .enumerate()
        .map(|(index, (_, info))| Found::new(kind, index, format!("{}, {}", info.name, info.driver_info)))
        .collect()
}

/// wgpu's name of a device; its kernels are kept between runs where they are SPIR-V.
pub(crate) fn open(device: Device) -> Result<WgpuDevice> {
    super::kernel_cache::enable();
    let found = adapters(device.kind).into_iter().nth(device.index);
    found.map(|(device, _)| device).ok_or_else(|| Error::Device {
        context: format!("opening {device}"),
        message: "wgpu no longer lists this adapter".into(),
    })
}

/// What this build calls this machine's adapters.
pub(crate) fn kind() -> BackendKind {
    native(AutoGraphicsApi::backend())
}

fn adapters(kind: BackendKind) -> Vec<(WgpuDevice, AdapterInfo)> {
    let backend = AutoGraphicsApi::backend();
    if native(backend) != kind {
        return Vec::new();
    }
    let adapters = cubecl::future::block_on(INSTANCE.enumerate_adapters(backend.into()));
    let infos: Vec<AdapterInfo> = adapters.iter().map(|adapter| adapter.get_info()).collect();
    [
        DeviceType::DiscreteGpu,
        DeviceType::IntegratedGpu,
        DeviceType::VirtualGpu,
        DeviceType::Cpu,
    ]
    .into_iter()
    .flat_map(|device_type| {
        let same_type = infos.iter().filter(move |info| info.device_type == device_type);
        same_type
            .enumerate()
            .filter_map(move |(index, info)| Some((name(device_type, index)?, info.clone())))
    })
    .collect()
}

/// What this build compiles kernels to for a graphics API.
fn native(backend: Backend) -> BackendKind {
    match backend {
        Backend::Vulkan if cfg!(feature = "vulkan") => BackendKind::Vulkan,
        Backend::Metal if cfg!(feature = "metal") => BackendKind::Metal,
        _ => BackendKind::WebGpu,
    }
}

/// wgpu's devices are numbered within their type; there is one software renderer.
fn name(device_type: DeviceType, index: usize) -> Option<WgpuDevice> {
    match device_type {
        DeviceType::DiscreteGpu => Some(WgpuDevice::DiscreteGpu(index)),
        DeviceType::IntegratedGpu => Some(WgpuDevice::IntegratedGpu(index)),
        DeviceType::VirtualGpu => Some(WgpuDevice::VirtualGpu(index)),
        DeviceType::Cpu if index == 0 => Some(WgpuDevice::Cpu),
        DeviceType::Cpu | DeviceType::Other => None,
    }
}
