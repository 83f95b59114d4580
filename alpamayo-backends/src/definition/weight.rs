//! Weight storage: from a checkpoint's bytes to a device tensor, and back to floats.

use burn::module::{Param, ParamId};
use burn::tensor::{Bytes, DType, Distribution, ElementConversion, Int, Tensor, TensorData, backend::Backend};
use half::bf16;

use super::host::{even_columns, host_values, packed_words};
use crate::ModelBackend;
use crate::error::Result;
use crate::layers::{FloatWeight, PackedWeight, Weight, WeightFormat, WeightSource};

/// See [`ModelBackend::store_weight`].
///
/// # Errors
/// As there.
pub fn store_weight<B: ModelBackend>(
    source: &WeightSource<'_>,
    format: WeightFormat,
    device: &B::Device,
) -> Result<Weight<B>> {
    if format == WeightFormat::Bf16 {
        let words = packed_words(source)?;
        return Ok(packed(Tensor::from_data(words, (device, DType::I32))));
    }
    let values = host_values(source, format)?;
    Ok(from_values(
        Tensor::from_data(values, (device, format.float_dtype())),
        false,
    ))
}

/// See [`ModelBackend::random_weight`].
///
/// # Errors
/// As there.
pub fn random_weight<B: ModelBackend>(
    (rows, columns): (usize, usize),
    amplitude: f64,
    format: WeightFormat,
    device: &B::Device,
) -> Result<Weight<B>> {
    let values = uniform([rows, columns], amplitude, device);
    if format != WeightFormat::Bf16 {
        return Ok(from_values(values.cast(format.float_dtype()), false));
    }
    let columns = even_columns(rows, columns)?;
    let bits: Vec<u8> = values
        .into_data()
        .iter::<f32>()
        .flat_map(|value| bf16::from_f32(value).to_le_bytes())
        .collect();
    let data = TensorData::from_bytes(Bytes::from_bytes_vec(bits), [rows, columns / 2], DType::I32);
    Ok(packed(Tensor::from_data(data, (device, DType::I32))))
}

/// Random f32 values, uniform in ±`amplitude`.
pub fn uniform<B: Backend>(shape: [usize; 2], amplitude: f64, device: &B::Device) -> Tensor<B, 2> {
    Tensor::random(
        shape,
        Distribution::Uniform(-amplitude, amplitude),
        (device, DType::F32),
    )
}

/// See [`ModelBackend::supports_format`].
pub fn supports_format<B: Backend>(format: WeightFormat, device: &B::Device) -> bool {
    match format {
        WeightFormat::F32 | WeightFormat::Bf16 => true,
        WeightFormat::F16 => B::supports_dtype(device, DType::F16),
    }
}

/// The weight's values as f32, `[out, in]`.
pub fn float_weight<B: Backend>(weight: &Weight<B>) -> Tensor<B, 2> {
    match weight {
        Weight::Float(weight) if weight.transposed => weight.values.val().cast(DType::F32).transpose(),
        Weight::Float(weight) => weight.values.val().cast(DType::F32),
        Weight::Bf16(weight) => widen(weight.words.val()),
    }
}

/// The f32 values of packed bf16 bits: `[rows, words]` → `[rows, 2 · words]`.
///
/// Burn has no bit cast, so each 16-bit pattern is looked up in a table of all of them: exact by construction.
pub(super) fn widen<B: Backend>(words: Tensor<B, 2, Int>) -> Tensor<B, 2> {
    let [rows, columns] = words.dims();
    let device = words.device();
    let table: Vec<f32> = (0..=u16::MAX).map(|bits| bf16::from_bits(bits).to_f32()).collect();
    let table = Tensor::<B, 1>::from_data(TensorData::new(table, [1 << 16]), (&device, DType::F32));
    let low = words.clone().bitwise_and_scalar(0xffff_i32.elem());
    let high = words
        .bitwise_right_shift_scalar(16_i32.elem())
        .bitwise_and_scalar(0xffff_i32.elem());
    let patterns: Tensor<B, 3, Int> = Tensor::stack(vec![low, high], 2);
    table
        .select(0, patterns.reshape([rows * columns * 2]))
        .reshape([rows, columns * 2])
}

/// A float weight from its tensor.
pub fn from_values<B: Backend>(values: Tensor<B, 2>, transposed: bool) -> Weight<B> {
    Weight::Float(FloatWeight {
        values: Param::initialized(ParamId::new(), values),
        transposed,
    })
}

/// A packed weight from its words.
pub fn packed<B: Backend>(words: Tensor<B, 2, Int>) -> Weight<B> {
    Weight::Bf16(PackedWeight {
        words: Param::initialized(ParamId::new(), words),
    })
}
