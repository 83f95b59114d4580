//! How a device's server comes to be.

use std::collections::HashSet;
use std::panic::catch_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_wgpu::WgpuDevice;
use burn_wgpu::graphics::AutoGraphicsApi;
use cubecl::client::ComputeClient;
use cubecl::device::{Device, DeviceId};
use cubecl::device_handle::DeviceHandle;
use cubecl::wgpu::{RuntimeOptions, WgpuServer, WgpuSetup, init_device, init_setup};
use cubecl::{Runtime, wgpu as stock};

use super::runtime::WgpuRuntime;
use super::server::Server;
use super::signals;

/// The devices that were opened.
static OPENED: Mutex<Option<HashSet<DeviceId>>> = Mutex::new(None);

fn opened() -> MutexGuard<'static, Option<HashSet<DeviceId>>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the device, unless it is open.
pub(super) fn open(device: &WgpuDevice) {
    let mut opened = opened();
    let is_new = opened.get_or_insert_default().insert(device.to_id());
    if !is_new || matches!(device, WgpuDevice::Existing(_)) {
        return;
    }
    // CubeCL panics where the program uses this device through CubeCL's own runtime already. Then the server opens the adapter once
    // more and records nothing.
    if let Ok(setup) = catch_unwind(|| init_setup::<AutoGraphicsApi>(device, RuntimeOptions::default())) {
        serve(device, setup);
    }
}

/// Makes a device of what a program opened with wgpu itself, to share it: the model computes on that device's queue.
///
/// Not to be called twice for one setup.
pub fn share_device(setup: WgpuSetup) -> WgpuDevice {
    let mut opened = opened();
    let device = init_device(setup.clone(), RuntimeOptions::default());
    opened.get_or_insert_default().insert(device.to_id());
    serve(&device, setup);
    device
}

/// Gives an open device a server that can record.
///
/// CubeCL finds out what the device can do, and tells it of a server of its own only: that one stays without work.
fn serve(device: &WgpuDevice, setup: WgpuSetup) {
    let properties = stock::WgpuRuntime::client(device).properties().clone();
    let own = DeviceHandle::<WgpuServer>::new(device.to_id());
    let adapter = setup.adapter.clone();
    if let Ok(options) = own.submit_blocking(|server| server.compilation_options) {
        let server = Server::new(setup, properties, options);
        let keeps_order = signals::keeps_order(&adapter);
        let _ = ComputeClient::<WgpuRuntime>::init(device, server);
        if keeps_order {
            signals::open(device);
        }
    }
}
