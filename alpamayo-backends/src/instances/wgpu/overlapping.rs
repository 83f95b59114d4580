//! Launches of a recording that wait by themselves for those in front, without barriers in between.
//!
//! wgpu puts a barrier in front of a launch that may write, or read what one before may have written. These are bound as if they did nothing
//! but read: then there is one in front of the first of several, whose input others wrote, and one behind the last.

use std::sync::Arc;

use cubecl::wgpu::WgpuResource;
use wgpu::{Buffer, BufferTransition, BufferUsages, BufferUses, CommandEncoder, ComputePipeline};

use super::bindings::Bound;
use super::commands::Gpu;
use super::near_caches::{NearCaches, Span, span};
use crate::kernels::signals::{DONE, NEXT, WORDS};

/// Bytes from a launch's words to the next one's, at whose beginning the launch's own cubes count: any device may bind buffers so far apart.
const STRIDE: u64 = (NEXT * size_of::<u32>()) as u64;

/// Launches that are worth it, at least.
const FEW: usize = 4;

/// A pipeline of launches that wait by themselves, and which of the buffers they read and write.
#[derive(Debug)]
pub(super) struct Overlappable {
    pub(super) pipeline: Arc<ComputePipeline>,
    pub(super) reads: Vec<usize>,
    pub(super) writes: Vec<usize>,
}

/// What a launch binds if it is to begin before the one in front is done.
#[derive(Debug)]
pub(super) struct Overlapping {
    pub(super) kernel: Arc<Overlappable>,
    pub(super) buffers: Vec<WgpuResource>,
    pub(super) info: Vec<u64>,
    /// Which of the buffers has the words that launches tell each other by.
    pub(super) words: usize,
}

impl Overlapping {
    /// The same with words of its own.
    fn bound(&self, words: WgpuResource) -> Bound {
        let mut buffers: Vec<_> = self.buffers.iter().map(again).collect();
        buffers[self.words] = words;
        Bound {
            pipeline: self.kernel.pipeline.clone(),
            buffers,
            info: self.info.clone(),
        }
    }

    fn places(&self, numbers: &[usize]) -> impl Iterator<Item = Span<Buffer>> {
        let numbers = numbers.iter().filter(|&&number| number != self.words);
        numbers.filter_map(|&number| self.buffers.get(number).map(span))
    }
}

/// The same place once more.
pub(super) fn again(resource: &WgpuResource) -> WgpuResource {
    WgpuResource::new(resource.buffer.clone(), resource.offset, resource.size)
}

/// Whether both begin at the same place.
pub(super) fn is_same(first: &WgpuResource, second: &WgpuResource) -> bool {
    (&first.buffer, first.offset) == (&second.buffer, second.offset)
}

/// A launch of so many cubes, and what it binds if it overlaps.
pub(super) type Launch<'a> = (u32, Option<&'a Overlapping>);

/// Where a launch is among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Between barriers, as far as wgpu finds it needs them.
    Apart,
    /// The first of several that overlap, behind a barrier for all that is in front.
    First,
    /// Behind one that it waits for by itself.
    Behind,
}

/// What becomes of launches that are repeated together.
pub(super) struct Overlap {
    pub(super) words: Words,
    /// What those that overlap bind.
    pub(super) bound: Vec<Option<(Bound, Place)>>,
}

/// What of these launches begins before the one in front is done; `None` where none does.
pub(super) fn overlap(gpu: &Gpu, launches: &[Launch<'_>]) -> Option<Overlap> {
    let waits = waits(launches);
    if !waits.contains(&true) {
        return None;
    }
    let cubes = launches.iter().map(|(cubes, _)| *cubes);
    let words = Words::new(gpu, cubes.zip(waits.iter().copied()));
    let bound = (launches.iter().enumerate())
        .map(|(index, (_, overlapping))| {
            let place = match (waits[index], waits.get(index + 1)) {
                (true, _) => Place::Behind,
                (false, Some(true)) => Place::First,
                _ => return None,
            };
            overlapping.map(|overlapping| (overlapping.bound(words.of(index)), place))
        })
        .collect();
    Some(Overlap { words, bound })
}

/// Which launches can wait for the one in front by themselves: it is one that tells them, and no cache has what they read as it was before.
///
/// Fewer than [`FEW`] together take longer than behind barriers.
fn waits(launches: &[Launch<'_>]) -> Vec<bool> {
    // As of the launch in front, if that tells.
    let mut caches: Option<NearCaches<Buffer>> = None;
    let wait = |&(cubes, overlapping): &Launch<'_>| {
        let in_front = caches.take();
        // More cubes than can be counted are waited for by a barrier.
        let Some(overlapping) = overlapping.filter(|_| cubes < DONE) else {
            return false;
        };
        let (reads, writes) = (&overlapping.kernel.reads, &overlapping.kernel.writes);
        let waits = in_front.is_some();
        let mut near = in_front.unwrap_or_default();
        if overlapping.places(reads).any(|place| near.is_stale(&place)) {
            return false;
        }
        near.run(overlapping.places(reads), overlapping.places(writes));
        caches = Some(near);
        waits
    };
    let mut waits: Vec<bool> = launches.iter().map(wait).collect();
    for several in waits.chunk_by_mut(|_, next| *next) {
        if several.len() < FEW {
            several.fill(false);
        }
    }
    waits
}

/// Words of a recording's launches, and what they are before it begins.
#[derive(Debug, Clone)]
pub(super) struct Words {
    words: Buffer,
    before: Buffer,
}

impl Words {
    /// Words for launches of so many cubes, which wait for the one in front or don't.
    fn new(gpu: &Gpu, launches: impl Iterator<Item = (u32, bool)>) -> Self {
        let mut values = Vec::new();
        let mut in_front = 0;
        for (cubes, waits) in launches {
            let mut words = [0; NEXT];
            words[0] = if waits { DONE - in_front } else { DONE };
            values.extend(words);
            in_front = cubes;
        }
        // Of the last launch's cubes.
        values.push(0);
        let bytes: Vec<u8> = values.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let buffer = |usage| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes.len() as u64,
                usage: usage | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let (words, before) = (buffer(BufferUsages::STORAGE), buffer(BufferUsages::COPY_SRC));
        gpu.queue.write_buffer(&before, 0, &bytes);
        Self { words, before }
    }

    /// What the launch of this number binds.
    fn of(&self, index: usize) -> WgpuResource {
        let bytes = (WORDS * size_of::<u32>()) as u64;
        WgpuResource::new(self.words.clone(), index as u64 * STRIDE, bytes)
    }

    /// In front of all launches of a submission, which may be the first of a repetition.
    pub(super) fn begin(&self, encoder: &mut CommandEncoder, is_first: bool) {
        if is_first {
            encoder.copy_buffer_to_buffer(&self.before, 0, &self.words, 0, self.words.size());
        }
        // A submission's first use of a buffer would have its barrier in front of everything else.
        self.pass_to(BufferUses::STORAGE_READ_ONLY, encoder);
    }

    /// A barrier behind all launches so far.
    pub(super) fn barrier(&self, encoder: &mut CommandEncoder) {
        self.pass_to(BufferUses::STORAGE_READ_WRITE, encoder);
    }

    fn pass_to(&self, state: BufferUses, encoder: &mut CommandEncoder) {
        let buffer = &self.words;
        encoder.transition_resources(std::iter::once(BufferTransition { buffer, state }), std::iter::empty());
    }
}
