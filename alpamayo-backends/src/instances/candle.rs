//! Candle, on its CPU, CUDA and Metal devices.
//!
//! What its Burn backend does badly, and what is done about it here:
//! - a matrix that isn't contiguous is copied on every product: weights are stored with their input features first;
//! - its CPU has no bf16 product: bf16 weights are widened for each product there;
//! - what it takes from the host, turns or puts in order it copies: large weights are stored in parts;
//! - assigning to a slice copies the tensor, and so does a product with a part of one: the prompt's cache is replaced whole and
//!   read where it lies, and only the short suffix is copied for every token;
//! - its GELU is the tanh form, its booleans can't come from the host, it has no bits of integers and no convolution of three
//!   dimensions: the definitions use none of them, and few bits are stored as floats.
#![allow(
    deprecated,
    reason = "burn-candle is deprecated as of 0.21, the release this project is built on"
)]

use burn::tensor::{DType, Tensor};
use burn_candle::CandleDevice;

#[cfg(feature = "candle-cuda")]
use super::candle_cuda;
use crate::ModelBackend;
use crate::definition;
use crate::device::{BackendKind, Device, Found};
use crate::error::{Error, Result, catch_panic};
use crate::layers::{Activation, Linear, Weight, WeightFormat, WeightSource};

/// Bytes of a weight's part. Candle copies a weight when it takes it, turns it and puts it in order: on the CPU, beside the whole model
/// in the same memory. A GPU has room for copies of the largest weight, and every part costs a product of its own.
fn part_bytes(device: &CandleDevice) -> usize {
    match device {
        CandleDevice::Cpu => 128 << 20,
        _ => GPU_PART,
    }
}

const GPU_PART: usize = 2 << 30;

/// Candle with f32 activations.
pub type Candle = burn_candle::Candle<f32, i64>;

impl ModelBackend for Candle {
    fn store_weight(source: &WeightSource<'_>, format: WeightFormat, device: &CandleDevice) -> Result<Weight<Self>> {
        in_parts(source, format, part_bytes(device), |part| {
            let values = definition::host_values(part, format)?;
            let values = Tensor::<Self, 2>::from_data(values, (device, format.float_dtype()));
            Ok(definition::from_values(contiguous(values.transpose()), true))
        })
    }

    fn store_table(source: &WeightSource<'_>, format: WeightFormat, device: &CandleDevice) -> Result<Weight<Self>> {
        in_parts(source, format, part_bytes(device), |part| {
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

    fn default_weight_format(device: &CandleDevice) -> WeightFormat {
        match device {
            CandleDevice::Cpu => WeightFormat::F32,
            _ => WeightFormat::Bf16,
        }
    }

    #[cfg(feature = "candle-cuda")]
    fn reserved_memory(device: &CandleDevice) -> Option<u64> {
        match device {
            CandleDevice::Cuda(device) => candle_cuda::reserved_memory(device.index).ok(),
            _ => None,
        }
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
    part_bytes: usize,
    store: impl Fn(&WeightSource<'_>) -> Result<Weight<Candle>>,
) -> Result<Weight<Candle>> {
    let rows = part_bytes / format.float_dtype().size() / source.columns.max(1);
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
        #[cfg(feature = "candle-cuda")]
        BackendKind::CandleCuda => candle_cuda::list(),
        BackendKind::CandleMetal if kind.is_compiled() => (0..8)
            .map_while(|index| {
                open(Device { kind, index })
                    .ok()
                    .map(|_| Found::new(kind, index, "GPU, Candle"))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Opens a Candle device. Candle panics where there is no such Metal device; that becomes an error.
pub(crate) fn open(device: Device) -> Result<CandleDevice> {
    let opened = catch_panic(|| match device.kind {
        BackendKind::CandleCuda => candle_core::Device::new_cuda(device.index),
        BackendKind::CandleMetal => candle_core::Device::new_metal(device.index),
        _ => Ok(candle_core::Device::Cpu),
    });
    let opened = opened.and_then(|opened| opened.map_err(|error| error.to_string()));
    #[cfg(feature = "candle-cuda")]
    if matches!(opened, Ok(candle_core::Device::Cuda(_))) {
        // A driver without pools has nothing to keep.
        let _ = candle_cuda::keep_freed_memory(device.index);
    }
    opened.map(CandleDevice::from).map_err(|message| Error::Device {
        context: format!("opening {device}"),
        message,
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::{ConvOptions, InterpolateMode, InterpolateOptions};
    use burn::tensor::{Bool, Int, TensorData, module};

    use super::*;
    use crate::layers::{CacheFormat, SourceType};

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
        for format in WeightFormat::ALL {
            let linear = stored(format);
            let Weight::Float(weight) = &linear.weight else {
                panic!("Candle stores floats")
            };
            assert_eq!(weight.values.dims(), [COLUMNS, ROWS], "input features come first");
            assert!(weight.transposed);
        }
    }

    #[test]
    fn parts_are_the_whole_weight() {
        let bytes: Vec<u8> = values().iter().flat_map(|value| value.to_le_bytes()).collect();
        let source = WeightSource::new(vec![&bytes], SourceType::F32, ROWS, COLUMNS);
        let part_bytes = 3 * COLUMNS * size_of::<f32>();
        let whole = |part: &WeightSource<'_>| Candle::store_weight(part, WeightFormat::F32, &CandleDevice::Cpu);
        let parts = in_parts(&source, WeightFormat::F32, part_bytes, whole).unwrap();
        let Weight::Split(split) = &parts else {
            panic!("a part holds three rows")
        };
        assert_eq!(split.weights().len(), ROWS.div_ceil(3));
        assert_eq!(
            definition::float_weight(&parts).into_data().to_vec::<f32>().unwrap(),
            values()
        );
        let x: Vec<f32> = (0..COLUMNS).map(|index| index as f32).collect();
        let project = |weight| Candle::project(row(x.clone()), &Linear::new(weight, None), Activation::None);
        let whole = stored(WeightFormat::F32).weight;
        assert_eq!(project(parts).into_data(), project(whole).into_data());
    }

    #[test]
    fn a_prompts_cache_is_replaced_and_a_suffix_copied() {
        const SHAPE: [usize; 4] = [2, 3, 5, 4];
        for format in [CacheFormat::F32, CacheFormat::Bf16] {
            let options = (&CandleDevice::Cpu, format.dtype());
            // As attention hands them over: heads are put before tokens without moving anything.
            let values = |tokens: usize| {
                let [rows, heads, _, features] = SHAPE;
                let count = (rows * heads * tokens * features) as i64;
                let values = Tensor::<Candle, 1, Int>::arange(0..count, &CandleDevice::Cpu);
                let values = values.float().reshape([rows, tokens, heads, features]);
                values.swap_dims(1, 2)
            };
            let numbers = |x: Tensor<Candle, 4>| x.into_data().iter::<f32>().collect::<Vec<f32>>();

            let mut prompt = Tensor::<Candle, 4>::zeros(SHAPE, options);
            Candle::write_cache(&mut prompt, values(SHAPE[2]), 0);
            assert_eq!(prompt.dtype(), format.dtype());
            assert_eq!(numbers(prompt), numbers(values(SHAPE[2])));

            let mut suffix = Tensor::<Candle, 4>::zeros(SHAPE, options);
            let before = suffix.clone();
            Candle::write_cache(&mut suffix, values(2), 1);
            assert_eq!(suffix.dtype(), format.dtype());
            assert_eq!(numbers(suffix.clone().narrow(2, 1, 2)), numbers(values(2)));
            for (start, length) in [(0, 1), (3, 2)] {
                assert!(
                    numbers(suffix.clone().narrow(2, start, length))
                        .iter()
                        .all(|&x| x == 0.0)
                );
            }
            assert!(numbers(before).iter().all(|&x| x == 0.0), "a cache is not shared");
        }
    }

    /// What Candle can't do and nothing here asks of it: the model's own operations are verified in every format elsewhere.
    #[test]
    fn what_candle_lacks_is_still_lacking() {
        let device = CandleDevice::Cpu;
        let ones = |dtype| Tensor::<Candle, 2>::ones([2, 2], (&device, dtype));
        assert!(catch_panic(|| ones(DType::BF16).matmul(ones(DType::BF16))).is_err());
        let booleans = TensorData::from([true, false]);
        assert!(catch_panic(|| Tensor::<Candle, 1, Bool>::from_data(booleans, &device)).is_err());
        assert!(catch_panic(|| Tensor::<Candle, 1, Int>::ones([2], &device).bitwise_and_scalar(1)).is_err());
        let volume = Tensor::<Candle, 5>::ones([1, 1, 2, 2, 2], &device);
        let options = ConvOptions::new([1; 3], [0; 3], [1; 3], 1);
        assert!(catch_panic(|| module::conv3d(volume.clone(), volume.clone(), None, options)).is_err());
        let image = Tensor::<Candle, 4>::ones([1, 1, 2, 2], &device);
        let bicubic = InterpolateOptions::new(InterpolateMode::Bicubic);
        assert!(catch_panic(|| module::interpolate(image, [4, 4], bicubic)).is_err());
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
