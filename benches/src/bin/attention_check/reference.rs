//! Attention of single queries on the host in f64.

use alpamayo_backends::layers::Attention;

/// Fused rows with their rotation tables, on the host.
pub struct HostRows {
    pub qkv: Vec<f32>,
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
    pub attention: Attention,
    /// Whether heads are normalised (weights one).
    pub norm: bool,
}

impl HostRows {
    /// Head `head` of part 0 (query), 1 (key) or 2 (value) of a token, normalised and rotated.
    pub fn head(&self, token: usize, part: usize, head: usize) -> Vec<f64> {
        let Attention {
            num_heads,
            num_key_value_heads,
            head_dim,
        } = self.attention;
        let first = [0, num_heads, num_heads + num_key_value_heads][part] + head;
        let start = token * self.attention.qkv_features() + first * head_dim;
        let mut x: Vec<f64> = self.qkv[start..start + head_dim]
            .iter()
            .map(|x| f64::from(*x))
            .collect();
        if part == 2 {
            return x;
        }
        if self.norm {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / head_dim as f64;
            let factor = (mean + 1e-6).sqrt().recip();
            x.iter_mut().for_each(|x| *x *= factor);
        }
        let half = head_dim / 2;
        for j in 0..half {
            let (cos, sin) = (
                f64::from(self.cos[token * half + j]),
                f64::from(self.sin[token * half + j]),
            );
            let (first, second) = (x[j], x[j + half]);
            x[j] = first * cos - second * sin;
            x[j + half] = second * cos + first * sin;
        }
        x
    }
}

/// Softmax attention of one query over keys and values.
pub fn attend(query: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
    let scale = (query.len() as f64).powf(-0.5);
    let scores: Vec<f64> = keys
        .iter()
        .map(|key| scale * key.iter().zip(query).map(|(k, q)| k * q).sum::<f64>())
        .collect();
    let most = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut output = vec![0.0; query.len()];
    for (weight, value) in weights.iter().zip(values) {
        output
            .iter_mut()
            .zip(value)
            .for_each(|(sum, value)| *sum += weight / total * value);
    }
    output
}

/// Accumulates a relative L2 error.
#[derive(Default)]
pub struct RelativeError {
    difference: f64,
    size: f64,
}

impl RelativeError {
    pub fn add(&mut self, actual: &[f32], expected: &[f64]) {
        for (actual, expected) in actual.iter().zip(expected) {
            self.difference += (f64::from(*actual) - expected).powi(2);
            self.size += expected.powi(2);
        }
    }

    pub fn value(&self) -> f64 {
        (self.difference / self.size).sqrt()
    }
}
