//! The next token of every row, chosen where the logits are if the backend can, and on the host otherwise.

use std::ops::Range;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::sampling::{Drawn, Sampled, TokenSampling};
use alpamayo_core::{Error as CoreError, LogitsFault, RowSampler, SamplingOptions};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use crate::error::Result;
use crate::host::{read, unreadable};

/// What is said of logits that can't be read.
const READING: &str = "reading logits";

/// Chooses the rows' tokens, step by step.
pub(super) struct NextTokens {
    options: SamplingOptions,
    masked: Range<u32>,
    samplers: Vec<RowSampler>,
}

impl NextTokens {
    /// For so many rows; ids in `masked` are never chosen.
    pub fn new(options: SamplingOptions, masked: Range<u32>, seed: u64, rows: usize) -> Result<Self> {
        let samplers = (0..rows as u64).map(|row| RowSampler::new(options, masked.clone(), seed, row));
        Ok(Self {
            options,
            samplers: samplers.collect::<Result<_, _>>()?,
            masked,
        })
    }

    /// Begins to choose every row's token: the forced one, or one drawn from its logits, whichever number of the row's stream is next.
    pub fn choose<B: ModelBackend>(&mut self, logits: &mut Logits<B>, forced: &[Option<u32>]) -> Result<Choice<B>> {
        let uniforms: Vec<f64> = (self.samplers.iter_mut().zip(forced))
            .map(|(sampler, forced)| if forced.is_some() { 0.0 } else { sampler.uniform() })
            .collect();
        match self.on_device(logits, &uniforms) {
            Some(drawn) => Ok(Choice::Drawn(drawn, forced.to_vec())),
            None => self.on_host(logits.read()?, forced, &uniforms).map(Choice::Known),
        }
    }

    /// What the backend draws of every row; none where it leaves that to the host, as it does with the k most likely tokens.
    fn on_device<B: ModelBackend>(&self, logits: &Logits<B>, uniforms: &[f64]) -> Option<Drawn<B>> {
        if self.options.top_k.is_some() && !self.options.is_greedy() {
            return None;
        }
        let sampling = TokenSampling {
            masked: self.masked.clone(),
            greedy: self.options.is_greedy(),
            temperature: self.options.temperature as f32,
            top_p: self.options.top_p,
            uniforms: uniforms.to_vec(),
        };
        B::sample_tokens(logits.device.clone(), &sampling)
    }

    fn on_host(&mut self, logits: HostLogits<'_>, forced: &[Option<u32>], uniforms: &[f64]) -> Result<Vec<u32>> {
        let draw = |(row, sampler): (usize, &mut RowSampler)| match forced[row] {
            Some(token) => Ok(token),
            None => Ok(sampler.choose(logits.row(row), uniforms[row])?),
        };
        // Waking another thread takes longer than one row's draw.
        match self.samplers.len() {
            1 => self.samplers.iter_mut().enumerate().map(draw).collect(),
            _ => self.samplers.par_iter_mut().enumerate().map(draw).collect(),
        }
    }
}

/// The rows' tokens, which the host may not know yet.
pub(super) enum Choice<B: Backend> {
    /// Chosen on the host.
    Known(Vec<u32>),
    /// Drawn on the device, with what takes the place of a row's.
    Drawn(Drawn<B>, Vec<Option<u32>>),
}

impl<B: ModelBackend> Choice<B> {
    /// The rows' tokens. Where the device knows all of them before the host does, `ahead` queues what it shall do with them meanwhile.
    pub fn tokens(self, ahead: impl FnOnce(Tensor<B, 1, Int>)) -> Result<Vec<u32>> {
        let (drawn, forced) = match self {
            Self::Known(tokens) => return Ok(tokens),
            Self::Drawn(drawn, forced) => (drawn, forced),
        };
        let ids = drawn.ids.clone();
        let tokens = if forced.iter().all(Option::is_none) {
            drawn.tokens_beside(|| ahead(ids))?
        } else {
            drawn.tokens()?
        };
        let rows = tokens.into_iter().zip(forced);
        rows.map(|(token, forced)| forced.map_or_else(|| id(token), Ok))
            .collect()
    }
}

/// The id of a token, or what is wrong with its logits.
fn id(sampled: Sampled) -> Result<u32> {
    let fault = match sampled {
        Sampled::Token(id) => return Ok(id),
        Sampled::Nan => LogitsFault::Nan,
        Sampled::Infinite => LogitsFault::Infinite,
        Sampled::Nothing => LogitsFault::Nothing,
        Sampled::Overflow => LogitsFault::Overflow,
    };
    Err(CoreError::Logits(fault).into())
}

/// Logits `[clips, vocabulary]` or `[rows, vocabulary]`, on the device and, once they were asked for, on the host.
pub(super) struct Logits<B: Backend> {
    device: Tensor<B, 2>,
    host: Option<TensorData>,
    /// Rows that share each of them.
    repeats: usize,
}

impl<B: ModelBackend> Logits<B> {
    /// Logits of so many rows.
    pub fn new(device: Tensor<B, 2>, rows: usize) -> Self {
        Self {
            repeats: rows / device.dims()[0].max(1),
            device,
            host: None,
        }
    }

    /// Brings them to the host.
    pub fn read(&mut self) -> Result<HostLogits<'_>> {
        let data = match self.host.take() {
            Some(data) => data,
            None => read(self.device.clone(), READING)?,
        };
        Ok(HostLogits {
            values: self.host.insert(data).as_slice().map_err(unreadable(READING))?,
            vocabulary: self.device.dims()[1],
            repeats: self.repeats,
        })
    }
}

/// Logits on the host as they came from the device, trajectory ids unmasked.
#[derive(Clone, Copy)]
pub(super) struct HostLogits<'a> {
    values: &'a [f32],
    vocabulary: usize,
    repeats: usize,
}

impl<'a> HostLogits<'a> {
    /// The logits of a row `[vocabulary]`.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row / self.repeats * self.vocabulary..][..self.vocabulary]
    }
}
