//! The host's side: random values and reference arithmetic in f64.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use half::bf16;

use crate::layers::Attention;

/// Reproducible values without a dependency: a 64-bit linear congruential generator's upper bits.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Uniform in ±`scale`, representable in bf16 so that every weight format holds them exactly.
    pub(super) fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count)
            .map(|_| bf16::from_f32((self.next() as f32 / (1_u64 << 30) as f32 - 1.0) * scale).to_f32())
            .collect()
    }

    /// `count` of the indices below `length`, with the first and the last.
    pub(super) fn sample(&mut self, length: usize, count: usize) -> Vec<usize> {
        if length <= count {
            return (0..length).collect();
        }
        let mut indices: Vec<usize> = (2..count).map(|_| self.next() as usize % length).collect();
        indices.extend([0, length - 1]);
        indices
    }
}

/// Values as an f32 tensor on the device.
pub(super) fn upload<B: Backend, const D: usize>(
    values: &[f32],
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (device, DType::F32))
}

/// The dot product of two slices.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// `x · sigmoid(x)`.
pub(super) fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// GELU by its tanh approximation.
pub(super) fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// GELU by the error function, whose Taylor series converges fast for the small arguments used here.
pub(super) fn gelu_erf(x: f64) -> f64 {
    let z = x * std::f64::consts::FRAC_1_SQRT_2;
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        let n = f64::from(n);
        term *= -z * z / n;
        sum += term / (2.0 * n + 1.0);
    }
    0.5 * x * (1.0 + sum * std::f64::consts::FRAC_2_SQRT_PI)
}

/// RMSNorm of one row, in f32 as the products read it.
pub(super) fn rms_norm(row: &[f32], weight: &[f32], epsilon: f64) -> Vec<f32> {
    let scale = (dot(row, row) / row.len() as f64 + epsilon).sqrt().recip();
    row.iter()
        .zip(weight)
        .map(|(&x, &w)| (f64::from(x) * scale * f64::from(w)) as f32)
        .collect()
}

/// LayerNorm of one row.
pub(super) fn layer_norm(row: &[f32], weight: &[f32], bias: &[f32], epsilon: f64) -> Vec<f32> {
    let count = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    let scale = (variance + epsilon).sqrt().recip();
    let normalised = row.iter().map(|&x| (f64::from(x) - mean) * scale);
    normalised
        .zip(weight)
        .zip(bias)
        .map(|((x, &w), &b)| (x * f64::from(w) + f64::from(b)) as f32)
        .collect()
}

/// A head rotated by its token's angles.
pub(super) fn rotate(head: &[f32], cos: &[f32], sin: &[f32]) -> Vec<f32> {
    let half = head.len() / 2;
    let at = |i: usize| f64::from(head[i]);
    let angle = |j: usize| (f64::from(cos[j]), f64::from(sin[j]));
    let first = (0..half).map(|j| at(j) * angle(j).0 - at(j + half) * angle(j).1);
    let second = (0..half).map(|j| at(j + half) * angle(j).0 + at(j) * angle(j).1);
    first.chain(second).map(|x| x as f32).collect()
}

/// Softmax attention of one query over the given keys and values.
pub(super) fn attend(query: &[f32], keys: &[&[f32]], values: &[&[f32]]) -> Vec<f64> {
    let scale = (query.len() as f64).powf(-0.5);
    let scores: Vec<f64> = keys.iter().map(|key| dot(query, key) * scale).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let component = |d: usize| {
        weights
            .iter()
            .zip(values)
            .map(|(w, value)| w * f64::from(value[d]))
            .sum::<f64>()
            / total
    };
    (0..query.len()).map(component).collect()
}

/// Where a head's features stand in a fused `q | k | v` row.
pub(super) fn head_of(row: &[f32], part: usize, head: usize, attention: &Attention) -> Vec<f32> {
    let before = match part {
        0 => 0,
        1 => attention.num_heads,
        _ => attention.num_heads + attention.num_key_value_heads,
    };
    let start = (before + head) * attention.head_dim;
    row[start..start + attention.head_dim].to_vec()
}
