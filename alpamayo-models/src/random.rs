//! Random parameters, made on the device: for measuring at any size without a checkpoint.

use std::sync::Arc;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Linear, Norm, RmsNorm, SourceType, Weight, WeightFormat};
use burn::tensor::Tensor;
use half::bf16;
use rayon::prelude::*;

use crate::error::Result;
use crate::parameters::ParameterSource;
use crate::storage::stored_format;
use crate::token_table::{HostTable, TablePlacement, TokenTable};

/// A source of random parameters.
///
/// Weights are uniform with a variance of one over their inputs, so that activations keep their size; norms are ones, biases zeros.
#[derive(Debug)]
pub struct RandomParameters<'a, B: ModelBackend> {
    device: &'a B::Device,
    format: WeightFormat,
    token_table: TablePlacement,
}

impl<'a, B: ModelBackend> RandomParameters<'a, B> {
    /// Random parameters on `device`, weights stored in `format`.
    pub fn new(device: &'a B::Device, format: WeightFormat) -> Self {
        Self {
            device,
            format,
            token_table: TablePlacement::Device,
        }
    }

    /// The source, with the token embeddings kept there.
    pub fn with_token_table(self, placement: TablePlacement) -> Self {
        Self {
            token_table: placement,
            ..self
        }
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

    fn token_table(&mut self, field: &str, rows: usize, features: usize) -> Result<TokenTable<B>> {
        match self.token_table {
            TablePlacement::Device => self.embedding(field, rows, features).map(TokenTable::Device),
            TablePlacement::Host => {
                let bytes = Arc::new(random_bf16(rows * features));
                let format = stored_format(field, self.format);
                let table = HostTable::new(bytes, SourceType::Bf16, [rows, features], format)?;
                Ok(TokenTable::Host(table.shared_with::<B>(self.device)))
            }
        }
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

/// Bytes of so many bf16 values, uniform in ±1, made by all cores.
fn random_bf16(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; 2 * count];
    bytes
        .par_chunks_mut(8)
        .enumerate()
        .with_min_len(1 << 16)
        .for_each(|(number, values)| {
            let mut bits = mixed(number as u64);
            for value in values.chunks_exact_mut(2) {
                let uniform = f32::from(bits as i16) / 32_768.0;
                value.copy_from_slice(&bf16::from_f32(uniform).to_le_bytes());
                bits >>= 16;
            }
        });
    bytes
}

/// SplitMix64's number of that index.
fn mixed(index: u64) -> u64 {
    let mut bits = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
