//! The kernels of few bits against what the format keeps of the values, on a software renderer or whatever GPU there is.

use burn::tensor::{Tensor, TensorData};
use half::bf16;
use proptest::prelude::*;

use super::{part_buffer, random_words, widened, widened_rows};
use crate::definition::{self, host_values};
use crate::instances::WgpuRuntime;
use crate::instances::{Wgpu, WgpuDevice};
use crate::kernels::product::{Element, Product, StoredWeight};
use crate::layers::{Activation, Linear, Quantization, SourceType, WeightFormat, WeightSource};
use crate::{ModelBackend, kernels};

/// Values whose blocks differ in size, down to subnormal steps.
fn bytes(rows: usize, columns: usize, seed: u32) -> Vec<u8> {
    let value = |index: usize| {
        let hash = (index as u32 ^ seed).wrapping_mul(0x9e37_79b9).rotate_left(13);
        let size = 2.0_f32.powi(-(((index / 32) % 24) as i32));
        (hash as f32 / u32::MAX as f32 - 0.5) * size
    };
    (0..rows * columns)
        .flat_map(|index| value(index).to_le_bytes())
        .collect()
}

fn source(bytes: &[u8], rows: usize, columns: usize) -> WeightSource<'_> {
    WeightSource::new(vec![bytes], SourceType::F32, rows, columns)
}

/// The bytes of a weight of bf16.
fn words(weight: &StoredWeight<WgpuRuntime>) -> Vec<u8> {
    let values = weight.values.clone();
    let bytes = values.client.read_one(values.handle).unwrap();
    bytes[..2 * weight.rows * weight.columns].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn widened_weights_are_the_formats_values_in_bf16(
        rows in 1..9_usize, quads in 1..100_usize, seed in any::<u32>(), four in any::<bool>(),
    ) {
        let columns = 4 * quads;
        let format = if four { WeightFormat::Int4 } else { WeightFormat::Int8 };
        let bytes = bytes(rows, columns, seed);
        let source = source(&bytes, rows, columns);
        let device = WgpuDevice::default();
        let linear = Linear::new(Wgpu::store_weight(&source, format, &device).unwrap(), None);
        let product = Product::<WgpuRuntime>::new(&linear, Activation::None).unwrap();
        let weight = widened(product).weight;
        prop_assert_eq!(weight.element, Element::Bf16);
        let found: Vec<bf16> = words(&weight)
            .chunks_exact(2)
            .map(|pair| bf16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        let kept = host_values(&source, format).unwrap();
        let expected: Vec<bf16> = kept.iter::<f32>().map(bf16::from_f32).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn parts_are_widened_one_after_another_into_one_buffer(
        rows in 7..40_usize, quads in 1..100_usize, part in 6..20_usize, seed in any::<u32>(), four in any::<bool>(),
    ) {
        let columns = 4 * quads;
        let format = if four { WeightFormat::Int4 } else { WeightFormat::Int8 };
        let bytes = bytes(rows, columns, seed);
        let source = source(&bytes, rows, columns);
        let device = WgpuDevice::default();
        let linear = Linear::new(Wgpu::store_weight(&source, format, &device).unwrap(), None);
        let product = Product::<WgpuRuntime>::new(&linear, Activation::None).unwrap();
        let buffer = part_buffer(&product.weight);
        let (mut found, whole) = (Vec::new(), words(&widened(product.clone()).weight));
        for start in (0..rows).step_by(part) {
            let weight = widened_rows(&product.weight, start..rows.min(start + part), &buffer);
            prop_assert_eq!(weight.rows, part.min(rows - start));
            found.extend(words(&weight));
        }
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn few_rows_and_many_rows_multiply_the_same_values(
        rows in 1..70_usize, columns in 1..300_usize, tokens in 1..150_usize, seed in any::<u32>(), four in any::<bool>(),
    ) {
        let format = if four { WeightFormat::Int4 } else { WeightFormat::Int8 };
        let bytes = bytes(rows, columns, seed);
        let source = source(&bytes, rows, columns);
        let device = WgpuDevice::default();
        let linear = Linear::new(Wgpu::store_weight(&source, format, &device).unwrap(), None);
        // A row with a single one picks a column of the weight.
        let mut x = vec![0.0; tokens * columns];
        for token in 0..tokens {
            x[token * columns + (token * 7 + seed as usize % 64) % columns] = 1.0;
        }
        let x = Tensor::<Wgpu, 2>::from_data(TensorData::new(x, [tokens, columns]), &device);
        let found = Wgpu::project(x, &linear, Activation::None).into_data();
        let kept: Vec<f32> = host_values(&source, format).unwrap().iter::<f32>().collect();
        // Beyond so many rows the weight is widened to bf16.
        let widened = tokens > 128 && columns % 4 == 0;
        for (index, found) in found.iter::<f32>().enumerate() {
            let column = (index / rows * 7 + seed as usize % 64) % columns;
            let value = kept[index % rows * columns + column];
            let expected = if widened { bf16::from_f32(value).to_f32() } else { value };
            prop_assert_eq!(found, expected, "token {}, row {}", index / rows, index % rows);
        }
    }
}

#[test]
fn random_codes_are_balanced_and_end_with_the_row() {
    let device = WgpuDevice::default();
    for (scheme, columns) in [
        (Quantization::Int8, 4304),
        (Quantization::Int4, 4304),
        (Quantization::Int4, 2048),
    ] {
        let rows = 16;
        let words = random_words::<WgpuRuntime>((rows, columns), 0.5, scheme, 3, &device);
        let bytes = words.client.read_one(words.handle).unwrap();
        let row_bytes = 4 * scheme.row_words(columns);
        assert_eq!(
            definition::first_bad_step(&bytes[..rows * row_bytes], columns, scheme),
            None
        );
        // Beyond the row's end there are zeros.
        let padded = scheme.groups(columns) * Quantization::GROUP;
        for column in columns..padded {
            let (word, shift) = scheme.place(column);
            let word = u32::from_le_bytes(bytes[4 * word..4 * word + 4].try_into().unwrap());
            assert_eq!(
                (word >> shift) & ((1 << scheme.bits()) - 1),
                scheme.offset() as u32,
                "{column}"
            );
        }
        let source = WeightSource::new(
            vec![&bytes[..rows * row_bytes]],
            SourceType::Quantized(scheme),
            rows,
            columns,
        );
        let values: Vec<f32> = host_values(&source, WeightFormat::F32).unwrap().iter::<f32>().collect();
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / count;
        assert!(values.iter().all(|value| value.abs() <= 0.501));
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((0.9 / 12.0..1.4 / 12.0).contains(&variance), "variance {variance}");
    }
    let weight = kernels::random_weight::<WgpuRuntime, f32, i32, u32>((8, 64), 0.5, WeightFormat::Int4, &device);
    assert_eq!(weight.unwrap().shape(), (8, 64));
}
