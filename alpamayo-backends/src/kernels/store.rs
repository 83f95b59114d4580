//! Weights from the host, rows one after another whatever the runtime's preferred layout.

use burn::tensor::{Bytes, DType, Int, Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::limits;
use super::tensors::tensor;
use crate::definition;
use crate::error::Result;
use crate::layers::{Weight, WeightFormat, WeightSource};

/// Larger weights are moved in slabs, so that no staging memory of their size is needed.
const SLABBED: usize = 256 << 20;
/// Bytes of a slab.
const SLAB: usize = 64 << 20;

/// See [`ModelBackend::store_weight`](crate::ModelBackend::store_weight).
///
/// # Errors
/// As there.
pub fn store_weight<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    source: &WeightSource<'_>,
    format: WeightFormat,
    device: &R::Device,
) -> Result<Weight<CubeBackend<R, F, I, BT>>> {
    limits::in_parts::<R, _>((source.rows, source.columns), format, device, |rows| {
        store_part(&source.rows(rows)?, format, device)
    })
}

fn store_part<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    source: &WeightSource<'_>,
    format: WeightFormat,
    device: &R::Device,
) -> Result<Weight<CubeBackend<R, F, I, BT>>> {
    if source.rows * format.row_bytes(source.columns) > SLABBED {
        return definition::store_weight_in_slabs(source, format, SLAB, device);
    }
    let words = |bytes: Bytes, words: usize| -> Tensor<CubeBackend<R, F, I, BT>, 2, Int> {
        Tensor::from_primitive(upload::<R>(bytes, [source.rows, words], DType::I32, device))
    };
    if let Some(quantization) = format.quantization() {
        let bytes = definition::quantized_words(source, quantization)?.into_bytes();
        let words = words(bytes, quantization.row_words(source.columns));
        return Ok(definition::quantized(words, source.columns, quantization));
    }
    if format == WeightFormat::Bf16 {
        let columns = definition::even_columns(source.rows, source.columns)?;
        let bytes = definition::host_values(source, format)?.into_bytes();
        return Ok(definition::packed(words(bytes, columns / 2)));
    }
    let bytes = definition::host_values(source, format)?.into_bytes();
    let values = upload::<R>(bytes, [source.rows, source.columns], format.float_dtype(), device);
    Ok(definition::from_values(tensor(values), false))
}

fn upload<R: CubeRuntime>(bytes: Bytes, shape: [usize; 2], dtype: DType, device: &R::Device) -> CubeTensor<R> {
    let client = R::client(device);
    let handle = client.create(bytes);
    CubeTensor::new_contiguous(client, device.clone(), Shape::new(shape), handle, dtype)
}
