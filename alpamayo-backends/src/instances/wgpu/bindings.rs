//! What dispatches bind, kept for the next ones that bind the same.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use cubecl::wgpu::WgpuResource;
use wgpu::{BindGroup, BindGroupEntry, BufferUsages, ComputePipeline};

use super::commands::Gpu;

/// How many bind groups were asked for recently, at most: more than the launches of a prompt, a token and a flow step together.
pub(super) const RECENT: usize = 4096;

/// Bytes of a buffer of scalars and lengths.
const SLAB: u64 = 64 << 10;

/// A pipeline and what it is to read and write.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) pipeline: Arc<ComputePipeline>,
    pub(super) buffers: Vec<WgpuResource>,
    /// Scalars and lengths, which kernels find in a buffer behind the others; none where they need none.
    pub(super) info: Vec<u64>,
}

impl Bound {
    fn places(&self) -> impl Iterator<Item = (&wgpu::Buffer, u64, u64)> {
        (self.buffers.iter()).map(|resource| (&resource.buffer, resource.offset, resource.size))
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.pipeline == other.pipeline && self.info == other.info && self.places().eq(other.places())
    }
}

impl Eq for Bound {}

impl Hash for Bound {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pipeline.hash(state);
        self.info.hash(state);
        self.places().for_each(|place| place.hash(state));
    }
}

/// Bind groups by what they bind. They keep their buffers alive.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    recent: HashMap<Bound, BindGroup>,
    /// Those asked for before, forgotten when there are many recent ones.
    older: HashMap<Bound, BindGroup>,
    infos: Infos,
}

impl Bindings {
    /// The bind group, made where there is none. Its scalars are there once they are [written](Self::write).
    pub(super) fn of(&mut self, gpu: &Gpu, bound: Bound) -> BindGroup {
        if let Some(group) = self.recent.get(&bound) {
            return group.clone();
        }
        let group = match self.older.remove(&bound) {
            Some(group) => group,
            None => self.make(gpu, &bound),
        };
        if self.recent.len() >= RECENT {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(bound, group.clone());
        group
    }

    fn make(&mut self, gpu: &Gpu, bound: &Bound) -> BindGroup {
        let info = self.infos.place(gpu, &bound.info);
        let entries: Vec<BindGroupEntry<'_>> = (0..)
            .zip(bound.buffers.iter().chain(&info))
            .map(|(binding, buffer)| BindGroupEntry {
                binding,
                resource: buffer.as_wgpu_bind_resource(),
            })
            .collect();
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &bound.pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    /// Writes the scalars of what was made, in front of the next commands that are submitted.
    pub(super) fn write(&mut self, gpu: &Gpu) {
        self.infos.write(gpu);
    }

    /// Lets go of all buffers.
    pub(super) fn clear(&mut self) {
        self.recent.clear();
        self.older.clear();
    }
}

/// Scalars and lengths, one after another in buffers of which no part is written twice.
#[derive(Debug, Default)]
struct Infos {
    buffer: Option<wgpu::Buffer>,
    /// Where the bytes that were not written yet begin.
    start: u64,
    bytes: Vec<u8>,
}

impl Infos {
    fn place(&mut self, gpu: &Gpu, words: &[u64]) -> Option<WgpuResource> {
        let size = size_of_val(words) as u64;
        if size == 0 {
            return None;
        }
        let limits = gpu.device.limits();
        let alignment = (limits.min_uniform_buffer_offset_alignment).max(limits.min_storage_buffer_offset_alignment);
        let offset = (self.start + self.bytes.len() as u64).next_multiple_of(alignment.into());
        let (buffer, offset) = match &self.buffer {
            Some(buffer) if offset + size <= buffer.size() => (buffer.clone(), offset),
            _ => (self.next_buffer(gpu, size), 0),
        };
        self.bytes.resize((offset - self.start) as usize, 0);
        self.bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        Some(WgpuResource::new(buffer, offset, size))
    }

    fn next_buffer(&mut self, gpu: &Gpu, size: u64) -> wgpu::Buffer {
        self.write(gpu);
        let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: size.max(SLAB),
            usage: BufferUsages::UNIFORM | BufferUsages::STORAGE | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.start = 0;
        self.buffer.insert(buffer).clone()
    }

    fn write(&mut self, gpu: &Gpu) {
        if let Some(buffer) = &self.buffer
            && !self.bytes.is_empty()
        {
            gpu.queue.write_buffer(buffer, self.start, &self.bytes);
            self.start += self.bytes.len() as u64;
            self.bytes.clear();
        }
    }
}
