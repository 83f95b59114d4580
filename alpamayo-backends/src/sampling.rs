//! Drawing tokens where the logits are.

use std::ops::Range;

use burn::tensor::{Int, Tensor, backend::Backend};

use crate::ModelBackend;
use crate::error::Result;

/// How [`ModelBackend::sample_tokens`] chooses.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSampling {
    /// Ids that are never chosen.
    pub masked: Range<u32>,
    /// Whether it is the most likely token, the first if several are; then the other fields' values don't matter.
    pub greedy: bool,
    /// Divides the logits; above 0.
    pub temperature: f32,
    /// From the least likely token upwards, every one whose cumulative probability is ≤ 1 - `top_p` is dropped, among equally likely
    /// ones the lower id first, but never the most likely one. In [0, 1].
    pub top_p: f64,
    /// For each row the number in [0, 1) that chooses, kept tokens being laid out in the order of their ids.
    pub uniforms: Vec<f64>,
}

/// Tokens drawn on a device.
#[derive(Debug, Clone)]
pub struct Drawn<B: Backend> {
    /// Every row's id, for what looks it up where it is; any id where a row has none.
    pub ids: Tensor<B, 1, Int>,
    /// `[2, rows]`: the ids and, in the numbers of [`Sampled::from_words`], whether they are ids.
    pub words: Tensor<B, 2, Int>,
}

impl<B: ModelBackend> Drawn<B> {
    /// The tokens, once they are on the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tokens(self) -> Result<Vec<Sampled>> {
        self.tokens_beside(|| ())
    }

    /// As [`tokens`](Self::tokens); `work` queues what the device shall do while they are on their way: see
    /// [`ModelBackend::read_beside`].
    ///
    /// # Errors
    /// As there.
    pub fn tokens_beside(self, work: impl FnOnce()) -> Result<Vec<Sampled>> {
        let words: Vec<i32> = B::read_beside(self.words, work)?.iter::<i32>().collect();
        let (ids, faults) = words.split_at(words.len() / 2);
        Ok(ids
            .iter()
            .zip(faults)
            .map(|(&id, &fault)| Sampled::from_words([id, fault]))
            .collect())
    }
}

/// What came out for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampled {
    /// The token's id.
    Token(u32),
    /// A logit is NaN.
    Nan,
    /// A logit is +∞.
    Infinite,
    /// All tokens are masked or -∞.
    Nothing,
    /// Divided by the temperature the logits overflow.
    Overflow,
}

impl Sampled {
    /// From what a backend returns of a row: the id, and which of the variants it is.
    pub fn from_words([id, fault]: [i32; 2]) -> Self {
        match fault {
            0 => Self::Token(id as u32),
            1 => Self::Nan,
            2 => Self::Infinite,
            3 => Self::Nothing,
            _ => Self::Overflow,
        }
    }
}
