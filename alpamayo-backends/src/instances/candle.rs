//! Candle, on its CPU, CUDA and Metal devices.
//!
//! What its Burn backend does badly, and what is done about it here:
//! - a matrix that isn't contiguous is copied on every product: weights are stored with their input features first;
//! - its CPU has no bf16 product: bf16 weights are widened for each product there;
//! - what it takes from the host, turns or puts in order it copies: large weights are stored in parts;
//! - assigning to a slice copies the tensor, and so does a product with a part of one: the prompt's cache is replaced whole and
//!   read where it lies, and only the short suffix is copied for every token;
//! - its GELU is the tanh form, its booleans can't come from the host: the definitions use neither.
#![allow(
    deprecated,
    reason = "burn-candle is deprecated as of 0.21, the release this project is built on"
)]

use burn::tensor::{DType, Tensor};
use burn_candle::CandleDevice;

use crate::ModelBackend;
use crate::definition;
use crate::device::{BackendKind, Device, Found};
use crate::error::{Error, Result};
use crate::layers::{Activation, Linear, Weight, WeightFormat, WeightSource};

/// Bytes of a weight's part. Candle copies a weight when it takes it, turns it and puts it in order.
const PART: usize = 128 << 20;

/// Candle with f32 activations.
pub type Candle = burn_candle::Candle<f32, i64>;

impl ModelBackend for Candle {
    fn store_weight(source: &WeightSource<'_>, format: WeightFormat, device: &CandleDevice) -> Result<Weight<Self>> {
        in_parts(source, format, |part| {
            let values = definition::host_values(part, format)?;
            let values = Tensor::<Self, 2>::from_data(values, (device, format.float_dtype()));
            Ok(definition::from_values(contiguous(values.transpose()), true))
        })
    }

    fn store_table(source: &WeightSource<'_>, format: WeightFormat, device: &CandleDevice) -> Result<Weight<Self>> {
        in_parts(source, format, |part| {
            let values = definition::host_values(part, format)?;
            let values = Tensor::from_data(values, (device, format.float_dtype()));
            Ok(definition::from_values(values, false))
        })
    }

    fn random_weight(
        shape: (usize, usize),
        amplitude: f64,
        format: WeightFormat,
        device: &CandleDevice,
    ) -> Result<Weight<Self>> {
        let values = definition::uniform([shape.1, shape.0], amplitude, device).cast(format.float_dtype());
        Ok(definition::from_values(values, true))
    }

    fn project(x: Tensor<Self, 2>, linear: &Linear<Self>, activation: Activation) -> Tensor<Self, 2> {
        let half = match &linear.weight {
            Weight::Float(weight) if weight.values.dtype() == DType::BF16 && weight.transposed => weight,
            _ => return definition::project(x, linear, activation),
        };
        if matches!(x.device(), CandleDevice::Cpu) {
            return definition::project(x, linear, activation);
        }
        let product = x.cast(DType::BF16).matmul(half.values.val()).cast(DType::F32);
        definition::finish(product, linear, activation)
    }
}

/// A weight in as many parts as keep what is copied on the way small.
fn in_parts(
    source: &WeightSource<'_>,
    format: WeightFormat,
    store: impl Fn(&WeightSource<'_>) -> Result<Weight<Candle>>,
) -> Result<Weight<Candle>> {
    let rows = PART / format.float_dtype().size() / source.columns.max(1);
    let parts = source.slabs(rows).map(|part| store(&part?));
    Ok(Weight::from_parts(parts.collect::<Result<_>>()?))
}

/// The tensor in row-major order. Candle's reshape keeps the strides of a transposed tensor, an addition doesn't.
fn contiguous(tensor: Tensor<Candle, 2>) -> Tensor<Candle, 2> {
    let [rows, columns] = tensor.dims();
    Tensor::cat(
        vec![
            tensor.clone().narrow(0, 0, rows / 2),
            tensor.narrow(0, rows / 2, rows - rows / 2),
        ],
        0,
    )
    .reshape([rows, columns])
}

/// The Candle devices of this build and machine.
pub(crate) fn list(kind: BackendKind) -> Vec<Found> {
    match kind {
        BackendKind::Candle => vec![Found::new(kind, 0, "CPU, Candle")],
        BackendKind::CandleCuda | BackendKind::CandleMetal if kind.is_compiled() => (0..8)
            .map_while(|index| {
                open(Device { kind, index })
                    .ok()
                    .map(|_| Found::new(kind, index, "GPU, Candle"))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Opens a Candle device. Candle panics where there is none; that becomes an error.
pub(crate) fn open(device: Device) -> Result<CandleDevice> {
    let index = device.index;
    let opened = std::panic::catch_unwind(|| match device.kind {
        #[cfg(feature = "candle-cuda")]
        BackendKind::CandleCuda => CandleDevice::cuda(index),
        #[cfg(feature = "candle-metal")]
        BackendKind::CandleMetal => CandleDevice::metal(index),
        _ => CandleDevice::Cpu,
    });
    opened.map_err(|_| Error::Device {
        context: format!("opening {device}"),
        message: format!("Candle found no device {index}"),
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::layers::SourceType;

    const ROWS: usize = 7;
    const COLUMNS: usize = 10;

    /// Values that every float format holds.
    fn values() -> Vec<f32> {
        (0..ROWS * COLUMNS)
            .map(|index| ((index * 37) % 64) as f32 / 32.0 - 1.0)
            .collect()
    }

    fn stored(format: WeightFormat) -> Linear<Candle> {
        let bytes: Vec<u8> = values().iter().flat_map(|value| value.to_le_bytes()).collect();
        let source = WeightSource::new(vec![&bytes], SourceType::F32, ROWS, COLUMNS);
        Linear::new(Candle::store_weight(&source, format, &CandleDevice::Cpu).unwrap(), None)
    }

    fn row(values: Vec<f32>) -> Tensor<Candle, 2> {
        let columns = values.len();
        Tensor::from_data(TensorData::new(values, [1, columns]), (&CandleDevice::Cpu, DType::F32))
    }

    #[test]
    fn weights_are_stored_as_products_read_them() {
        for format in [
            WeightFormat::F32,
            WeightFormat::F16,
            WeightFormat::Bf16,
            WeightFormat::Int8,
        ] {
            let linear = stored(format);
            let Weight::Float(weight) = &linear.weight else {
                panic!("Candle stores floats")
            };
            assert_eq!(weight.values.dims(), [COLUMNS, ROWS], "input features come first");
            assert!(weight.transposed);
        }
    }

    #[test]
    fn halves_multiply_on_the_cpu() {
        let x: Vec<f32> = (0..COLUMNS).map(|index| index as f32 - 4.5).collect();
        let expected: Vec<f32> = values()
            .chunks(COLUMNS)
            .map(|weights| weights.iter().zip(&x).map(|(weight, x)| weight * x).sum())
            .collect();
        for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16] {
            let output = Candle::project(row(x.clone()), &stored(format), Activation::None);
            for (output, expected) in output.into_data().iter::<f32>().zip(&expected) {
                assert!(
                    (output - expected).abs() < 1e-5,
                    "{format:?}: {output} is not {expected}"
                );
            }
        }
    }

    #[test]
    fn the_error_functions_gelu_is_not_the_tanh_form() {
        let output = |activation| {
            let data = definition::activate(row(vec![-2.0, 1.0, 3.0]), activation).into_data();
            data.iter::<f32>().collect::<Vec<f32>>()
        };
        // x Φ(x), from tables of the normal distribution.
        let expected = [-0.045_500_26, 0.841_344_8, 2.995_950_3];
        for (output, expected) in output(Activation::GeluErf).iter().zip(expected) {
            assert!((output - expected).abs() < 1e-6, "{output} is not {expected}");
        }
        assert!((output(Activation::GeluTanh)[0] - expected[0]).abs() > 5e-5);
    }
}
