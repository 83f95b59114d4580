//! Moving a large weight to the device piece by piece.

use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};

use super::host::{even_columns, host_values, packed_words};
use super::quantize::quantized_words;
use super::weight::{from_values, packed, quantized};
use crate::error::{Error, Result};
use crate::layers::{Weight, WeightFormat, WeightSource};

/// As [`store_weight`](super::store_weight), in slabs of rows that take about `slab_bytes` on the host each, waiting for the device
/// after each: an embedding table of over a gigabyte never lies on the host as a whole.
///
/// Worth it only for large weights, where the device's memory is not the host's, and where assigning to a slice of a tensor
/// happens in place. The stored matrix is contiguous.
///
/// # Errors
/// As there, and when the device fails.
pub fn store_weight_in_slabs<B: Backend>(
    source: &WeightSource<'_>,
    format: WeightFormat,
    slab_bytes: usize,
    device: &B::Device,
) -> Result<Weight<B>> {
    let (rows, columns) = (source.rows, source.columns);
    let slab_rows = (slab_bytes / format.row_bytes(columns).max(1)).max(1);
    if let Some(quantization) = format.quantization() {
        let words = quantization.row_words(columns);
        let convert = |rows: &WeightSource<'_>| quantized_words(rows, quantization);
        let tensor = words_in_slabs(source, slab_rows, words, convert, device)?;
        return Ok(quantized(tensor, columns, quantization));
    }
    if format == WeightFormat::Bf16 {
        let words = even_columns(rows, columns)? / 2;
        let tensor = words_in_slabs(source, slab_rows, words, packed_words, device)?;
        return Ok(packed(tensor));
    }
    let dtype = format.float_dtype();
    let mut tensor = Tensor::<B, 1>::empty([rows * columns], (device, dtype));
    let mut start = 0;
    for slab in source.slabs(slab_rows) {
        let slab = slab?;
        let data = TensorData {
            shape: [slab.rows * columns].into(),
            ..host_values(&slab, format)?
        };
        let place = start..start + slab.rows * columns;
        start = place.end;
        tensor = tensor.slice_assign([place], Tensor::from_data(data, (device, dtype)));
        wait::<B>(device)?;
    }
    Ok(from_values(tensor.reshape([rows, columns]), false))
}

/// Rows of `words` 32-bit words each, `[rows, words]`. In one dimension no backend pads rows.
fn words_in_slabs<B: Backend>(
    source: &WeightSource<'_>,
    slab_rows: usize,
    words: usize,
    convert: impl Fn(&WeightSource<'_>) -> Result<TensorData>,
    device: &B::Device,
) -> Result<Tensor<B, 2, Int>> {
    let mut tensor = Tensor::<B, 1, Int>::empty([source.rows * words], (device, DType::I32));
    let mut start = 0;
    for slab in source.slabs(slab_rows) {
        let slab = slab?;
        let data = TensorData {
            shape: [slab.rows * words].into(),
            ..convert(&slab)?
        };
        let place = start..start + slab.rows * words;
        start = place.end;
        tensor = tensor.slice_assign([place], Tensor::from_data(data, (device, DType::I32)));
        wait::<B>(device)?;
    }
    Ok(tensor.reshape([source.rows, words]))
}

fn wait<B: Backend>(device: &B::Device) -> Result<()> {
    B::sync(device).map_err(|error| Error::Device {
        context: "storing a weight".into(),
        message: error.to_string(),
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ModelBackend;
    use crate::definition::float_weight;
    use crate::instances::Flex;
    use crate::layers::SourceType;

    proptest! {
        #[test]
        fn slabs_store_the_same_weight(
            rows in 1..20usize, words in 1..6usize, cut in 0..20usize, slab_bytes in 0..200usize, bits in any::<u16>(),
        ) {
            let columns = 2 * words;
            let bytes: Vec<u8> = (0..rows * columns)
                .flat_map(|element| half::bf16::from_f32(element as f32 + f32::from(bits % 7)).to_le_bytes())
                .collect();
            let cut = cut.min(rows) * columns * 2;
            let source =
                WeightSource::new(vec![&bytes[..cut], &bytes[cut..]], SourceType::Bf16, rows, columns);
            let device = Default::default();
            for format in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8, WeightFormat::Int4] {
                let whole = Flex::store_weight(&source, format, &device).unwrap();
                let slabs = store_weight_in_slabs::<Flex>(&source, format, slab_bytes, &device).unwrap();
                prop_assert_eq!(slabs.shape(), (rows, columns));
                prop_assert_eq!(float_weight(&slabs).into_data(), float_weight(&whole).into_data());
            }
        }
    }
}
