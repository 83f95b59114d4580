//! Weights of few bits on the host: the one place where values are rounded to codes.

use burn::tensor::{Bytes, DType, TensorData};
use half::{bf16, f16};
use rayon::prelude::*;

use super::host::{SLAB, check, copied, copied_words};
use crate::error::{Error, Result};
use crate::layers::{Quantization, SourceType, WeightSource};

/// A source's elements in few bits, as [`Quantization`] lays them out: `[rows, row words]`. Rows that were quantised before are
/// copied as they are.
///
/// # Errors
/// When the bytes don't fill the shape, a block's step is beyond f16, or the rows were quantised by another scheme.
pub fn quantized_words(source: &WeightSource<'_>, quantization: Quantization) -> Result<TensorData> {
    check(source)?;
    let words = quantization.row_words(source.columns);
    let shape = [source.rows, words];
    let unsupported = |reason: String| Error::UnsupportedFormat {
        format: quantization.name(),
        rows: source.rows,
        columns: source.columns,
        reason,
    };
    match source.source_type {
        SourceType::Quantized(other) if other == quantization => {
            check_steps(source, quantization)?;
            Ok(TensorData::from_bytes(
                Bytes::from_elems(copied_words(source)),
                shape,
                DType::I32,
            ))
        }
        SourceType::Quantized(other) => Err(unsupported(format!("it was quantised to {} before", other.name()))),
        _ => {
            let mut result = vec![0_u32; source.rows * words];
            let mut before = 0;
            for slab in source.slabs(source.rows_of(SLAB)) {
                let slab = slab?;
                let target = &mut result[before * words..(before + slab.rows) * words];
                let rows = target.par_chunks_mut(words.max(1)).enumerate();
                rows.try_for_each_init(Vec::new, |values, (row, words)| {
                    values.clear();
                    read_row(&slab.rows(row..row + 1)?, values);
                    quantize_row(values, quantization, words).map_err(|block| {
                        unsupported(format!(
                            "the values of row {}, block {block} are too large: their step is beyond 65504",
                            before + row
                        ))
                    })
                })?;
                before += slab.rows;
            }
            Ok(TensorData::from_bytes(Bytes::from_elems(result), shape, DType::I32))
        }
    }
}

/// Looks at the steps of rows that were quantised by this scheme.
///
/// # Errors
/// With the first that no quantisation makes.
pub(super) fn check_steps(source: &WeightSource<'_>, quantization: Quantization) -> Result<()> {
    let row_bytes = source.source_type.row_bytes(source.columns).max(1);
    let mut before = 0;
    for piece in source
        .slabs(source.rows_of(SLAB))
        .flatten()
        .flat_map(|slab| slab.pieces)
    {
        if let Some((row, block)) = first_bad_step(piece, source.columns, quantization) {
            let row = before + row;
            return Err(Error::UnsupportedFormat {
                format: quantization.name(),
                rows: source.rows,
                columns: source.columns,
                reason: format!(
                    "the step of row {row}, block {block} is negative or not finite, so the source is damaged"
                ),
            });
        }
        before += piece.len() / row_bytes;
    }
    Ok(())
}

/// The row and the block of the first step that no quantisation makes, in rows of few bits.
pub fn first_bad_step(bytes: &[u8], columns: usize, quantization: Quantization) -> Option<(usize, usize)> {
    let (code_words, step_words) = (quantization.code_words(columns), quantization.step_words(columns));
    let bad = |bytes: &[u8; 2]| u16::from_le_bytes(*bytes) >= f16::INFINITY.to_bits();
    let rows = bytes.par_chunks(4 * quantization.row_words(columns).max(1)).enumerate();
    rows.find_map_first(|(row, bytes)| {
        let steps = bytes.get(4 * code_words..4 * (code_words + step_words))?;
        let block = steps.as_chunks::<2>().0.iter().position(bad)?;
        Some((row, block))
    })
}

/// The values of rows that were quantised, which fill the source's shape.
pub(super) fn dequantized(source: &WeightSource<'_>, quantization: Quantization) -> Vec<f32> {
    let bytes = copied(source);
    let columns = source.columns;
    let mut values = vec![0.0; source.rows * columns];
    values
        .par_chunks_mut(columns.max(1))
        .zip(bytes.par_chunks(4 * quantization.row_words(columns).max(1)))
        .for_each(|(values, bytes)| dequantize_row(bytes, quantization, values));
    values
}

fn read_row(row: &WeightSource<'_>, values: &mut Vec<f32>) {
    for piece in &row.pieces {
        match row.source_type {
            SourceType::Bf16 => values.extend(piece.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32())),
            SourceType::F16 => values.extend(piece.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32())),
            SourceType::F32 => values.extend(piece.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            SourceType::Quantized(_) => {}
        }
    }
}

/// Rounds a row to codes; fails with the first block whose step is beyond f16.
fn quantize_row(values: &[f32], quantization: Quantization, words: &mut [u32]) -> std::result::Result<(), usize> {
    let code_words = quantization.code_words(values.len());
    words[..code_words].fill(quantization.zeros());
    for (block, values) in values.chunks(Quantization::BLOCK).enumerate() {
        let step = step(values, quantization);
        if !step.is_finite() {
            return Err(block);
        }
        words[code_words + block / 2] |= u32::from(step.to_bits()) << (16 * (block % 2));
        let step = step.to_f32();
        if step == 0.0 {
            continue;
        }
        for (index, value) in values.iter().enumerate() {
            let code = (value / step).round_ties_even() as i32;
            let (word, shift) = quantization.place(block * Quantization::BLOCK + index);
            // Two's complement and offset differ in the highest bit, which `zeros` has set.
            words[word] ^= ((code as u32) & ((1 << quantization.bits()) - 1)) << shift;
        }
    }
    Ok(())
}

/// The smallest f16 that takes the block's largest magnitude to a code.
fn step(values: &[f32], quantization: Quantization) -> f16 {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let exact = largest / quantization.largest() as f32;
    let nearest = f16::from_f32(exact);
    if nearest.to_f32() < exact {
        f16::from_bits(nearest.to_bits() + 1)
    } else {
        nearest
    }
}

fn dequantize_row(bytes: &[u8], quantization: Quantization, values: &mut [f32]) {
    let word = |index: usize| {
        let bytes = &bytes[4 * index..4 * index + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let code_words = quantization.code_words(values.len());
    let mask = (1_u32 << quantization.bits()) - 1;
    for (column, value) in values.iter_mut().enumerate() {
        let block = column / Quantization::BLOCK;
        let step = f16::from_bits((word(code_words + block / 2) >> (16 * (block % 2))) as u16);
        let (index, shift) = quantization.place(column);
        let code = (word(index) >> shift & mask) as i32 - quantization.offset();
        *value = code as f32 * step.to_f32();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::host::host_values;
    use super::*;
    use crate::layers::WeightFormat;

    const SCHEMES: [Quantization; 2] = [Quantization::Int8, Quantization::Int4];

    /// A matrix whose blocks differ in size by many orders of magnitude.
    fn matrix() -> impl Strategy<Value = (usize, Vec<f32>)> {
        (1..4usize, 1..300usize).prop_flat_map(|(rows, columns)| {
            let value = (-1.0f32..1.0, -30i32..15).prop_map(|(value, exponent)| value * 2.0f32.powi(exponent));
            prop::collection::vec(value, rows * columns).prop_map(move |values| (columns, values))
        })
    }

    fn source<'a>(bytes: &'a [u8], columns: usize, source_type: SourceType) -> WeightSource<'a> {
        let rows = bytes.len() / source_type.row_bytes(columns);
        WeightSource::new(vec![bytes], source_type, rows, columns)
    }

    proptest! {
        #[test]
        fn values_are_at_most_half_a_step_off((columns, values) in matrix()) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            for scheme in SCHEMES {
                let source = source(&bytes, columns, SourceType::F32);
                let kept = host_values(&source, scheme.into()).unwrap().to_vec::<f32>().unwrap();
                for (row, kept) in values.chunks(columns).zip(kept.chunks(columns)) {
                    for (block, kept) in row.chunks(Quantization::BLOCK).zip(kept.chunks(Quantization::BLOCK)) {
                        let step = step(block, scheme).to_f32();
                        for (value, kept) in block.iter().zip(kept) {
                            prop_assert!((value - kept).abs() <= step * 0.500_001, "{value} became {kept}, step {step}");
                        }
                    }
                }
            }
        }

        #[test]
        fn quantised_rows_are_kept_as_they_are((columns, values) in matrix()) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
            for scheme in SCHEMES {
                let once = quantized_words(&source(&bytes, columns, SourceType::Bf16), scheme).unwrap();
                let words = source(once.as_bytes(), columns, SourceType::Quantized(scheme));
                prop_assert_eq!(&quantized_words(&words, scheme).unwrap(), &once);
            }
        }
    }

    #[test]
    fn the_largest_value_has_the_largest_code() {
        let values = [7.0f32, -7.0, 3.4, 3.6, 0.5, 1.5, -0.5];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let kept = host_values(&source(&bytes, values.len(), SourceType::F32), WeightFormat::Int4).unwrap();
        // The step is 1; halves go to the even code.
        assert_eq!(kept.to_vec::<f32>().unwrap(), [7.0, -7.0, 3.0, 4.0, 0.0, 2.0, 0.0]);
    }

    #[test]
    fn what_few_bits_cannot_hold_is_refused() {
        let bytes = 1e9f32.to_le_bytes();
        let large = quantized_words(&source(&bytes, 1, SourceType::F32), Quantization::Int8).unwrap_err();
        assert!(large.to_string().contains("row 0, block 0"), "{large}");
        let words = quantized_words(&source(&1f32.to_le_bytes(), 1, SourceType::F32), Quantization::Int8).unwrap();
        let mut bytes = words.as_bytes().to_vec();
        let other = source(&bytes, 1, SourceType::Quantized(Quantization::Int8));
        assert!(quantized_words(&other, Quantization::Int4).is_err());
        let step = 4 * Quantization::Int8.code_words(1);
        bytes[step..step + 2].copy_from_slice(&f16::NAN.to_le_bytes());
        let damaged = source(&bytes, 1, SourceType::Quantized(Quantization::Int8));
        assert!(quantized_words(&damaged, Quantization::Int8).is_err());
    }
}
