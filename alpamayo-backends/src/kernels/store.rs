//! Weights from the host, rows one after another whatever the runtime's preferred layout.

use burn::tensor::{Bytes, DType, Int, Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use cubecl::server::Handle;

use super::limits;
use super::tensors::tensor;
use crate::definition;
use crate::error::Result;
use crate::instances::KernelRuntime;
use crate::layers::{Weight, WeightFormat, WeightSource};

/// Larger weights are moved in slabs, so that no staging memory of their size is needed.
const SLABBED: usize = 256 << 20;
/// Bytes of a slab.
const SLAB: usize = 64 << 20;

/// See [`ModelBackend::store_weight`](crate::ModelBackend::store_weight).
///
/// # Errors
/// As there.
pub fn store_weight<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    source: &WeightSource<'_>,
    format: WeightFormat,
    device: &R::Device,
) -> Result<Weight<CubeBackend<R, F, I, BT>>> {
    limits::in_parts::<R, _>((source.rows, source.columns), format, device, |rows| {
        store_part(&source.rows(rows)?, format, device)
    })
}

fn store_part<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    source: &WeightSource<'_>,
    format: WeightFormat,
    device: &R::Device,
) -> Result<Weight<CubeBackend<R, F, I, BT>>> {
    let client = R::client(device);
    let words = |handle: Handle, words: usize| -> Tensor<CubeBackend<R, F, I, BT>, 2, Int> {
        let shape = Shape::new([source.rows, words]);
        let words = CubeTensor::new_contiguous(client.clone(), device.clone(), shape, handle, DType::I32);
        Tensor::from_primitive(words)
    };
    let create = |bytes: Bytes| {
        let moved = R::upload(&client, device, bytes.len(), &mut std::iter::once(&*bytes));
        moved.unwrap_or_else(|| client.create(bytes))
    };
    let move_as_it_is = || {
        let slabs = source.slabs(source.rows_of(SLAB)).flatten();
        let bytes = source.rows * source.source_type.row_bytes(source.columns);
        R::upload(&client, device, bytes, &mut slabs.flat_map(|slab| slab.pieces))
    };
    let as_it_is = definition::is_stored_as_it_is(source, format)?;
    let moved = as_it_is.then(move_as_it_is).flatten();
    if moved.is_none() && source.rows * format.row_bytes(source.columns) > SLABBED {
        return definition::store_weight_in_slabs(source, format, SLAB, device);
    }
    if let Some(quantization) = format.quantization() {
        let handle = match moved {
            Some(handle) => handle,
            None => create(definition::quantized_words(source, quantization)?.into_bytes()),
        };
        let words = words(handle, quantization.row_words(source.columns));
        return Ok(definition::quantized(words, source.columns, quantization));
    }
    let handle = match moved {
        Some(handle) => handle,
        None => create(definition::host_values(source, format)?.into_bytes()),
    };
    if format == WeightFormat::Bf16 {
        return Ok(definition::packed(words(handle, source.columns / 2)));
    }
    let shape = Shape::new([source.rows, source.columns]);
    let values = CubeTensor::new_contiguous(client, device.clone(), shape, handle, format.float_dtype());
    Ok(definition::from_values(tensor(values), false))
}
