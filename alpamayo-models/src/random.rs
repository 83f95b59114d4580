//! Random parameters, made on the device: for measuring at any size without a checkpoint.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Linear, Norm, RmsNorm, Weight, WeightFormat};
use burn::tensor::Tensor;

use crate::error::Result;
use crate::parameters::ParameterSource;
use crate::storage::stored_format;

/// A source of random parameters.
///
/// Weights are uniform with a variance of one over their inputs, so that activations keep their size; norms are ones, biases zeros.
#[derive(Debug)]
pub struct RandomParameters<'a, B: ModelBackend> {
    device: &'a B::Device,
    format: WeightFormat,
}

impl<'a, B: ModelBackend> RandomParameters<'a, B> {
    /// Random parameters on `device`, weights stored in `format`.
    pub fn new(device: &'a B::Device, format: WeightFormat) -> Self {
        Self { device, format }
    }

    /// A random weight in memory of its own, as an import's: a pool's pages would be larger than what lies in them.
    fn weight(&self, field: &str, rows: usize, columns: usize, amplitude: f64) -> Result<Weight<B>> {
        let format = stored_format(field, self.format);
        Ok(B::memory_persistent_allocations(self.device, (), |()| {
            B::random_weight((rows, columns), amplitude, format, self.device)
        })?)
    }

    fn zeros(&self, features: usize) -> Tensor<B, 1> {
        Tensor::zeros([features], self.device)
    }

    fn ones(&self, features: usize) -> Tensor<B, 1> {
        Tensor::ones([features], self.device)
    }
}

impl<B: ModelBackend> ParameterSource<B> for RandomParameters<'_, B> {
    fn linear(&mut self, field: &str, in_features: usize, out_features: &[usize], bias: bool) -> Result<Linear<B>> {
        let rows: usize = out_features.iter().sum();
        let amplitude = (3.0 / in_features.max(1) as f64).sqrt();
        let weight = self.weight(field, rows, in_features, amplitude)?;
        Ok(Linear::new(weight, bias.then(|| self.zeros(rows))))
    }

    fn embedding(&mut self, field: &str, rows: usize, features: usize) -> Result<Weight<B>> {
        self.weight(field, rows, features, 1.0)
    }

    fn rms_norm(&mut self, _field: &str, features: usize, epsilon: f64) -> Result<RmsNorm<B>> {
        Ok(RmsNorm::new(self.ones(features), epsilon))
    }

    fn layer_norm(&mut self, _field: &str, features: usize, epsilon: f64) -> Result<Norm<B>> {
        Ok(Norm::layer(self.ones(features), self.zeros(features), epsilon))
    }

    fn buffer(&mut self, _field: &str, _length: usize) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    fn device(&self) -> &B::Device {
        self.device
    }
}
