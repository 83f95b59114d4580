//! Keys and values in a device's memory.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::problem::KeyValuesLaunch;
use crate::kernels::apart;

/// Keys and values in device memory, `[entries, heads, positions, head_dim]`; strides in elements.
#[derive(Clone)]
pub struct Buffers {
    pub key: Handle,
    pub value: Handle,
    pub packed: bool,
    pub entry_stride: usize,
    pub head_stride: usize,
    pub row_stride: usize,
}

impl Buffers {
    /// A cache's tensors, written and read in place.
    pub fn of_cache<R: CubeRuntime>(key: CubeTensor<R>, value: CubeTensor<R>) -> Self {
        let strides = key.meta.strides();
        Self {
            entry_stride: strides[0],
            head_stride: strides[1],
            row_stride: strides[2],
            packed: key.dtype == DType::BF16,
            key: key.handle,
            value: value.handle,
        }
    }

    /// Fresh contiguous buffers.
    pub fn empty<R: CubeRuntime>(
        client: &ComputeClient<R>,
        [entries, heads, positions, head_dim]: [usize; 4],
        packed: bool,
    ) -> Self {
        let bytes = entries * heads * positions * head_dim * if packed { 2 } else { 4 };
        Self {
            key: apart::empty(client, bytes),
            value: apart::empty(client, bytes),
            packed,
            entry_stride: heads * positions * head_dim,
            head_stride: positions * head_dim,
            row_stride: head_dim,
        }
    }

    /// The same buffers with entries so many positions apart.
    pub fn with_entries_of(mut self, positions: usize) -> Self {
        self.entry_stride = positions * self.row_stride;
        self
    }

    pub(super) fn launch<R: CubeRuntime>(&self) -> KeyValuesLaunch<R> {
        let elements = if self.packed { 8 } else { 4 };
        KeyValuesLaunch::new(
            array(&self.key, 16),
            array(&self.value, 16),
            (self.entry_stride / elements) as u32,
            (self.head_stride / elements) as u32,
            (self.row_stride / elements) as u32,
        )
    }
}

/// A buffer as an array of elements of so many bytes.
pub(super) fn array<R: Runtime>(handle: &Handle, bytes: usize) -> ArrayArg<R> {
    // SAFETY: the length is the buffer's own.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), handle.size_in_used() as usize / bytes) }
}
