//! Small results on their way to the host, while the device is told more.
//!
//! CubeCL's server has a thread wait for the device as soon as it is asked for a result. Meanwhile wgpu takes no submission: what is to run
//! behind the result's copy would begin once the host has it. Here nobody waits before the result is awaited.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use cubecl::backtrace::BackTrace;
use cubecl::bytes::Bytes;
use cubecl::server::{CopyDescriptor, ServerError};
use cubecl::wgpu::WgpuResource;
use wgpu::{Buffer, BufferDescriptor, BufferUsages, CommandEncoder, MapMode, PollType, SubmissionIndex};

use super::commands::Gpu;

/// Bytes of the largest results that are read this way, and of the buffers that they are copied to; a multiple of what places begin at.
const SMALL: u64 = 64 << 10;

/// Whether all of a buffer is asked for, as it lies.
pub(super) fn is_whole(part: &CopyDescriptor) -> bool {
    let mut elements = 1;
    let mut is_contiguous = true;
    for (&extent, &stride) in part.shape.iter().zip(part.strides.iter()).rev() {
        is_contiguous &= stride == elements;
        elements *= extent;
    }
    is_contiguous && (elements * part.elem_size) as u64 == part.handle.size_in_used()
}

/// Buffers that the host reads, for the next results.
#[derive(Debug, Clone, Default)]
pub(super) struct Staging(Arc<Mutex<Vec<Buffer>>>);

impl Staging {
    fn take(&self, gpu: &Gpu) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| {
            gpu.device.create_buffer(&BufferDescriptor {
                label: None,
                size: SMALL,
                usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })
    }

    fn keep(&self, buffer: Buffer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// Results in a buffer that the host will read.
#[derive(Debug)]
pub(super) struct Reading {
    gpu: Gpu,
    staging: Staging,
    buffer: Buffer,
    /// Where each result lies.
    places: Vec<(u64, u64)>,
}

impl Reading {
    /// Room for these results, or `None` where they are not small or not of whole words.
    pub(super) fn new(gpu: &Gpu, staging: &Staging, results: &[WgpuResource]) -> Option<Self> {
        let mut end = 0;
        let mut places = Vec::with_capacity(results.len());
        for result in results {
            let is_of_words =
                result.size > 0 && (result.offset | result.size).is_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT);
            if !is_of_words || result.size > SMALL - end {
                return None;
            }
            // Each where the host maps from.
            places.push((end, result.size));
            end = (end + result.size).next_multiple_of(wgpu::MAP_ALIGNMENT);
        }
        Some(Self {
            gpu: gpu.clone(),
            staging: staging.clone(),
            buffer: staging.take(gpu),
            places,
        })
    }

    /// Has the results copied.
    pub(super) fn copy(&self, results: &[WgpuResource], encoder: &mut CommandEncoder) {
        for (result, &(place, size)) in results.iter().zip(&self.places) {
            encoder.copy_buffer_to_buffer(&result.buffer, result.offset, &self.buffer, place, size);
        }
    }

    /// Waits until the device has done what was submitted with the copies.
    pub(super) fn finish(self, submitted: SubmissionIndex) -> Result<Vec<Bytes>, ServerError> {
        let (sender, mapped) = mpsc::channel();
        self.buffer
            .map_async(MapMode::Read, .., move |outcome| _ = sender.send(outcome));
        let wait = PollType::Wait {
            submission_index: Some(submitted),
            timeout: None,
        };
        self.gpu.device.poll(wait).map_err(failed)?;
        mapped.recv().map_err(failed)?.map_err(failed)?;
        let bytes = |&(place, size): &(u64, u64)| {
            let view = self.buffer.get_mapped_range(place..place + size);
            Bytes::from_bytes_vec(view.to_vec())
        };
        let results = self.places.iter().map(bytes).collect();
        self.buffer.unmap();
        self.staging.keep(self.buffer);
        Ok(results)
    }
}

fn failed(error: impl std::fmt::Display) -> ServerError {
    ServerError::Generic {
        reason: format!("reading from the device: {error}"),
        backtrace: BackTrace::capture(),
    }
}
