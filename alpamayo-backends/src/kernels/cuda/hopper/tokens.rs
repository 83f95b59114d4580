//! New tokens over a cache, prepared and attended to in one launch: what their kernels have in common.

use burn::tensor::{DType, Shape};
use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;

use super::Tensor;
use super::decode_attention::decode;
use super::decode_row_attention::decode_row;
use super::expert_attention::expert;
use crate::kernels::attention::launch::{Launch, Prepare};

/// The projection of new tokens.
pub(super) type Prepared<'a> = Prepare<'a, CudaRuntime>;
/// What they attend to.
pub(super) type Attention<'a> = Launch<'a, CudaRuntime>;

/// Features per head of the kernels.
pub(super) const HEAD_DIM: usize = 128;

/// See [`NativeWork::Tokens`](crate::kernels::native::NativeWork::Tokens).
pub fn run(prepare: &Prepared<'_>, request: &Attention<'_>) -> Option<Tensor> {
    if request.problem.own {
        expert(prepare, request)
    } else {
        decode_row(prepare, request).or_else(|| decode(prepare, request))
    }
}

/// What the kernels read besides the projection: norms with one epsilon, and rotary tables with one row stride.
pub(super) struct Parameters<'a> {
    pub weights: [&'a Tensor; 2],
    pub epsilon: f32,
    pub angle_stride: usize,
}

impl<'a> Parameters<'a> {
    pub fn of(prepare: &'a Prepared<'_>) -> Option<Self> {
        let [query, key] = prepare.norms.as_ref()?;
        let strides = [&prepare.cos, &prepare.sin].map(|table| table.meta.strides()[0]);
        let attention = prepare.attention;
        let width = (attention.num_heads + 2 * attention.num_key_value_heads) * HEAD_DIM;
        let takes = attention.head_dim == HEAD_DIM
            && prepare.qkv.meta.strides()[0] == width
            && query.1 == key.1
            && strides[0] == strides[1]
            && strides[0].is_multiple_of(4);
        takes.then_some(Self {
            weights: [&query.0, &key.0],
            epsilon: query.1 as f32,
            angle_stride: strides[0],
        })
    }
}

/// The buffers of a request that other work has written.
pub(super) fn inputs<'a>(prepare: &'a Prepared<'_>, request: &'a Attention<'_>) -> Vec<&'a Handle> {
    let suffix = request.suffix.iter().flat_map(|suffix| [&suffix.key, &suffix.value]);
    [
        &prepare.qkv.handle,
        &prepare.cos.handle,
        &prepare.sin.handle,
        &request.prompt.key,
        &request.prompt.value,
    ]
    .into_iter()
    .chain(suffix)
    .chain(request.lengths.as_ref())
    .collect()
}

/// `[rows of all entries, heads * head_dim]`.
pub(super) fn output(prepare: &Prepared<'_>, handle: Handle, dtype: DType) -> Tensor {
    let width = prepare.attention.num_heads * HEAD_DIM;
    Tensor::new_contiguous(
        prepare.qkv.client.clone(),
        prepare.qkv.device.clone(),
        Shape::new([prepare.rows(), width]),
        handle,
        dtype,
    )
}
