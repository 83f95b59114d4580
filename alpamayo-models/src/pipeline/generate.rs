//! The chain of causation, token by token.

use std::ops::Range;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{DecodeStep, Rotary, SuffixPosition};
use alpamayo_core::{ModelConfig, StopPosition, is_finished, stop_position};
use burn::tensor::{Int, Tensor, backend::Backend};

use super::check;
use super::decoding::Decoding;
use super::kept::{Kept, Places, places};
use super::next_token::{Logits, NextTokens};
use super::options::DriveOptions;
use super::prefill::Prefilled;
use crate::cache::KeyValueCache;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::host::select_rows;
use crate::observer::{Event, Observer};

/// Parts of the decoder's layers. The device is told to run the first of them before the host knows the token: work enough for the time
/// until the host has read it and told the device the rest, which through Vulkan is 30 µs for each of the other layers, and not much for a
/// token that nobody wants. Where a backend records the others, it is busy with one part while the next one is recorded.
const PARTS: usize = 3;

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
    next: NextTokens,
    forced: &'a [Vec<u32>],
    /// Position of each row's first generated token.
    first_positions: Vec<i64>,
    /// Rotation of every suffix token, `[capacity · rows, head_dim / 2]`, step by step.
    rotary: Rotary<B>,
    cache: KeyValueCache<B>,
    tokens: Vec<Vec<u32>>,
    /// Tokens of each row that the cache holds.
    cached: usize,
    /// The next tokens behind their first layers, where those were queued ahead: `[rows, hidden]`.
    ahead: Option<Tensor<B, 2>>,
    /// The step of the last token that went through layers one by one.
    step: Option<DecodeStep<B>>,
    /// What is done the same for every token.
    decoding: Decoding<B>,
    /// Where that is kept for the next plan.
    kept: &'a Kept<Decoding<B>>,
    /// Where the cache lies.
    places: Places,
}

impl<'a, B: ModelBackend> Generator<'a, B> {
    pub(super) fn new(
        decoder: &'a Decoder<B>,
        kept: &'a Kept<Decoding<B>>,
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
        let next = NextTokens::new(options.sampling(), trajectory_ids.clone(), options.seed, rows)?;
        let prompt = prefilled.cache.prompt_length();
        let first_position = |row: usize| prefilled.rope_deltas[row / options.samples].saturating_add(prompt as i64);
        let first_positions: Vec<i64> = (0..rows).map(first_position).collect();
        let positions =
            (0..limit as i64).flat_map(|step| first_positions.iter().map(move |first| [first.saturating_add(step); 3]));
        let cache = prefilled.cache.branch(options.samples, limit);
        let places = places(&cache);
        Ok(Self {
            decoding: kept.take(&places).unwrap_or_else(|| Decoding::new(decoder)),
            kept,
            places,
            decoder,
            prefilled,
            device,
            future_start: config.traj_token_ids.future_start,
            trajectory_ids,
            limit,
            next,
            forced: &options.forced_tokens,
            rotary: decoder.rope.table(positions, device),
            first_positions,
            cache,
            tokens: vec![Vec::new(); rows],
            cached: 0,
            ahead: None,
            step: None,
        })
    }

    /// Generates until every row is one token past its stop, or to the limit.
    pub(super) fn run(mut self, observer: &mut dyn Observer<B>) -> Result<Generation<B>> {
        loop {
            let logits = if self.is_forced() && !observer.wants_all() {
                None
            } else {
                let mut logits = self.logits();
                if observer.wants_all() {
                    observer.observe(Event::StepLogits(self.generated(), &self.masked(&mut logits)?));
                }
                Some(logits)
            };
            self.choose(logits)?;
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
        let stops = stops.collect();
        self.decoding.step = self.step.or(self.decoding.step);
        self.kept.keep(self.places, self.decoding);
        Ok(Generation {
            stops,
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
    fn logits(&mut self) -> Logits<B> {
        let rows = self.tokens.len();
        match self.generated() - self.cached {
            0 => Logits::new(self.prefilled.logits.clone(), rows),
            count => {
                let x = self.feed(count);
                Logits::new(self.decoder.logits(last_rows(x, rows, count)), rows)
            }
        }
    }

    /// The logits of all rows `[rows, vocabulary]`, trajectory ids -inf.
    fn masked(&self, logits: &mut Logits<B>) -> Result<Vec<f32>> {
        let logits = logits.read()?;
        let mut masked = Vec::new();
        for row in 0..self.tokens.len() {
            let (start, logits) = (masked.len(), logits.row(row));
            masked.extend_from_slice(logits);
            let ids = self.trajectory_ids.start as usize..(self.trajectory_ids.end as usize).min(logits.len());
            masked[start..][ids].fill(f32::NEG_INFINITY);
        }
        Ok(masked)
    }

    /// Appends one token to every row: the forced one, or one drawn from its logits.
    fn choose(&mut self, logits: Option<Logits<B>>) -> Result<()> {
        let rows = self.tokens.len();
        let forced: Vec<_> = (0..rows).map(|row| self.forced_token(row)).collect();
        let next = match logits {
            Some(mut logits) => {
                let choice = self.next.choose(&mut logits, &forced)?;
                choice.tokens(|ids| self.begin(ids))?
            }
            None => forced.into_iter().flatten().collect(),
        };
        for (row, token) in self.tokens.iter_mut().zip(next) {
            row.push(token);
        }
        Ok(())
    }

    /// Queues the first layers of tokens that only the device knows yet, so that it has work while they are on their way to the host.
    ///
    /// Where they turn out to be the last ones, this has written keys and values that nobody reads.
    fn begin(&mut self, ids: Tensor<B, 1, Int>) {
        // The last token that there may be isn't fed.
        if self.generated() + 1 >= self.limit || self.generated() != self.cached {
            return;
        }
        if let Some(x) = self.decoder.embed_tokens.embed_on_device(ids) {
            self.ahead = Some(self.decode_ahead(x));
        }
    }

    /// Layers of a part.
    fn layers_of_part(&self) -> usize {
        self.decoder.layers.len().div_ceil(PARTS)
    }

    /// Runs one token per row, the first that the cache lacks, through the first part of the layers.
    fn decode_ahead(&mut self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.decode_layers(0, 0..self.layers_of_part(), x)
    }

    /// Runs the same token through the other layers.
    fn decode_others(&mut self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.decode_layers(1, self.layers_of_part()..self.decoder.layers.len(), x)
    }

    /// Runs one token per row, the first that the cache lacks, through some of the layers: always the same ones by one repetition.
    fn decode_layers(&mut self, repetition: usize, layers: Range<usize>, x: Tensor<B, 2>) -> Tensor<B, 2> {
        if layers.is_empty() {
            return x;
        }
        let step = self.step();
        let count = self.layers_of_part();
        let (decoder, cache) = (self.decoder, &mut self.cache);
        let x = self.decoding.repetitions[repetition].run(x, layers.len().div_ceil(count), &mut |part, x| {
            let first = layers.start + part * count;
            let layers = first..layers.end.min(first + count);
            decoder.decode_layers(layers, x, &step.rotary, cache, &step.position)
        });
        self.step = Some(step);
        x
    }

    /// The step of the first token that the cache lacks.
    fn step(&mut self) -> DecodeStep<B> {
        match self.step.take() {
            Some(step) if step.position.host() == self.cached => step,
            previous => {
                let previous = previous.or_else(|| self.decoding.step.take());
                B::decode_step(&self.rotary, self.tokens.len(), self.cached, previous)
            }
        }
    }

    /// Runs the next `count` tokens of every row that the cache lacks: `[rows · count, hidden]`.
    fn feed(&mut self, count: usize) -> Tensor<B, 2> {
        let start = self.cached;
        let x = match self.ahead.take().filter(|_| count == 1) {
            Some(x) => self.decode_others(x),
            None if count == 1 => {
                let x = self.decode_ahead(self.embed(start..start + 1));
                self.decode_others(x)
            }
            None => {
                let positions = (self.first_positions.iter())
                    .flat_map(|first| (start..start + count).map(move |step| [first.saturating_add(step as i64); 3]));
                let rotary = self.decoder.rope.table(positions, self.device);
                let x = self.embed(start..start + count);
                let position = SuffixPosition::new(start, self.device);
                self.decoder.decode(x, &rotary, &mut self.cache, &position)
            }
        };
        self.cached += count;
        x
    }

    /// Embeddings of some of the generated tokens of every row: `[rows · tokens, hidden]`.
    fn embed(&self, tokens: Range<usize>) -> Tensor<B, 2> {
        let ids: Vec<u32> = (self.tokens.iter())
            .flat_map(|row| &row[tokens.clone()])
            .copied()
            .collect();
        self.decoder.embed(&ids, self.device)
    }
}

/// The last of every row's `count` tokens: `[rows · count, hidden]` → `[rows, hidden]`.
fn last_rows<B: ModelBackend>(x: Tensor<B, 2>, rows: usize, count: usize) -> Tensor<B, 2> {
    if count == 1 {
        return x;
    }
    select_rows(x, (1..=rows).map(|row| row * count - 1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alpamayo_backends::instances::Flex;
    use alpamayo_backends::layers::{SourceType, WeightFormat};
    use alpamayo_core::PromptStyle;
    use burn::tensor::TensorData;
    use half::bf16;

    use super::*;
    use crate::host::download;
    use crate::test_data::{Device, Golden};
    use crate::token_table::{HostTable, TokenTable};

    /// A table of bf16 values, and the same one in the host's memory, where the device reads it by itself and where it doesn't.
    fn placements(table: TokenTable<Flex>, device: &Device) -> [(TokenTable<Flex>, bool); 3] {
        let (rows, columns) = table.shape();
        let ids: Vec<u32> = (0..rows as u32).collect();
        let values = download(table.embed(&ids, device), "embeddings").unwrap();
        let bytes: Vec<u8> = (values.iter())
            .flat_map(|&value| bf16::from_f32(value).to_le_bytes())
            .collect();
        let host = HostTable::new(Arc::new(bytes), SourceType::Bf16, [rows, columns], WeightFormat::F32).unwrap();
        let shared = host.clone().shared_with::<Flex>(device);
        [
            (table, true),
            (TokenTable::Host(shared), true),
            (TokenTable::Host(host), false),
        ]
    }

    /// Generates what was generated before as a device does that draws the tokens: each is begun before the host knows it, where the
    /// device looks it up by itself.
    fn generate_ahead(
        mut generator: Generator<'_, Flex>,
        known: &Generation<Flex>,
        looks_up: bool,
    ) -> Generation<Flex> {
        for step in 0..known.tokens[0].len() {
            let logits = generator.logits();
            let ids: Vec<i32> = known.tokens.iter().map(|row| row[step] as i32).collect();
            let data = TensorData::new(ids, [known.tokens.len()]);
            generator.begin(Tensor::from_data(data, generator.device));
            assert_eq!(generator.ahead.is_some(), looks_up && step + 1 < generator.limit);
            generator.choose(Some(logits)).unwrap();
        }
        Generation {
            tokens: generator.tokens,
            stops: known.stops.clone(),
            cache: generator.cache,
            rope_deltas: known.rope_deltas.clone(),
        }
    }

    fn check_case(case: &str, samples: usize) {
        let golden = Golden::read(case);
        let mut model = golden.model();
        let options = DriveOptions {
            samples,
            max_generation_length: Some(golden.case("max_generation_length")),
            ..DriveOptions::greedy()
        };
        let inputs = model.preprocess(&golden.clips(), &PromptStyle::R1).unwrap();
        let features = model.encode(&inputs.patches, &mut ()).unwrap();
        let prefilled = model.prefill(&inputs.prompts, &features, &mut ()).unwrap();
        let known = model.generate(&prefilled, &options, &mut ()).unwrap();
        for (table, looks_up) in placements(model.network.decoder.embed_tokens.clone(), &model.device) {
            model.network.decoder.embed_tokens = table;
            let generator = model.generator(&prefilled, &options).unwrap();
            let ahead = generate_ahead(generator, &known, looks_up);
            assert_eq!(ahead.tokens, known.tokens);
            // The action expert reads the cache, and nothing of what lies behind its end.
            let actions = |generation| model.flow(generation, &options, &mut ()).unwrap();
            assert_eq!(actions(&ahead), actions(&known));
        }
    }

    #[test]
    fn tokens_that_are_begun_ahead_are_the_same() {
        check_case("base", 1);
        check_case("two-samples-no-eos", 2);
        check_case("batch-ragged-eos", 1);
    }
}
