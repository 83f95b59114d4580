//! Tokens that devices draw against those that the host's sampler draws for the same uniform numbers.

use std::cell::Cell;
use std::ops::Range;

use alpamayo_backends::sampling::{Sampled, TokenSampling};
use alpamayo_backends::{Device, DeviceVisitor, ModelBackend};
use alpamayo_core::random::{Purpose, RandomStream};
use alpamayo_core::{Error, LogitsFault, RowSampler, SamplingOptions};
use burn::tensor::{DType, Tensor, TensorData};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

/// How far probabilities may be from the definition's.
const TOLERANCE: f64 = 1e-6;
/// Cases per device.
const CASES: u32 = 200;

/// Logits and how to draw from them.
#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    vocabulary: usize,
    clips: usize,
    repeats: usize,
    seed: u64,
    options: SamplingOptions,
    masked: Range<u32>,
    /// Whether a third of the logits is -∞.
    sparse: bool,
}

/// Logits of language models, and others.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Bell(f64),
    Peaked,
    /// In such a range.
    Flat(f64),
    /// Multiples of this.
    Ties(f64),
    Equal,
}

impl Case {
    fn any() -> impl Strategy<Value = Self> {
        let kind = prop_oneof![
            (0.05..6.0).prop_map(Kind::Bell),
            Just(Kind::Peaked),
            prop_oneof![Just(1.0), Just(1e-2), Just(1e-4), Just(1e-6)].prop_map(Kind::Flat),
            prop_oneof![Just(1.0), Just(0.01)].prop_map(Kind::Ties),
            Just(Kind::Equal),
        ];
        let vocabulary = prop_oneof![
            3 => 1usize..600,
            3 => 600usize..9000,
            1 => Just(155_697usize),
            1 => 190_000usize..200_000
        ];
        let top_p = prop_oneof![Just(0.0), Just(1.0), Just(0.98), 0.0..1.0, 0.999..1.0];
        let options = (prop_oneof![Just(0.6), 0.05..3.0], top_p, prop::bool::weighted(0.1));
        let options = options.prop_map(|(temperature, top_p, greedy)| SamplingOptions {
            temperature,
            top_p,
            top_k: greedy.then_some(1),
        });
        let masked = prop_oneof![
            Just((0.0, 0.0)),
            (0.0..1.0, 0.0..0.3),
            Just((0.9, 1.0)),
            Just((2.0, 0.5))
        ];
        let rows = (1usize..4, 1usize..4, any::<u64>(), any::<bool>());
        (kind, vocabulary, rows, options, masked).prop_map(
            |(kind, vocabulary, (clips, repeats, seed, sparse), options, (start, length))| {
                let start = (start * vocabulary as f64) as u32;
                Self {
                    kind,
                    vocabulary,
                    clips,
                    repeats,
                    seed,
                    options,
                    masked: start..start + (length * vocabulary as f64) as u32,
                    sparse,
                }
            },
        )
    }

    fn logits(&self) -> Vec<f32> {
        let mut stream = RandomStream::new(self.seed, Purpose::FlowNoise, 0);
        let mut logits: Vec<f32> = (0..self.clips * self.vocabulary)
            .map(|_| {
                let logit = match self.kind {
                    Kind::Bell(width) => width * stream.normal_pair()[0],
                    Kind::Peaked => 2.5 * stream.normal_pair()[0],
                    Kind::Flat(range) => range * stream.uniform(),
                    Kind::Ties(step) => step * (stream.below(13) as f64 - 6.0),
                    Kind::Equal => 0.7,
                };
                if self.sparse && stream.below(3) == 0 {
                    f32::NEG_INFINITY
                } else {
                    logit as f32
                }
            })
            .collect();
        if matches!(self.kind, Kind::Peaked) {
            for logit in [22.0, 20.5, 19.0, 18.5, 16.0] {
                for clip in 0..self.clips {
                    logits[clip * self.vocabulary + stream.below(self.vocabulary)] = logit;
                }
            }
        }
        logits
    }

    /// Numbers of all rows, the ends of the range among them.
    fn uniforms(&self) -> Vec<f64> {
        let mut stream = RandomStream::new(self.seed, Purpose::Tokens, 0);
        let ends = [0.0, 1.0 - f64::EPSILON / 2.0];
        (0..self.clips * self.repeats)
            .map(|_| match stream.below(12) {
                end @ 0..2 => ends[end],
                _ => stream.uniform(),
            })
            .collect()
    }

    fn sampling(&self, uniforms: &[f64]) -> TokenSampling {
        TokenSampling {
            masked: self.masked.clone(),
            greedy: self.options.is_greedy(),
            temperature: self.options.temperature as f32,
            top_p: self.options.top_p,
            uniforms: uniforms.to_vec(),
        }
    }

    fn on_host(&self, logits: &[f32], uniform: f64) -> Sampled {
        let mut sampler = RowSampler::new(self.options, self.masked.clone(), 0, 0).unwrap();
        match sampler.choose(logits, uniform) {
            Ok(token) => Sampled::Token(token),
            Err(Error::Logits(LogitsFault::Nan)) => Sampled::Nan,
            Err(Error::Logits(LogitsFault::Infinite)) => Sampled::Infinite,
            Err(Error::Logits(LogitsFault::Nothing)) => Sampled::Nothing,
            Err(Error::Logits(LogitsFault::Overflow)) => Sampled::Overflow,
            Err(other) => panic!("{other}"),
        }
    }

    /// What explains that the token is another one than the host's.
    fn explain(&self, logits: &[f32], uniform: f64, token: u32) -> Option<Explanation> {
        let order = Order::new(logits, &self.masked, self.options.temperature as f32);
        let limit = (1.0 - self.options.top_p) * order.total;
        if order
            .cuts(limit)
            .any(|cut| order.is_chosen(&order.tokens[cut..], uniform, token))
        {
            return Some(Explanation::Rounding);
        }
        order
            .is_chosen_among_equals(limit, uniform, token)
            .then_some(Explanation::EqualWeights)
    }
}

/// Why a token is not the host's.
enum Explanation {
    /// The number lies within rounding of the token's share, or the cut of where it should.
    Rounding,
    /// Of tokens whose weights are the same within rounding others were dropped.
    EqualWeights,
}

/// A vocabulary in the order in which tokens are dropped.
struct Order {
    /// Ids and weights relative to the largest.
    tokens: Vec<(usize, f64)>,
    total: f64,
}

impl Order {
    fn new(logits: &[f32], masked: &Range<u32>, temperature: f32) -> Self {
        let mut order: Vec<(f32, usize)> = (0..logits.len())
            .filter(|id| !masked.contains(&(*id as u32)))
            .map(|id| (logits[id] / temperature, id))
            .collect();
        order.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let max = order.last().unwrap().0;
        let weight = |(scaled, id): (f32, usize)| (id, f64::from(scaled - max).exp());
        let tokens: Vec<_> = order.into_iter().map(weight).collect();
        Self {
            total: tokens.iter().map(|(_, weight)| weight).sum(),
            tokens,
        }
    }

    /// The ranks at which the cut may fall within rounding; of many the first and the last few.
    fn cuts(&self, limit: f64) -> impl Iterator<Item = usize> {
        let mut dropped = 0.0;
        let mut cuts = Vec::new();
        for (rank, (_, weight)) in self.tokens.iter().enumerate() {
            let passed = dropped + weight;
            let rounding = TOLERANCE * self.total;
            let is_last = rank + 1 == self.tokens.len();
            if dropped <= limit + rounding && (passed > limit - rounding || is_last) {
                cuts.push(rank);
            }
            dropped = passed;
        }
        let count = cuts.len();
        cuts.into_iter()
            .enumerate()
            .filter(move |(i, _)| *i < 8 || i + 8 >= count)
            .map(|(_, cut)| cut)
    }

    /// Whether the number lies in the token's share of what is kept, or within rounding of it.
    fn is_chosen(&self, kept: &[(usize, f64)], uniform: f64, token: u32) -> bool {
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let before = kept.iter().filter(|(id, _)| *id < token as usize);
        let before = before.map(|(_, weight)| weight).sum::<f64>() / total;
        kept.iter()
            .find(|(id, _)| *id == token as usize)
            .is_some_and(|(_, weight)| uniform >= before - TOLERANCE && uniform <= before + weight / total + TOLERANCE)
    }

    /// As [`is_chosen`](Self::is_chosen), whichever tokens as likely as the cut's within rounding are dropped, as many as should.
    fn is_chosen_among_equals(&self, limit: f64, uniform: f64, token: u32) -> bool {
        let cut = self.cuts(limit).next().unwrap();
        let least = self.tokens[cut].1;
        let equal = |weight: f64| (weight / least - 1.0).abs() <= TOLERANCE;
        let kept = self.tokens[cut..].iter().filter(|(_, weight)| equal(*weight)).count();
        let surely: Vec<_> = (self.tokens.iter().copied())
            .filter(|(_, weight)| *weight > least && !equal(*weight))
            .collect();
        let mut equals: Vec<_> = (self.tokens.iter().copied())
            .filter(|(_, weight)| equal(*weight))
            .collect();
        equals.sort_by_key(|(id, _)| *id);
        // The token's share lies lowest where the others that are kept come as late as they can, and highest where as early.
        let place = equals.iter().position(|(id, _)| *id == token as usize);
        let total = surely.iter().map(|(_, weight)| weight).sum::<f64>() + kept as f64 * least;
        let mut before = surely
            .iter()
            .filter(|(id, _)| *id < token as usize)
            .map(|(_, weight)| weight)
            .sum::<f64>();
        let earlier = equals.iter().filter(|(id, _)| *id < token as usize).count();
        let own = (self.tokens.iter().find(|(id, _)| *id == token as usize)).map_or(0.0, |(_, weight)| *weight);
        let is_kept = place.is_some() || surely.iter().any(|(id, _)| *id == token as usize);
        let later = equals.len() - earlier - usize::from(place.is_some());
        let others = kept - usize::from(place.is_some());
        let highest = (before + (others.min(earlier) + 1) as f64 * least + own) / total;
        before += others.saturating_sub(later + 1) as f64 * least;
        is_kept && uniform >= before / total - TOLERANCE && uniform <= highest + TOLERANCE
    }
}

fn on_device<B: ModelBackend>(
    logits: &[f32],
    clips: usize,
    sampling: &TokenSampling,
    device: &B::Device,
) -> Option<Vec<Sampled>> {
    let data = TensorData::new(logits.to_vec(), [clips, logits.len() / clips]);
    let logits = Tensor::<B, 2>::from_data(data, (device, DType::F32));
    let drawn = B::sample_tokens(logits, sampling)?;
    let ids = drawn.ids.clone();
    let tokens = drawn.tokens().unwrap();
    let ids: Vec<i32> = ids.into_data().iter::<i32>().collect();
    for (token, id) in tokens.iter().zip(ids) {
        assert!(!matches!(token, Sampled::Token(token) if *token != id as u32));
    }
    Some(tokens)
}

/// Rows drawn, and how many of their tokens differ from the host's and why.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    rows: usize,
    rounded: usize,
    equal: usize,
}

struct Draws;

impl DeviceVisitor for Draws {
    type Output = Option<Counts>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        let counts = Cell::new(Counts::default());
        let is_left_to_the_host = Cell::new(false);
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        };
        // The same cases in every run: how many tokens differ by rounding depends on how many cases are flat.
        let random = TestRng::deterministic_rng(config.rng_algorithm);
        let outcome = TestRunner::new_with_rng(config, random).run(&Case::any(), |case| {
            let (logits, uniforms) = (case.logits(), case.uniforms());
            let sampling = case.sampling(&uniforms);
            let Some(drawn) = on_device::<B>(&logits, case.clips, &sampling, &device) else {
                is_left_to_the_host.set(true);
                return Ok(());
            };
            let again = on_device::<B>(&logits, case.clips, &sampling, &device);
            prop_assert_eq!(Some(&drawn), again.as_ref());
            for (row, (&uniform, &drawn)) in uniforms.iter().zip(&drawn).enumerate() {
                let logits = &logits[row / case.repeats * case.vocabulary..][..case.vocabulary];
                let expected = case.on_host(logits, uniform);
                let mut found = counts.get();
                found.rows += 1;
                if drawn != expected {
                    let Sampled::Token(token) = drawn else {
                        return Err(TestCaseError::fail(format!("row {row}: {drawn:?} is not {expected:?}")));
                    };
                    let greedy = case.options.is_greedy();
                    match case.explain(logits, uniform, token).filter(|_| !greedy) {
                        Some(Explanation::Rounding) => found.rounded += 1,
                        Some(Explanation::EqualWeights) => found.equal += 1,
                        None => {
                            let message = format!("row {row}: {token} is not {expected:?}");
                            return Err(TestCaseError::fail(message));
                        }
                    }
                }
                counts.set(found);
            }
            Ok(())
        });
        outcome.unwrap();
        (!is_left_to_the_host.get()).then(|| counts.get())
    }
}

#[test]
fn devices_draw_the_hosts_tokens() {
    for found in Device::available() {
        let Some(counts) = found.device.run(Draws).unwrap() else {
            println!("{found} leaves it to the host");
            continue;
        };
        println!("{found}: {counts:?}");
        assert!(counts.rows >= CASES as usize, "{found}: {counts:?}");
        assert!(counts.rounded * 100 <= counts.rows, "{found}: {counts:?}");
        assert!(counts.equal * 10 <= counts.rows, "{found}: {counts:?}");
    }
}

/// Logits from which nothing can be drawn.
struct Faults;

impl DeviceVisitor for Faults {
    type Output = ();

    fn visit<B: ModelBackend>(self, device: B::Device) {
        let none = f32::NEG_INFINITY;
        let rows = [
            vec![0.0, f32::NAN, 1.0],
            vec![0.0, -f32::NAN, f32::INFINITY],
            vec![0.0, f32::INFINITY, 1.0],
            vec![none, none, none],
            vec![1e38, none, none],
            vec![-1e38, none, -2e38],
            vec![-0.0, 0.0, none],
            // The last token is masked.
            vec![none, 3.0, f32::NAN],
        ];
        for top_k in [None, Some(1)] {
            let case = Case {
                kind: Kind::Equal,
                vocabulary: 3,
                clips: rows.len(),
                repeats: 1,
                seed: 0,
                options: SamplingOptions {
                    temperature: 0.1,
                    top_k,
                    top_p: 0.98,
                },
                masked: 2..9,
                sparse: false,
            };
            let sampling = case.sampling(&vec![0.3; rows.len()]);
            let Some(drawn) = on_device::<B>(&rows.concat(), rows.len(), &sampling, &device) else {
                return;
            };
            for (row, drawn) in rows.iter().zip(drawn) {
                assert_eq!(drawn, case.on_host(row, 0.3), "{row:?}, {top_k:?}");
            }
        }
    }
}

#[test]
fn devices_tell_what_is_wrong_with_logits() {
    for found in Device::available() {
        found.device.run(Faults).unwrap();
    }
}
