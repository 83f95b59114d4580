//! From Burn's tensors to buffers and back.

use burn::tensor::{DType, Int, Shape, Tensor, TensorPrimitive};
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::ir::{ElemType, FloatKind, IntKind, features::MmaConfig};
use cubecl::prelude::*;

use super::apart;
use super::quantized::row::prepared;

/// The tensor of the runtime behind a float tensor, its rows one after another.
pub fn float<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement, const D: usize>(
    tensor: Tensor<CubeBackend<R, F, I, BT>, D>,
) -> CubeTensor<R> {
    into_contiguous(tensor.into_primitive().tensor())
}

/// The tensor of the runtime behind an integer tensor, its rows one after another.
pub fn int<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement, const D: usize>(
    tensor: Tensor<CubeBackend<R, F, I, BT>, D, Int>,
) -> CubeTensor<R> {
    into_contiguous(tensor.into_primitive())
}

/// A float tensor of Burn.
pub fn tensor<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement, const D: usize>(
    primitive: CubeTensor<R>,
) -> Tensor<CubeBackend<R, F, I, BT>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// A tensor in another element type, its rows one after another; a row that was prepared for a product is one in f32.
pub fn convert<R: CubeRuntime>(tensor: CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    let tensor = prepared::plain(tensor);
    if tensor.dtype == dtype {
        return tensor;
    }
    into_contiguous(cast(tensor, dtype))
}

/// See [`ModelBackend::plain_rows`](crate::ModelBackend::plain_rows).
pub fn plain_rows<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<CubeBackend<R, F, I, BT>, 2>,
) -> Tensor<CubeBackend<R, F, I, BT>, 2> {
    tensor(convert(float(x), DType::F32))
}

/// An uninitialised tensor `[rows, columns]`, rows one after another, beside another one.
pub fn empty<R: CubeRuntime>(beside: &CubeTensor<R>, rows: usize, columns: usize, dtype: DType) -> CubeTensor<R> {
    empty_on(&beside.client, &beside.device, rows, columns, dtype)
}

/// An uninitialised tensor `[rows, columns]`, rows one after another.
pub fn empty_on<R: CubeRuntime>(
    client: &ComputeClient<R>,
    device: &R::Device,
    rows: usize,
    columns: usize,
    dtype: DType,
) -> CubeTensor<R> {
    let handle = apart::empty(client, rows * columns * dtype.size());
    CubeTensor::new_contiguous(
        client.clone(),
        device.clone(),
        Shape::new([rows, columns]),
        handle,
        dtype,
    )
}

/// `(rows, columns)` of a matrix.
pub fn extents<R: CubeRuntime>(tensor: &CubeTensor<R>) -> (usize, usize) {
    let shape = tensor.meta.shape();
    (shape[0], shape[1])
}

/// A contiguous tensor's buffer as an array of 32-bit scalars, in vectors of any width.
pub fn array<R: CubeRuntime>(tensor: &CubeTensor<R>) -> ArrayArg<R> {
    let scalars = tensor.meta.num_elements() * tensor.dtype.size() / 4;
    // SAFETY: the tensor is contiguous, so that many scalars lie in its buffer.
    unsafe { ArrayArg::from_raw_parts(tensor.handle.clone(), scalars) }
}

/// The widest vector of at most four elements that divides a row.
pub fn vector(columns: usize) -> usize {
    [4, 2]
        .into_iter()
        .find(|width| columns.is_multiple_of(*width))
        .unwrap_or(1)
}

/// Enough cubes in as many dimensions as the device's limit asks for; kernels read their index from `CUBE_POS`.
pub fn cubes(count: usize) -> CubeCount {
    let [first, second] = split(count);
    CubeCount::Static(first, second, 1)
}

/// Two extents within the limit of every device whose product is the count, or a little more.
pub fn split(count: usize) -> [u32; 2] {
    const LIMIT: usize = 65_535;
    let second = count.div_ceil(LIMIT).max(1);
    [count.div_ceil(second) as u32, second as u32]
}

/// Whether planes of exactly this many units can be counted on for sums.
pub fn plane_size<R: CubeRuntime>(client: &ComputeClient<R>) -> Option<usize> {
    let properties = client.properties();
    let (low, high) = (properties.hardware.plane_size_min, properties.hardware.plane_size_max);
    let sums = properties.features.plane.contains(cubecl::ir::features::Plane::Ops);
    (sums && low == high && low >= 8).then_some(low as usize)
}

/// Whether the device multiplies bf16 tiles of 16 x 16 by 16 x 8 whose registers a kernel fills itself.
pub fn has_bf16_tensor_cores<R: Runtime>(client: &ComputeClient<R>) -> bool {
    let bf16 = ElemType::Float(FloatKind::BF16).into();
    client.properties().features.matmul.mma.contains(&MmaConfig {
        a_type: bf16,
        b_type: bf16,
        cd_type: ElemType::Float(FloatKind::F32).into(),
        m: 16,
        n: 8,
        k: 16,
    })
}

/// Whether the device multiplies tiles of 16 x 32 by 32 x 8 signed bytes whose registers a kernel fills itself.
pub fn has_int8_tensor_cores<R: Runtime>(client: &ComputeClient<R>) -> bool {
    let int8 = ElemType::Int(IntKind::I8).into();
    client.properties().features.matmul.mma.contains(&MmaConfig {
        a_type: int8,
        b_type: int8,
        cd_type: ElemType::Int(IntKind::I32).into(),
        m: 16,
        n: 8,
        k: 32,
    })
}
