//! From logits to the next token: temperature, top-k and top-p, with one random stream per row.
//!
//! The order is the reference's (Alpamayo-R1, arXiv 2511.00088; Hugging Face's logits processors): trajectory tokens are
//! masked, logits divided by the temperature, then top-k, then top-p over what is left.

mod exp;
mod weights;
mod wide;

use std::ops::Range;

use thiserror::Error as ThisError;

use crate::random::{Purpose, RandomStream};
use crate::{Error, Result};
use weights::Weights;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits; above 0. Lower is more decided.
    pub temperature: f64,
    /// Keeps the k most likely tokens, and those as likely as the k-th. `Some(1)` is greedy decoding: the most likely
    /// token, the one with the lowest id if several are.
    pub top_k: Option<usize>,
    /// From the least likely token upwards, every one whose cumulative probability is ≤ 1 - `top_p` is dropped; among
    /// equally likely ones the lower id goes first. The most likely token always stays. In [0, 1].
    pub top_p: f64,
}

impl Default for SamplingOptions {
    /// The released model's: temperature 0.6, no top-k, top-p 0.98.
    fn default() -> Self {
        Self {
            temperature: 0.6,
            top_k: None,
            top_p: 0.98,
        }
    }
}

impl SamplingOptions {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self {
            top_k: Some(1),
            ..Self::default()
        }
    }

    /// Whether no randomness is left.
    pub fn is_greedy(&self) -> bool {
        self.top_k == Some(1)
    }

    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// [`Error::Sampling`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let reject = |field, reason: String| Err(Error::Sampling { field, reason });
        let temperature = self.temperature as f32;
        if !(temperature.is_normal() && temperature > 0.0) {
            let reason = format!("{} is not a positive number", self.temperature);
            return reject("temperature", reason);
        }
        if self.top_k == Some(0) {
            return reject("top_k", "0 leaves no token; give 1 or more, or none".into());
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return reject("top_p", format!("{} does not lie in [0, 1]", self.top_p));
        }
        Ok(())
    }
}

/// Why no token can be drawn from a row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum LogitsFault {
    /// A logit is NaN.
    #[error("at least one of them is NaN")]
    Nan,
    /// A logit is +∞.
    #[error("at least one of them is +∞")]
    Infinite,
    /// There is nothing to draw.
    #[error("there are none, or all of them are masked or -∞")]
    Nothing,
    /// The temperature is too low.
    #[error("divided by the temperature they overflow")]
    Overflow,
}

/// The probabilities `[vocabulary]` that a token is drawn with, zero for the ones that are not kept.
///
/// `logits [vocabulary]`; ids in `masked` (the trajectory tokens) get none.
///
/// # Errors
/// Those of [`SamplingOptions::validate`]; [`Error::Logits`] where a logit is NaN or +∞, or no token can be drawn.
pub fn probabilities(logits: &[f32], masked: Range<u32>, options: &SamplingOptions) -> Result<Vec<f32>> {
    options.validate()?;
    let mut weights = Weights::default();
    let total = weights.compute(logits, &masked, options)?;
    let normalize = |&weight: &f32| (f64::from(weight) / total) as f32;
    Ok(weights.kept().iter().map(normalize).collect())
}

/// The most likely token outside `masked`, the first if several are.
///
/// # Errors
/// [`Error::Logits`] where a logit is NaN or the largest is not finite.
pub fn greedy(logits: &[f32], masked: Range<u32>) -> Result<u32> {
    let allowed = weights::allowed(logits.len(), &masked);
    let max = weights::max_logit(logits, &allowed)?;
    let best = allowed.into_iter().flatten().find(|&id| logits[id] == max);
    best.map(|id| id as u32).ok_or(Error::Logits(LogitsFault::Nothing))
}

/// Draws the tokens of one row.
///
/// The draws depend on the seed, the row's number and the logits alone: not on the number of rows, nor on the order in which
/// rows are served. Each call takes one uniform number from the row's stream. Buffers of the vocabulary's size are kept
/// between calls.
#[derive(Clone, Debug)]
pub struct RowSampler {
    options: SamplingOptions,
    masked: Range<u32>,
    stream: RandomStream,
    weights: Weights,
}

impl RowSampler {
    /// A sampler for row `row` (= clip · samples + sample) that never draws ids in `masked`.
    ///
    /// # Errors
    /// Those of [`SamplingOptions::validate`].
    pub fn new(options: SamplingOptions, masked: Range<u32>, seed: u64, row: u64) -> Result<Self> {
        options.validate()?;
        Ok(Self {
            options,
            masked,
            stream: RandomStream::new(seed, Purpose::Tokens, row),
            weights: Weights::default(),
        })
    }

    /// The next token's id, from the row's logits `[vocabulary]`.
    ///
    /// # Errors
    /// [`Error::Logits`] where a logit is NaN or +∞, or no token can be drawn.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let uniform = self.uniform();
        self.choose(logits, uniform)
    }

    /// The number in [0, 1) that chooses the row's next token, from its stream; 0 where no randomness is left.
    pub fn uniform(&mut self) -> f64 {
        if self.options.is_greedy() {
            return 0.0;
        }
        self.stream.uniform()
    }

    /// The token that a uniform number points at, kept tokens being laid out in the order of their ids, each as wide as its
    /// probability.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn choose(&mut self, logits: &[f32], uniform: f64) -> Result<u32> {
        if self.options.is_greedy() {
            return greedy(logits, self.masked.clone());
        }
        let total = self.weights.compute(logits, &self.masked, &self.options)?;
        Ok(self.weights.pick(uniform * total) as u32)
    }
}

#[cfg(test)]
mod tests;
