//! Dispatches that can be submitted again.

use std::sync::Arc;

use cubecl::wgpu::WgpuResource;
use wgpu::{BindGroup, BindGroupEntry, BufferUsages, ComputePipeline};

/// A device and its queue.
#[derive(Debug, Clone)]
pub(super) struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
}

/// What one launch asks for.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) pipeline: Arc<ComputePipeline>,
    pub(super) buffers: Vec<WgpuResource>,
    /// Scalars and lengths, which kernels find in a buffer behind the others; none where they need none.
    pub(super) info: Vec<u64>,
    pub(super) cubes: [u32; 3],
}

/// Dispatches with all that they bind, in order.
#[derive(Debug)]
pub(super) struct Commands {
    gpu: Gpu,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    pipeline: Arc<ComputePipeline>,
    bound: BindGroup,
    cubes: [u32; 3],
}

impl Commands {
    /// Makes what the dispatches bind.
    pub(super) fn new(gpu: &Gpu, dispatches: Vec<Dispatch>) -> Self {
        let infos = Infos::new(gpu, &dispatches);
        let mut steps = Vec::with_capacity(dispatches.len());
        for (index, dispatch) in dispatches.into_iter().enumerate() {
            let buffers = dispatch.buffers.iter().chain(infos.of(index));
            let entries: Vec<BindGroupEntry<'_>> = (0..)
                .zip(buffers)
                .map(|(binding, buffer)| BindGroupEntry {
                    binding,
                    resource: buffer.as_wgpu_bind_resource(),
                })
                .collect();
            let bound = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &dispatch.pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            steps.push(Step {
                pipeline: dispatch.pipeline,
                bound,
                cubes: dispatch.cubes,
            });
        }
        Self {
            gpu: gpu.clone(),
            steps,
        }
    }

    /// Hands the dispatches to the queue.
    pub(super) fn submit(&self) {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for step in &self.steps {
            let [x, y, z] = step.cubes;
            pass.set_pipeline(&step.pipeline);
            pass.set_bind_group(0, &step.bound, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
        drop(pass);
        self.gpu.queue.submit([encoder.finish()]);
    }
}

/// The scalars and lengths of all dispatches, in one buffer.
struct Infos(Vec<Option<WgpuResource>>);

impl Infos {
    fn new(gpu: &Gpu, dispatches: &[Dispatch]) -> Self {
        let limits = gpu.device.limits();
        let alignment = limits
            .min_uniform_buffer_offset_alignment
            .max(limits.min_storage_buffer_offset_alignment);
        let mut bytes: Vec<u8> = Vec::new();
        let mut places = Vec::with_capacity(dispatches.len());
        for dispatch in dispatches {
            bytes.resize(bytes.len().next_multiple_of(alignment as usize), 0);
            places.push((bytes.len() as u64, size_of_val(dispatch.info.as_slice()) as u64));
            bytes.extend(dispatch.info.iter().flat_map(|word| word.to_ne_bytes()));
        }
        if bytes.is_empty() {
            return Self(places.iter().map(|_| None).collect());
        }
        let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes.len() as u64,
            usage: BufferUsages::UNIFORM | BufferUsages::STORAGE,
            mapped_at_creation: true,
        });
        buffer.get_mapped_range_mut(..).copy_from_slice(&bytes);
        buffer.unmap();
        let resource = |(offset, size)| (size > 0).then(|| WgpuResource::new(buffer.clone(), offset, size));
        Self(places.into_iter().map(resource).collect())
    }

    fn of(&self, index: usize) -> Option<&WgpuResource> {
        self.0[index].as_ref()
    }
}
