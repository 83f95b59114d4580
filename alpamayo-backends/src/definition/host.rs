//! A checkpoint's bytes in another element type, converted by all cores.

use burn::tensor::{Bytes, DType, TensorData};
use half::{bf16, f16};
use rayon::prelude::*;

use super::f16_range::within_f16;
use super::quantize::{check_steps, dequantized, quantized_words};
use crate::error::{Error, Result};
use crate::layers::{SourceType, WeightFormat, WeightSource};

/// Elements that one core takes at a time.
const CHUNK: usize = 128 << 10;
/// Bytes of a source that are read before they are released.
pub(super) const SLAB: usize = 64 << 20;

/// A source's elements `[rows, columns]` in the format's float type; of a format of few bits, the values that it holds.
///
/// # Errors
/// When the bytes don't fill the shape, or few bits can't hold the values.
pub fn host_values(source: &WeightSource<'_>, format: WeightFormat) -> Result<TensorData> {
    check(source)?;
    let already = matches!(source.source_type, SourceType::Quantized(_));
    if let Some(quantization) = format.quantization().filter(|_| !already) {
        let words = quantized_words(source, quantization)?;
        let source_type = SourceType::Quantized(quantization);
        let source = WeightSource::new(vec![words.as_bytes()], source_type, source.rows, source.columns);
        return host_values(&source, format);
    }
    let bytes = match format {
        WeightFormat::F32 | WeightFormat::Int8 | WeightFormat::Int4 => Bytes::from_elems(f32_values(source)),
        WeightFormat::F16 => Bytes::from_elems(within_f16(source, f16_bits(source))?),
        WeightFormat::Bf16 => bf16_bytes(source),
    };
    let shape = [source.rows, source.columns];
    Ok(TensorData::from_bytes(bytes, shape, format.float_dtype()))
}

/// Whether the source's bytes, one piece after another, are what is stored in this format.
///
/// # Errors
/// When the bytes don't fill the shape, or the format can't hold the source.
pub fn is_stored_as_it_is(source: &WeightSource<'_>, format: WeightFormat) -> Result<bool> {
    check(source)?;
    match (format, source.source_type) {
        (WeightFormat::Bf16, source_type) => {
            even_columns(source.rows, source.columns)?;
            Ok(source_type == SourceType::Bf16)
        }
        (WeightFormat::F32, SourceType::F32) | (WeightFormat::F16, SourceType::F16) => Ok(true),
        (_, SourceType::Quantized(quantization)) if format.quantization() == Some(quantization) => {
            check_steps(source, quantization).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// A source's elements as bf16 bits, two per 32-bit word: `[rows, columns / 2]`. A bf16 source is copied as it is, others are
/// rounded to nearest even.
///
/// # Errors
/// When the bytes don't fill the shape, or the number of columns is odd.
pub(super) fn packed_words(source: &WeightSource<'_>) -> Result<TensorData> {
    check(source)?;
    let columns = even_columns(source.rows, source.columns)?;
    Ok(TensorData::from_bytes(
        bf16_bytes(source),
        [source.rows, columns / 2],
        DType::I32,
    ))
}

/// The number of columns, if pairs of them fill 32-bit words.
///
/// # Errors
/// When it is odd.
pub(super) fn even_columns(rows: usize, columns: usize) -> Result<usize> {
    if columns.is_multiple_of(2) {
        return Ok(columns);
    }
    Err(Error::UnsupportedFormat {
        format: "packed bf16",
        rows,
        columns,
        reason: "two elements share a word, so the number of input features must be even".into(),
    })
}

pub(super) fn check(source: &WeightSource<'_>) -> Result<()> {
    let expected = source.rows * source.source_type.row_bytes(source.columns);
    let actual = source.pieces.iter().map(|piece| piece.len()).sum();
    if actual == expected {
        return Ok(());
    }
    Err(Error::WeightSize {
        rows: source.rows,
        columns: source.columns,
        format: source.source_type.name(),
        expected,
        actual,
    })
}

pub(super) fn f32_values(source: &WeightSource<'_>) -> Vec<f32> {
    match source.source_type {
        SourceType::Quantized(quantization) => dequantized(source, quantization),
        SourceType::Bf16 => elements(source, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        SourceType::F16 => elements(source, |bytes| f16::from_le_bytes(bytes).to_f32()),
        SourceType::F32 => elements(source, f32::from_le_bytes),
    }
}

fn f16_bits(source: &WeightSource<'_>) -> Vec<u16> {
    match source.source_type {
        SourceType::Bf16 => elements(source, |bytes| {
            f16::from_f32(bf16::from_le_bytes(bytes).to_f32()).to_bits()
        }),
        SourceType::F16 => elements(source, u16::from_le_bytes),
        SourceType::F32 => elements(source, |bytes| f16::from_f32(f32::from_le_bytes(bytes)).to_bits()),
        SourceType::Quantized(quantization) => dequantized(source, quantization)
            .into_iter()
            .map(|value| f16::from_f32(value).to_bits())
            .collect(),
    }
}

fn bf16_bytes(source: &WeightSource<'_>) -> Bytes {
    match source.source_type {
        // Not as bytes, which Burn would copy to where they are aligned for any type.
        SourceType::Bf16 => Bytes::from_elems(elements(source, u16::from_le_bytes)),
        SourceType::F16 => Bytes::from_elems(elements(source, |bytes| {
            bf16::from_f32(f16::from_le_bytes(bytes).to_f32()).to_bits()
        })),
        SourceType::F32 => Bytes::from_elems(elements(source, |bytes| {
            bf16::from_f32(f32::from_le_bytes(bytes)).to_bits()
        })),
        SourceType::Quantized(quantization) => Bytes::from_elems(
            (dequantized(source, quantization).into_iter())
                .map(|value| bf16::from_f32(value).to_bits())
                .collect::<Vec<u16>>(),
        ),
    }
}

/// The pieces one after another, each element converted.
fn elements<const SIZE: usize, T: Copy + Default + Send>(
    source: &WeightSource<'_>,
    convert: impl Fn([u8; SIZE]) -> T + Sync,
) -> Vec<T> {
    units(source, source.rows * source.columns, convert)
}

/// The words of rows of few bits.
pub(super) fn copied_words(source: &WeightSource<'_>) -> Vec<u32> {
    let row_words = source.source_type.row_bytes(source.columns) / size_of::<u32>();
    units(source, source.rows * row_words, u32::from_le_bytes)
}

/// So many units of `SIZE` bytes, each converted.
fn units<const SIZE: usize, T: Copy + Default + Send>(
    source: &WeightSource<'_>,
    count: usize,
    convert: impl Fn([u8; SIZE]) -> T + Sync,
) -> Vec<T> {
    let mut result = vec![T::default(); count];
    let mut rest = result.as_mut_slice();
    // The source was checked: no slab is past its bytes.
    for piece in source
        .slabs(source.rows_of(SLAB))
        .flatten()
        .flat_map(|slab| slab.pieces)
    {
        let (elements, _) = piece.as_chunks::<SIZE>();
        let (target, after) = rest.split_at_mut(elements.len());
        target
            .par_chunks_mut(CHUNK)
            .zip(elements.par_chunks(CHUNK))
            .for_each(|(target, elements)| {
                for (value, &bytes) in target.iter_mut().zip(elements) {
                    *value = convert(bytes);
                }
            });
        rest = after;
    }
    result
}

/// The pieces' bytes one after another.
pub(super) fn copied(source: &WeightSource<'_>) -> Vec<u8> {
    let mut result = vec![0; source.pieces.iter().map(|piece| piece.len()).sum()];
    let mut rest = result.as_mut_slice();
    for piece in source
        .slabs(source.rows_of(SLAB))
        .flatten()
        .flat_map(|slab| slab.pieces)
    {
        let (target, after) = rest.split_at_mut(piece.len());
        target
            .par_chunks_mut(2 * CHUNK)
            .zip(piece.par_chunks(2 * CHUNK))
            .for_each(|(target, bytes)| target.copy_from_slice(bytes));
        rest = after;
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values of a source type with their number of columns, as bytes and as f32.
    fn source() -> impl Strategy<Value = (SourceType, usize, Vec<u8>, Vec<f32>)> {
        let types = prop_oneof![Just(SourceType::Bf16), Just(SourceType::F16), Just(SourceType::F32)];
        (types, 1..5usize, 1..4usize).prop_flat_map(|(source_type, rows, words)| {
            let columns = 2 * words;
            prop::collection::vec(-6e4f32..6e4, rows * columns).prop_map(move |values| {
                let (mut bytes, mut exact) = (Vec::new(), Vec::new());
                for value in values {
                    match source_type {
                        SourceType::Bf16 => {
                            bytes.extend(bf16::from_f32(value).to_le_bytes());
                            exact.push(bf16::from_f32(value).to_f32());
                        }
                        SourceType::F16 => {
                            bytes.extend(f16::from_f32(value).to_le_bytes());
                            exact.push(f16::from_f32(value).to_f32());
                        }
                        // `types` has no other than f32 left; `quantize` tests those of few bits.
                        SourceType::F32 | SourceType::Quantized(_) => {
                            bytes.extend(value.to_le_bytes());
                            exact.push(value);
                        }
                    }
                }
                (source_type, columns, bytes, exact)
            })
        })
    }

    proptest! {
        #[test]
        fn converts_as_half_does((source_type, columns, bytes, exact) in source(), cut in 0..5usize) {
            let rows = exact.len() / columns;
            let cut = (cut % (rows + 1)) * source_type.row_bytes(columns);
            let source = WeightSource::new(vec![&bytes[..cut], &bytes[cut..]], source_type, rows, columns);
            let values = |format| host_values(&source, format).unwrap();
            prop_assert_eq!(values(WeightFormat::F32).to_vec::<f32>().unwrap(), exact.clone());
            let halves: Vec<f16> = exact.iter().map(|&value| f16::from_f32(value)).collect();
            prop_assert_eq!(values(WeightFormat::F16).to_vec::<f16>().unwrap(), halves);
            let brains: Vec<bf16> = exact.iter().map(|&value| bf16::from_f32(value)).collect();
            prop_assert_eq!(values(WeightFormat::Bf16).to_vec::<bf16>().unwrap(), brains.clone());
            let words: Vec<i32> = brains
                .chunks_exact(2)
                .map(|pair| (u32::from(pair[0].to_bits()) | u32::from(pair[1].to_bits()) << 16) as i32)
                .collect();
            prop_assert_eq!(packed_words(&source).unwrap().to_vec::<i32>().unwrap(), words);
        }

        #[test]
        fn refuses_bytes_that_do_not_fill_the_shape(length in 0..40usize) {
            prop_assume!(length != 24);
            let bytes = vec![0; length];
            let source = WeightSource::new(vec![&bytes], SourceType::F16, 3, 4);
            let is_size = matches!(
                host_values(&source, WeightFormat::F32),
                Err(Error::WeightSize { expected: 24, actual, .. }) if actual == length
            );
            prop_assert!(is_size);
        }
    }
}
