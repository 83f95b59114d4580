//! Rows of a table that lies in the host's memory, read by the device itself, by `host_rows.wgsl`.
//!
//! It isn't filled where it is mapped but by copies, a part at a time: memory that the host may write would lie in the device's own wherever
//! the bus reaches all of that (see [`host_memory`]).

use std::num::NonZeroU64;
use std::sync::Arc;

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::device::Device;
use cubecl::device_handle::DeviceHandle;
use cubecl::stream_id::StreamId;
use cubecl::wgpu::WgpuResource;
use rayon::prelude::*;
use wgpu::{Buffer, ComputePipeline, DeviceType, PollType, SubmissionIndex, WriteOnly};

use super::bindings::Bound;
use super::commands::{Dispatch, Gpu};
use super::host_memory;
use super::server::Server;
use super::{WgpuDevice, WgpuRuntime};
use crate::kernels::tensors::empty;
use crate::layers::{HostBytes, HostRows};

/// Columns that a unit reads at a time.
const COLUMNS: usize = 8;

/// Units of a workgroup, which every device has: a row of 4096 columns is read by eight groups, and the bus is waited for once.
const UNITS: u32 = 64;

/// Bytes that are on their way to the table at a time, of which there are two.
const PART: usize = 32 << 20;

/// Bytes that a host thread copies at a time.
const PIECE: usize = 256 << 10;

/// The rows `(rows, columns)` of bf16 where the device reads them, or `None` where it can't, or where what is to be a copy would lie in the
/// same memory as a table on the device.
pub(super) fn store(device: &WgpuDevice, bytes: &HostBytes, shape: (usize, usize)) -> Option<HostRows> {
    let rows = HostRows::new(bytes.clone(), shape)?;
    let server = DeviceHandle::<Server>::new(device.to_id());
    let gpu = server.submit_blocking(|server| server.gpu()).ok()??;
    let table = Table::new(device, &gpu, rows.as_ref(), shape)?;
    Some(rows.with_copy(Arc::new(table)))
}

/// The rows of the ids, widened to f32, or `None` where the device doesn't look them up.
pub(super) fn run(ids: &CubeTensor<WgpuRuntime>, rows: &HostRows) -> Option<CubeTensor<WgpuRuntime>> {
    let table = rows.copy::<Table>().filter(|table| table.device == ids.device)?;
    let count = u32::try_from(ids.meta.num_elements()).ok()?;
    if ids.dtype != DType::I32 || count == 0 || count > table.most_ids {
        return None;
    }
    let out = empty(ids, count as usize, rows.shape().1, DType::F32);
    let bindings = [ids, &out].map(|tensor| tensor.handle.clone().binding());
    let stream = StreamId::current();
    let server = DeviceHandle::<Server>::new(ids.device.to_id());
    let launched = server.submit_blocking(|server| server.look_up(table, bindings, count, stream));
    launched.ok()?.then_some(out)
}

/// A table in the host's memory, and what looks its rows up.
#[derive(Debug)]
pub(super) struct Table {
    device: WgpuDevice,
    buffer: Buffer,
    pipeline: Arc<ComputePipeline>,
    /// Workgroups of a row.
    groups: u32,
    /// Ids that may be looked up together.
    most_ids: u32,
}

impl Table {
    /// A copy of the rows, which must not be none.
    fn new(device: &WgpuDevice, gpu: &Gpu, bytes: &[u8], (rows, columns): (usize, usize)) -> Option<Self> {
        let limits = gpu.device.limits();
        let most_bytes = (limits.max_storage_buffer_binding_size).min(limits.max_buffer_size);
        let vectors = u32::try_from(columns / COLUMNS).ok()?;
        let groups = vectors.div_ceil(UNITS);
        let most = limits.max_compute_workgroups_per_dimension;
        // The shader counts in 32 bits.
        let fits = bytes.len() as u64 <= most_bytes.min(u32::MAX.into()) && (1..=most).contains(&groups);
        if !fits || !columns.is_multiple_of(COLUMNS) || !has_other_memory(&gpu.device) {
            return None;
        }
        let buffer = host_memory::allocate(&gpu.device, bytes.len() as u64)?;
        fill(gpu, &buffer, bytes)?;
        Some(Self {
            pipeline: Arc::new(pipeline(&gpu.device, u32::try_from(rows).ok()?, vectors)),
            device: device.clone(),
            buffer,
            groups,
            most_ids: most,
        })
    }

    /// What looks so many ids up, on the table's device.
    pub(super) fn dispatch(&self, [ids, out]: [WgpuResource; 2], count: u32) -> Dispatch {
        let table = WgpuResource::new(self.buffer.clone(), 0, self.buffer.size());
        let bound = Bound {
            pipeline: self.pipeline.clone(),
            buffers: vec![ids, table, out],
            info: Vec::new(),
        };
        let cubes = [self.groups, count, 1];
        Dispatch {
            bound,
            cubes,
            overlapping: None,
        }
    }
}

/// Whether a table may lie in other memory than the device's own. A software renderer has none of its own either, but is there to compute
/// what a GPU does.
fn has_other_memory(device: &wgpu::Device) -> bool {
    device.adapter_info().device_type != DeviceType::IntegratedGpu
}

/// Copies the bytes; they have arrived when this returns.
fn fill(gpu: &Gpu, buffer: &Buffer, bytes: &[u8]) -> Option<()> {
    let wait = |submitted: SubmissionIndex| {
        let wait = PollType::Wait {
            submission_index: Some(submitted),
            timeout: None,
        };
        gpu.device.poll(wait).ok()
    };
    let mut before = None;
    for (offset, part) in (0..).step_by(PART).zip(bytes.chunks(PART)) {
        let size = NonZeroU64::new(part.len() as u64)?;
        let mut view = gpu.queue.write_buffer_with(buffer, offset, size)?;
        write(view.slice(..), part);
        drop(view);
        if let Some(before) = before.replace(gpu.queue.submit([])) {
            wait(before)?;
        }
    }
    wait(before?).map(|_| ())
}

/// All host threads copy the bytes.
fn write(to: WriteOnly<'_, [u8]>, bytes: &[u8]) {
    let (pieces, from) = bytes.as_chunks::<PIECE>();
    let (to, mut rest) = to.into_chunks::<PIECE>();
    rest.copy_from_slice(from);
    let pieces: Vec<_> = to.into_iter().zip(pieces).collect();
    (pieces.into_par_iter()).for_each(|(to, from)| WriteOnly::<[u8]>::from(to).copy_from_slice(from));
}

fn pipeline(device: &wgpu::Device, rows: u32, vectors: u32) -> ComputePipeline {
    let module = device.create_shader_module(wgpu::include_wgsl!("host_rows.wgsl"));
    let constants = [("ROWS", rows), ("VECTORS", vectors), ("UNITS", UNITS)];
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("look_up"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants.map(|(name, value)| (name, value.into())),
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use burn::tensor::{Distribution, Int, Tensor, TensorData};
    use cubecl::Runtime;
    use half::bf16;
    use proptest::prelude::*;

    use super::*;
    use crate::ModelBackend;
    use crate::instances::wgpu::{share_device, tests::setup};
    use crate::instances::{KernelRuntime, Recorded, Wgpu};
    use crate::kernels::copy::copy;
    use crate::kernels::tensors::int;
    use crate::layers::{Linear, WeightFormat};
    use crate::verify::{Formats, ModelShapes, verify};

    /// A device that shows its memory.
    fn device() -> WgpuDevice {
        static DEVICE: LazyLock<WgpuDevice> =
            LazyLock::new(|| share_device(setup(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS)));
        DEVICE.clone()
    }

    fn on_device<T: Send + 'static>(work: impl FnOnce() -> T + Send) -> T {
        Wgpu::run_stage(&device(), work).unwrap()
    }

    /// Any bits, those that are no numbers and the smallest numbers among them.
    fn bytes((rows, columns): (usize, usize), seed: u32) -> HostBytes {
        let bits = |index: usize| ((index as u32 ^ seed).wrapping_mul(0x9e37_79b9) >> 16) as u16;
        let bytes: Vec<u8> = (0..rows * columns)
            .flat_map(|index| bits(index).to_le_bytes())
            .collect();
        Arc::new(bytes)
    }

    /// Numbers between -1 and 1.
    fn numbers((rows, columns): (usize, usize)) -> HostBytes {
        let number = |index: usize| bf16::from_f32((index as f32 * 0.37).sin());
        let bytes: Vec<u8> = (0..rows * columns)
            .flat_map(|index| number(index).to_le_bytes())
            .collect();
        Arc::new(bytes)
    }

    fn ids_on(device: &WgpuDevice, ids: &[i32]) -> Tensor<Wgpu, 1, Int> {
        Tensor::from_data(TensorData::new(ids.to_vec(), [ids.len()]), (device, DType::I32))
    }

    fn bits(tensor: Tensor<Wgpu, 2>) -> Vec<u32> {
        let values: Vec<f32> = tensor.into_data().to_vec().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    /// What the host finds.
    fn expected(rows: &HostRows, ids: &[i32]) -> Vec<u32> {
        let values = ids.iter().flat_map(|&id| rows.row(id as u32).as_chunks().0);
        values
            .map(|&value| u32::from(u16::from_le_bytes(value)) << 16)
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn rows_are_the_hosts_to_the_bit(
            rows in 1..60_usize, vectors in 1..150_usize, seed: u32,
            ids in prop::collection::vec(prop_oneof![4 => 0..60_i32, 1 => any::<i32>()], 1..40),
        ) {
            on_device(move || {
                let shape = (rows, COLUMNS * vectors);
                let table = Wgpu::store_host_rows(&bytes(shape, seed), shape, &device()).unwrap();
                let found = Wgpu::lookup_host_rows(ids_on(&device(), &ids), &table).unwrap();
                assert_eq!(found.dims(), [ids.len(), shape.1]);
                assert_eq!(bits(found), expected(&table, &ids));
            });
        }
    }

    #[test]
    fn a_table_of_many_parts_is_looked_up_by_a_prompt() {
        on_device(|| {
            let shape = (2 * PART / 8192 + 77, 4096);
            let table = Wgpu::store_host_rows(&bytes(shape, 5), shape, &device()).unwrap();
            let ids: Vec<i32> = (0..300).map(|index| index * 1303 % shape.0 as i32).collect();
            let found = Wgpu::lookup_host_rows(ids_on(&device(), &ids), &table).unwrap();
            assert!(bits(found) == expected(&table, &ids));
        });
    }

    #[test]
    fn a_lookup_is_recorded_and_repeated_with_other_ids() {
        on_device(|| {
            let shape = (50, 64);
            let table = Wgpu::store_host_rows(&bytes(shape, 3), shape, &device()).unwrap();
            let look_up = |ids: &Tensor<Wgpu, 1, Int>| Wgpu::lookup_host_rows(ids.clone(), &table).unwrap();
            let (client, ids) = (WgpuRuntime::client(&device()), ids_on(&device(), &[49, 0, 7]));
            let mut result = None;
            // The ids are launched before they are looked up.
            let recorded = WgpuRuntime::record(&client, &device(), &mut || result = Some(look_up(&(ids.clone() + 1))));
            let (Recorded::RunAndRepeatable(recording), Some(result)) = (recorded, result) else {
                panic!("a lookup can be recorded");
            };
            assert_eq!(bits(result.clone()), expected(&table, &[49, 1, 8]));
            for other in [[3, 3, 49], [-2, 48, 0]] {
                assert!(copy(&int(ids_on(&device(), &other)), &int(ids.clone())));
                assert!(recording.replay());
                assert_eq!(bits(result.clone()), expected(&table, &other.map(|id| id + 1)));
            }
        });
    }

    /// Tensors of every repetition are kept to the end.
    #[test]
    fn repeated_lookups_write_over_nothing() {
        on_device(|| {
            let (shape, device) = ((9, 64), device());
            let table = Wgpu::store_host_rows(&numbers(shape), shape, &device).unwrap();
            let weight = Wgpu::random_weight((64, 64), 0.5, WeightFormat::Bf16, &device).unwrap();
            let linear = Linear::new(weight, None);
            let ids = ids_on(&device, &[8, 2]);
            let mut work = |_: usize, x: Tensor<Wgpu, 2>| {
                let rows = Wgpu::lookup_host_rows(ids.clone(), &table).unwrap();
                Wgpu::project_add(rows, &linear, x)
            };
            let mut repetition = Wgpu::repetition();
            let mut kept = Vec::new();
            for _ in 0..5 {
                let x = Tensor::random([2, 64], Distribution::Default, &device);
                let looked_up = Wgpu::lookup_host_rows(ids.clone(), &table).unwrap();
                kept.push((looked_up, expected(&table, &[8, 2])));
                let anew = bits(work(0, x.clone()));
                kept.push((repetition.run(x, 1, &mut work), anew));
            }
            for (tensor, expected) in kept {
                assert_eq!(bits(tensor), expected);
            }
        });
    }

    #[test]
    fn every_operation_is_computed_as_defined_and_this_one_among_them() {
        let checks = verify::<Wgpu>(&ModelShapes::small(), Formats::F32, &device()).unwrap();
        let found: Vec<_> = checks
            .iter()
            .filter(|check| check.operation == "lookup_host_rows")
            .collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].passed(), "{found:?}");
    }

    #[test]
    fn what_a_device_cannot_look_up_is_the_hosts() {
        let (plain, shape) = (share_device(setup(wgpu::Features::empty())), (3, 16));
        let stored = Wgpu::store_host_rows(&numbers(shape), shape, &plain);
        assert_eq!(stored.is_some(), cfg!(feature = "vulkan"));
        // Rows of other than whole vectors, and bytes that are no rows.
        for shape in [(3, 4), (3, 12), (0, 8), (3, 0)] {
            assert!(
                Wgpu::store_host_rows(&numbers(shape), shape, &device()).is_none(),
                "{shape:?}"
            );
        }
        assert!(Wgpu::store_host_rows(&numbers(shape), (4, 16), &device()).is_none());
        let table = Wgpu::store_host_rows(&numbers(shape), shape, &device()).unwrap();
        // Another device, and more ids than workgroups.
        assert!(Wgpu::lookup_host_rows(ids_on(&plain, &[1]), &table).is_none());
        let many = vec![0; table.copy::<Table>().unwrap().most_ids as usize + 1];
        assert!(Wgpu::lookup_host_rows(ids_on(&device(), &many), &table).is_none());
        assert!(
            Wgpu::lookup_host_rows(ids_on(&device(), &[1]), &HostRows::new(numbers(shape), shape).unwrap()).is_none()
        );
        assert!(Wgpu::lookup_host_rows(ids_on(&device(), &[1]), &table).is_some());
    }
}
