//! Which devices begin launches before the one in front is done.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_wgpu::WgpuDevice;
use cubecl::client::ComputeClient;
use cubecl::device::{Device, DeviceId};
use cubecl::device_handle::DeviceHandle;
use cubecl::server::Handle;
use cubecl::stream_id::StreamId;
use wgpu::{Adapter, Backend};

use super::runtime::WgpuRuntime;
use super::server::Server;
use crate::kernels::signals::{DONE, WORDS};

/// NVIDIA's number.
const NVIDIA: u32 = 0x10de;

/// The name of its own driver; what others do has not been seen.
const DRIVER: &str = "NVIDIA";

/// Words that nobody waits for, by device.
static WORDS_OF: Mutex<Option<HashMap<DeviceId, Handle>>> = Mutex::new(None);

fn words_of() -> MutexGuard<'static, Option<HashMap<DeviceId, Handle>>> {
    WORDS_OF.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the adapter begins a launch's cubes in the order of launches, also without a barrier in between: a cube that waits for others never
/// takes their place then. Vulkan doesn't promise it; NVIDIA's GPUs were seen to (H200).
pub(super) fn keeps_order(adapter: &Adapter) -> bool {
    let info = adapter.get_info();
    info.backend == Backend::Vulkan && info.vendor == NVIDIA && info.driver == DRIVER
}

/// Has launches of an open device begin before those in front are done.
pub(super) fn open(device: &WgpuDevice) {
    let client = ComputeClient::<WgpuRuntime>::load(device);
    let mut words = [0u32; WORDS];
    words[0] = DONE;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let words = client.create_from_slice(&bytes);
    let (binding, stream) = (words.clone().binding(), StreamId::current());
    let kept = DeviceHandle::<Server>::new(device.to_id())
        .submit_blocking(move |server| server.keep_signals(&binding, stream));
    if kept.is_ok() {
        words_of().get_or_insert_default().insert(device.to_id(), words);
    }
}

/// The words that a launch on the device is given.
pub(super) fn words(device: &WgpuDevice) -> Option<Handle> {
    words_of().as_ref()?.get(&device.to_id()).cloned()
}
