//! Weight storage: from a checkpoint's bytes to a device tensor, and back to floats.

use burn::module::{Param, ParamId};
use burn::tensor::{DType, Distribution, ElementConversion, Int, Tensor, TensorData, backend::Backend};
use half::{bf16, f16};

use super::host::{host_values, packed_words};
use super::quantize::quantized_words;
use crate::ModelBackend;
use crate::error::Result;
use crate::layers::{
    FloatWeight, PackedWeight, Quantization, QuantizedWeight, SourceType, Weight, WeightFormat, WeightSource,
};

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
    if let Some(quantization) = format.quantization() {
        let words = Tensor::from_data(quantized_words(source, quantization)?, (device, DType::I32));
        return Ok(quantized(words, source.columns, quantization));
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
    if format != WeightFormat::Bf16 && format.quantization().is_none() {
        return Ok(from_values(values.cast(format.float_dtype()), false));
    }
    let bytes: Vec<u8> = values.into_data().iter::<f32>().flat_map(f32::to_le_bytes).collect();
    let source = WeightSource::new(vec![&bytes], SourceType::F32, rows, columns);
    store_weight(&source, format, device)
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
        WeightFormat::F32 | WeightFormat::Bf16 | WeightFormat::Int8 | WeightFormat::Int4 => true,
        WeightFormat::F16 => B::supports_dtype(device, DType::F16),
    }
}

/// The weight's values as f32, `[out, in]`.
pub fn float_weight<B: Backend>(weight: &Weight<B>) -> Tensor<B, 2> {
    match weight {
        Weight::Float(weight) if weight.transposed => weight.values.val().cast(DType::F32).transpose(),
        Weight::Float(weight) => weight.values.val().cast(DType::F32),
        Weight::Bf16(weight) => widen(weight.words.val()),
        Weight::Quantized(weight) => dequantize(weight.words.val(), weight.columns, weight.quantization),
        Weight::Split(parts) => Tensor::cat(parts.weights().iter().map(float_weight).collect(), 0),
    }
}

/// The f32 values of packed bf16 bits: `[rows, words]` → `[rows, 2 · words]`.
pub(super) fn widen<B: Backend>(words: Tensor<B, 2, Int>) -> Tensor<B, 2> {
    look_up_halves(words, |bits| bf16::from_bits(bits).to_f32())
}

/// The f32 values of rows of few bits: `[rows, row words]` → `[rows, columns]`, each code times its block's step.
pub(super) fn dequantize<B: Backend>(
    words: Tensor<B, 2, Int>,
    columns: usize,
    quantization: Quantization,
) -> Tensor<B, 2> {
    let [rows, _] = words.dims();
    let (groups, parts) = (quantization.groups(columns), quantization.chunks() / 4);
    let (code_words, step_words) = (quantization.code_words(columns), quantization.step_words(columns));
    let mask = (1_i32 << quantization.bits()) - 1;
    let codes = (0..quantization.per_word()).map(|place| {
        let shift = (quantization.bits() * place) as i32;
        let codes = words.clone().narrow(1, 0, code_words);
        let codes = codes.bitwise_right_shift_scalar(shift.elem());
        codes.bitwise_and_scalar(mask.elem())
    });
    let codes: Tensor<B, 3, Int> = Tensor::stack(codes.collect(), 2);
    // (part, eight, block, odd, pair) in memory is (block, eight, part, pair, odd) in a row.
    let codes = codes
        .reshape([
            rows * groups,
            parts,
            4,
            Quantization::BLOCKS,
            2,
            quantization.per_word() / 2,
        ])
        .permute([0, 3, 2, 1, 5, 4])
        .reshape([rows * groups * Quantization::BLOCKS, Quantization::BLOCK]);
    let codes = codes.float().cast(DType::F32) - quantization.offset();
    let steps = look_up_halves(words.narrow(1, code_words, step_words), |bits| {
        f16::from_bits(bits).to_f32()
    });
    let values = codes * steps.reshape([rows * groups * Quantization::BLOCKS, 1]);
    values
        .reshape([rows, groups * Quantization::GROUP])
        .narrow(1, 0, columns)
}

/// The values of all 16-bit patterns in words, low half first: `[rows, words]` → `[rows, 2 · words]`.
///
/// Burn has no bit cast, so each pattern is looked up in a table of all of them: exact by construction.
fn look_up_halves<B: Backend>(words: Tensor<B, 2, Int>, value: fn(u16) -> f32) -> Tensor<B, 2> {
    let [rows, columns] = words.dims();
    let device = words.device();
    let table: Vec<f32> = (0..=u16::MAX).map(value).collect();
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

/// A weight of few bits from its words `[rows, row words]`.
pub fn quantized<B: Backend>(words: Tensor<B, 2, Int>, columns: usize, quantization: Quantization) -> Weight<B> {
    Weight::Quantized(QuantizedWeight {
        words: Param::initialized(ParamId::new(), words),
        columns,
        quantization,
    })
}
