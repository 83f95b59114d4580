//! The chain of causation, token by token.

use std::ops::Range;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::Rotary;
use alpamayo_core::{ModelConfig, RowSampler, StopPosition, is_finished, stop_position};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use super::check;
use super::options::DriveOptions;
use super::prefill::Prefilled;
use crate::cache::KeyValueCache;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::host::{read, select_rows, unreadable};
use crate::observer::{Event, Observer};
use crate::rotary::rotary_rows;

/// Generated rows and the cache that the action expert reads. Row = clip · samples + sample.
#[derive(Debug, Clone)]
pub struct Generation<B: Backend> {
    /// Generated ids of every row, all of the same length: rows that stop early go on with the others.
    pub tokens: Vec<Vec<u32>>,
    /// Where each row's reasoning ends.
    pub stops: Vec<StopPosition>,
    /// The cache: the prompt, and every generated token but the last.
    pub cache: KeyValueCache<B>,
    /// Last position + 1 - prompt length, per clip.
    pub rope_deltas: Vec<i64>,
}

impl<B: Backend> Generation<B> {
    /// How many tokens of each row's suffix the action expert sees: up to and including the stop.
    pub fn suffix_lengths(&self) -> Vec<usize> {
        let cached = |row: &Vec<u32>| row.len().saturating_sub(1);
        let visible = |(stop, row): (&StopPosition, &Vec<u32>)| (stop.index + 1).min(cached(row));
        self.stops.iter().zip(&self.tokens).map(visible).collect()
    }

    /// Position of each row's first action token: behind the stop, shifted by the clip's rope delta.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) where the fields don't go together any more.
    pub fn action_positions(&self) -> Result<Vec<i64>> {
        check::generation(self)?;
        let (prompt, samples) = (self.cache.prompt_length(), self.cache.samples());
        let position = |(row, stop): (usize, &StopPosition)| {
            self.rope_deltas[row / samples].saturating_add((prompt + stop.index + 1) as i64)
        };
        Ok(self.stops.iter().enumerate().map(position).collect())
    }
}

/// Decodes rows in step until all have stopped.
pub(super) struct Generator<'a, B: ModelBackend> {
    decoder: &'a Decoder<B>,
    prefilled: &'a Prefilled<B>,
    device: &'a B::Device,
    future_start: u32,
    trajectory_ids: Range<u32>,
    limit: usize,
    samplers: Vec<RowSampler>,
    forced: &'a [Vec<u32>],
    /// Position of each row's first generated token.
    first_positions: Vec<i64>,
    /// Rotation of every suffix token, `[capacity · rows, head_dim / 2]`, step by step.
    rotary: Rotary<B>,
    cache: KeyValueCache<B>,
    tokens: Vec<Vec<u32>>,
    /// Tokens of each row that the cache holds.
    cached: usize,
}

impl<'a, B: ModelBackend> Generator<'a, B> {
    pub(super) fn new(
        decoder: &'a Decoder<B>,
        config: &ModelConfig,
        prefilled: &'a Prefilled<B>,
        options: &'a DriveOptions,
        device: &'a B::Device,
    ) -> Result<Self> {
        check::prefilled(config, prefilled)?;
        let limit = check::options(config, prefilled, options)?;
        let rows = prefilled.clips() * options.samples;
        let first_id = config.traj_token_start_idx;
        let trajectory_ids = first_id as u32..(first_id + config.traj_vocab_size) as u32;
        let samplers = (0..rows as u64)
            .map(|row| RowSampler::new(options.sampling(), trajectory_ids.clone(), options.seed, row))
            .collect::<Result<_, _>>()?;
        let prompt = prefilled.cache.prompt_length();
        let first_position = |row: usize| prefilled.rope_deltas[row / options.samples].saturating_add(prompt as i64);
        let first_positions: Vec<i64> = (0..rows).map(first_position).collect();
        let positions =
            (0..limit as i64).flat_map(|step| first_positions.iter().map(move |first| [first.saturating_add(step); 3]));
        Ok(Self {
            decoder,
            prefilled,
            device,
            future_start: config.traj_token_ids.future_start,
            trajectory_ids,
            limit,
            samplers,
            forced: &options.forced_tokens,
            rotary: decoder.rope.table(positions, device),
            first_positions,
            cache: prefilled.cache.branch(options.samples, limit),
            tokens: vec![Vec::new(); rows],
            cached: 0,
        })
    }

    /// Generates until every row is one token past its stop, or to the limit.
    pub(super) fn run(mut self, observer: &mut dyn Observer<B>) -> Result<Generation<B>> {
        loop {
            let logits = if self.is_forced() && !observer.wants_all() {
                None
            } else {
                let logits = self.logits()?;
                if observer.wants_all() {
                    observer.observe(Event::StepLogits(self.generated(), &self.masked(&logits)?));
                }
                Some(logits)
            };
            self.choose(logits.as_ref())?;
            let finished = self.tokens.iter().all(|row| is_finished(row, self.future_start));
            if finished || self.generated() == self.limit {
                break;
            }
        }
        // The last token's key and value are nobody's business; those of forced tokens may still be missing.
        let missing = self.generated() - 1 - self.cached;
        if missing > 0 {
            self.feed(missing);
        }
        let stops = self
            .tokens
            .iter()
            .filter_map(|row| stop_position(row, self.future_start));
        Ok(Generation {
            stops: stops.collect(),
            tokens: self.tokens,
            cache: self.cache,
            rope_deltas: self.prefilled.rope_deltas.clone(),
        })
    }

    /// Tokens that every row has so far.
    fn generated(&self) -> usize {
        self.tokens.first().map_or(0, Vec::len)
    }

    fn forced_token(&self, row: usize) -> Option<u32> {
        let tokens = match self.forced {
            [all] => all,
            rows => rows.get(row)?,
        };
        tokens.get(self.generated()).copied()
    }

    /// Whether the next token of every row is forced.
    fn is_forced(&self) -> bool {
        (0..self.tokens.len()).all(|row| self.forced_token(row).is_some())
    }

    /// Logits of every row's next token, or of every clip's where all its rows are still the same.
    fn logits(&mut self) -> Result<Logits> {
        let rows = self.tokens.len();
        let (device_logits, repeats) = match self.generated() - self.cached {
            0 => (self.prefilled.logits.clone(), rows / self.prefilled.clips().max(1)),
            count => {
                let x = self.feed(count);
                (self.decoder.logits(last_rows(x, rows, count, self.device)), 1)
            }
        };
        Ok(Logits {
            vocabulary: device_logits.dims()[1],
            values: read(device_logits, "reading logits")?,
            repeats,
        })
    }

    /// The logits of all rows `[rows, vocabulary]`, trajectory ids -inf.
    fn masked(&self, logits: &Logits) -> Result<Vec<f32>> {
        let mut masked = Vec::with_capacity(self.tokens.len() * logits.vocabulary);
        for row in 0..self.tokens.len() {
            let start = masked.len();
            masked.extend_from_slice(logits.row(row)?);
            let ids = self.trajectory_ids.start as usize..(self.trajectory_ids.end as usize).min(logits.vocabulary);
            masked[start..][ids].fill(f32::NEG_INFINITY);
        }
        Ok(masked)
    }

    /// Appends one token to every row: the forced one, or one drawn from its logits.
    fn choose(&mut self, logits: Option<&Logits>) -> Result<()> {
        let rows = self.tokens.len();
        let forced: Vec<_> = (0..rows).map(|row| self.forced_token(row)).collect();
        let draw = |(row, (sampler, forced)): (usize, (&mut RowSampler, Option<u32>))| match (forced, logits) {
            (Some(token), _) => Ok(token),
            (None, Some(logits)) => Ok(sampler.sample(logits.row(row)?)?),
            (None, None) => Ok(sampler.sample(&[])?),
        };
        // Waking another thread takes longer than one row's draw.
        let next: Vec<u32> = match rows {
            1 => self
                .samplers
                .iter_mut()
                .zip(forced)
                .enumerate()
                .map(draw)
                .collect::<Result<_>>()?,
            _ => (self.samplers.par_iter_mut().zip(forced).enumerate().map(draw)).collect::<Result<_>>()?,
        };
        for (row, token) in self.tokens.iter_mut().zip(next) {
            row.push(token);
        }
        Ok(())
    }

    /// Runs the next `count` tokens of every row that the cache lacks: `[rows · count, hidden]`.
    fn feed(&mut self, count: usize) -> Tensor<B, 2> {
        let (rows, start) = (self.tokens.len(), self.cached);
        let ids: Vec<u32> = (self.tokens.iter())
            .flat_map(|row| &row[start..start + count])
            .copied()
            .collect();
        let rotary = if count == 1 {
            rotary_rows(&self.rotary, start * rows, rows)
        } else {
            let positions = (self.first_positions.iter())
                .flat_map(|first| (start..start + count).map(move |step| [first.saturating_add(step as i64); 3]));
            self.decoder.rope.table(positions, self.device)
        };
        let x = self.decoder.embed(&ids, self.device);
        self.cached += count;
        self.decoder.decode(x, &rotary, &mut self.cache, start)
    }
}

/// Logits on the host, as they came from the device.
struct Logits {
    values: TensorData,
    vocabulary: usize,
    /// Rows that share each of them.
    repeats: usize,
}

impl Logits {
    /// The logits of a row `[vocabulary]`, trajectory ids unmasked.
    fn row(&self, row: usize) -> Result<&[f32]> {
        let values = self.values.as_slice::<f32>().map_err(unreadable("reading logits"))?;
        Ok(&values[row / self.repeats * self.vocabulary..][..self.vocabulary])
    }
}

/// The last of every row's `count` tokens: `[rows · count, hidden]` → `[rows, hidden]`.
fn last_rows<B: ModelBackend>(x: Tensor<B, 2>, rows: usize, count: usize, device: &B::Device) -> Tensor<B, 2> {
    if count == 1 {
        return x;
    }
    select_rows(x, (1..=rows).map(|row| row * count - 1), device)
}
