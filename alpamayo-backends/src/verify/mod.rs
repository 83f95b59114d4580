//! A self-test: every operation on a device against a host reference in f64, at a model's own shapes.
//!
//! Backends have been reported to multiply wrongly at some shapes; an application can call [`Device::verify`] before it trusts
//! one. Large outputs are compared at sampled elements, so that the released size takes seconds.

mod attention;
mod elementwise;
mod host;
mod linear;
mod sampling;
mod shapes;

pub use shapes::{DecoderShapes, ModelShapes, VisionShapes};

use burn::tensor::Tensor;

use crate::ModelBackend;
use crate::device::{Device, DeviceVisitor};
use crate::error::{Error, Result, catch_panic};
use crate::layers::{CacheFormat, WeightFormat};
use host::Random;

/// One operation at one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The operation's name in [`ModelBackend`].
    pub operation: &'static str,
    /// The shape it was run at.
    pub shape: String,
    /// `‖device - host‖ / ‖host‖` over the compared elements; NaN where the device gave one.
    pub relative_error: f64,
    /// The largest error that passes.
    pub tolerance: f64,
}

impl Check {
    /// Whether the error is within the tolerance. NaN never passes.
    pub fn passed(&self) -> bool {
        self.relative_error <= self.tolerance
    }
}

/// The storage formats that are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// Of the weights.
    pub weight: WeightFormat,
    /// Of the key-value cache.
    pub cache: CacheFormat,
}

impl Formats {
    /// Everything in f32.
    pub const F32: Self = Self {
        weight: WeightFormat::F32,
        cache: CacheFormat::F32,
    };

    /// The relative error that rounding explains: f32 sums, or operands of eight bits.
    fn tolerance(&self) -> f64 {
        match (self.weight, self.cache) {
            (WeightFormat::F32, CacheFormat::F32) => 1e-5,
            _ => 1e-2,
        }
    }
}

impl Device {
    /// Runs every operation at the given shapes and compares it with a host reference.
    ///
    /// # Errors
    /// [`Error::Verification`] naming the first operation that is wrong; or the device can't be opened.
    pub fn verify(self, shapes: &ModelShapes, formats: Formats) -> Result<Vec<Check>> {
        let checks = self.run(Verifier { shapes, formats })??;
        match checks.iter().find(|check| !check.passed()) {
            None => Ok(checks),
            Some(failed) => Err(Error::Verification {
                device: self.to_string(),
                operation: failed.operation,
                shape: failed.shape.clone(),
                relative_error: failed.relative_error,
                tolerance: failed.tolerance,
            }),
        }
    }
}

struct Verifier<'a> {
    shapes: &'a ModelShapes,
    formats: Formats,
}

impl DeviceVisitor for Verifier<'_> {
    type Output = Result<Vec<Check>>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        verify::<B>(self.shapes, self.formats, &device)
    }
}

/// Runs every operation of backend `B` at the given shapes; a check per operation and shape, passed or not.
///
/// # Errors
/// When the backend can't store a format, or fails.
pub fn verify<B: ModelBackend>(shapes: &ModelShapes, formats: Formats, device: &B::Device) -> Result<Vec<Check>> {
    let failed = |message| Error::Device {
        context: "computing every operation".into(),
        message,
    };
    if !B::supports_cache_format(formats.cache, device) {
        return Err(failed(format!(
            "{} stores no {} cache",
            B::name(device),
            formats.cache.name()
        )));
    }
    catch_panic(|| checks::<B>(shapes, formats, device)).map_err(failed)?
}

fn checks<B: ModelBackend>(shapes: &ModelShapes, formats: Formats, device: &B::Device) -> Result<Vec<Check>> {
    let mut bench = Bench::<B> {
        device,
        formats,
        random: Random::new(7),
        checks: Vec::new(),
    };
    elementwise::verify(&mut bench, shapes);
    linear::verify(&mut bench, shapes)?;
    attention::verify(&mut bench, shapes)?;
    sampling::verify(&mut bench, shapes);
    Ok(bench.checks)
}

/// What the verifications of one run share.
struct Bench<'a, B: ModelBackend> {
    device: &'a B::Device,
    formats: Formats,
    random: Random,
    checks: Vec<Check>,
}

impl<B: ModelBackend> Bench<'_, B> {
    /// A random f32 matrix on the host and on the device.
    fn matrix(&mut self, rows: usize, columns: usize, scale: f32) -> (Vec<f32>, Tensor<B, 2>) {
        let values = self.random.values(rows * columns, scale);
        let tensor = host::upload(&values, [rows, columns], self.device);
        (values, tensor)
    }

    /// A random f32 vector around `centre` on the host and on the device.
    fn vector(&mut self, length: usize, centre: f32, scale: f32) -> (Vec<f32>, Tensor<B, 1>) {
        let values: Vec<f32> = self
            .random
            .values(length, scale)
            .iter()
            .map(|value| centre + value)
            .collect();
        let tensor = host::upload(&values, [length], self.device);
        (values, tensor)
    }

    /// Records a comparison of some elements of a device's output with the host's values.
    fn compare(
        &mut self,
        operation: &'static str,
        shape: String,
        tolerance: f64,
        output: Tensor<B, 2>,
        expected: impl IntoIterator<Item = (usize, usize, f64)>,
    ) {
        let [rows, columns] = output.dims();
        let output: Vec<f32> = B::plain_rows(output).into_data().iter::<f32>().collect();
        let (mut difference, mut norm) = (0.0, 0.0);
        for (row, column, value) in expected {
            let actual = if row < rows && column < columns {
                f64::from(output[row * columns + column])
            } else {
                f64::NAN
            };
            difference += (actual - value).powi(2);
            norm += value.powi(2);
        }
        let all_finite = output.iter().all(|value| value.is_finite());
        let relative_error = if all_finite {
            (difference / norm.max(f64::MIN_POSITIVE)).sqrt()
        } else {
            f64::NAN
        };
        self.checks.push(Check {
            operation,
            shape,
            relative_error,
            tolerance,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_every_operation_as_defined() {
        let checks = Device::new(crate::BackendKind::Cpu)
            .verify(&ModelShapes::small(), Formats::F32)
            .unwrap();
        for operation in [
            "normalize",
            "lookup_host_rows",
            "project",
            "norm_gate_up",
            "project_add_norm_project",
            "project_add_norm_gate_up",
            "prefill_attention",
            "expert_attention",
            "fourier_features",
        ] {
            assert!(
                checks.iter().any(|check| check.operation == operation),
                "{operation} was not checked"
            );
        }
    }

    #[cfg(feature = "candle")]
    #[test]
    fn candle_computes_every_operation_as_defined() {
        for weight in WeightFormat::ALL {
            let formats = Formats {
                weight,
                cache: CacheFormat::F32,
            };
            Device::new(crate::BackendKind::Candle)
                .verify(&ModelShapes::small(), formats)
                .unwrap();
        }
    }

    /// Heads of sizes that no attention kernel takes: the definitions run on the GPU.
    #[cfg(feature = "wgpu")]
    #[test]
    fn heads_that_no_kernel_takes_are_computed_as_defined() {
        let mut shapes = ModelShapes::small();
        shapes.vision.hidden_size = 48;
        (
            shapes.vision.attention.num_heads,
            shapes.vision.attention.num_key_value_heads,
        ) = (4, 4);
        shapes.vision.attention.head_dim = 12;
        (shapes.text.attention.head_dim, shapes.expert.attention.head_dim) = (20, 20);
        let checks = verify::<crate::instances::Wgpu>(&shapes, Formats::F32, &Default::default()).unwrap();
        for check in &checks {
            assert!(check.passed(), "{check:?}");
        }
        let attentions = checks.iter().filter(|check| check.operation.ends_with("_attention"));
        assert_eq!(attentions.count(), 4);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn packed_weights_are_read_exactly() {
        for weight in [WeightFormat::Bf16, WeightFormat::Int8, WeightFormat::Int4] {
            let formats = Formats {
                weight,
                cache: CacheFormat::F32,
            };
            let checks = verify::<crate::instances::Flex>(&ModelShapes::small(), formats, &Default::default()).unwrap();
            for check in checks {
                assert!(check.relative_error < 1e-5, "{check:?}");
            }
        }
    }

    #[test]
    fn impossible_shapes_are_an_error_and_no_panic() {
        let mut shapes = ModelShapes::small();
        shapes.text.attention.num_key_value_heads = 5;
        let result = Device::new(crate::BackendKind::Cpu).verify(&shapes, Formats::F32);
        assert!(matches!(result, Err(Error::Device { .. })), "{result:?}");
    }

    #[test]
    fn a_wrong_operation_is_named() {
        let check = Check {
            operation: "project",
            shape: "1".into(),
            relative_error: f64::NAN,
            tolerance: 1.0,
        };
        assert!(!check.passed());
    }
}
