//! Weights from the host, rows one after another whatever the runtime's preferred layout.

use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::tensors::tensor;
use crate::definition;
use crate::error::Result;
use crate::layers::{Weight, WeightFormat, WeightSource};

/// See [`ModelBackend::store_weight`](crate::ModelBackend::store_weight).
///
/// # Errors
/// As there.
pub fn store_weight<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    source: &WeightSource<'_>,
    format: WeightFormat,
    device: &R::Device,
) -> Result<Weight<CubeBackend<R, F, I, BT>>> {
    if format == WeightFormat::Bf16 {
        let columns = definition::even_columns(source.rows, source.columns)?;
        let bytes = definition::host_values(source, format)?.into_bytes();
        let words = upload::<R>(bytes, [source.rows, columns / 2], DType::I32, device);
        return Ok(definition::packed(Tensor::from_primitive(words)));
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
