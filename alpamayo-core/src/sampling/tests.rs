use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::test_data::TestData;

/// The definition, sorting everything.
fn brute_force(logits: &[f32], masked: &Range<u32>, options: &SamplingOptions) -> Vec<f64> {
    let temperature = options.temperature as f32;
    let mut order: Vec<(f32, usize)> = (0..logits.len())
        .filter(|id| !masked.contains(&(*id as u32)))
        .map(|id| (logits[id] / temperature, id))
        .collect();
    order.sort_by(|a, b| a.partial_cmp(b).unwrap());
    if let Some(k) = options.top_k {
        let kth = order[order.len().saturating_sub(k)].0;
        order.retain(|(scaled, _)| *scaled >= kth);
    }
    let max = order.last().unwrap().0;
    let weight = |scaled: f32| f64::from(scaled - max).exp();
    let total: f64 = order.iter().map(|(scaled, _)| weight(*scaled)).sum();
    let mut result = vec![0.0; logits.len()];
    let mut cumulative = 0.0;
    for (rank, (scaled, id)) in order.iter().enumerate() {
        cumulative += weight(*scaled) / total;
        if cumulative > 1.0 - options.top_p || rank + 1 == order.len() {
            result[*id] = weight(*scaled);
        }
    }
    let kept: f64 = result.iter().sum();
    result.iter().map(|weight| weight / kept).collect()
}

#[test]
fn probabilities_are_the_references() {
    let data = TestData::read("sampling.safetensors");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sampling.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 7);
    for case in cases {
        let options = SamplingOptions {
            temperature: case["temperature"].as_f64().unwrap(),
            top_k: case["top_k"].as_u64().map(|k| k as usize),
            top_p: case["top_p"].as_f64().unwrap(),
        };
        let logits = data.rows::<f32, 700>(&format!("{}.logits", case["case"]));
        let truth = data.rows::<f32, 700>(&format!("{}.probabilities", case["case"]));
        for (logits, truth) in logits.iter().zip(&truth) {
            let found = probabilities(logits, 0..0, &options).unwrap();
            for (id, (found, truth)) in found.iter().zip(truth).enumerate() {
                assert_eq!(*found > 0.0, *truth > 0.0, "{case}: token {id} is kept or not");
                assert!((found - truth).abs() <= 1e-6, "{case}: {found} {truth}");
            }
        }
    }
}

/// Logits with many exact ties, or spread finely, or nearly all alike.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let coarse = (-6i32..6).prop_map(|x| x as f32);
    let fine = -20.0f32..20.0;
    prop_oneof![
        prop::collection::vec(coarse, 20..400),
        prop::collection::vec(fine, 20..400),
        prop::collection::vec(0.0f32..0.01, 20..400),
    ]
}

fn options() -> impl Strategy<Value = SamplingOptions> {
    let top_k = prop::option::of(1usize..500);
    let top_p = prop_oneof![Just(0.0), Just(1.0), Just(0.98), 0.0..1.0];
    (0.05f64..3.0, top_k, top_p).prop_map(|(temperature, top_k, top_p)| SamplingOptions {
        temperature,
        top_k,
        top_p,
    })
}

proptest! {
    #[test]
    fn the_kept_tokens_are_those_of_the_definition(logits in logits(), options in options(), start in 0u32..10, n in 0u32..10) {
        let masked = start..start + n;
        let found = probabilities(&logits, masked.clone(), &options).unwrap();
        let truth = brute_force(&logits, &masked, &options);
        for (id, (&found, &truth)) in found.iter().zip(&truth).enumerate() {
            // Where the cumulative sum meets 1 - top_p up to rounding, or a weight underflows, the definition is ambiguous.
            if (found > 0.0) != (truth > 0.0) {
                prop_assert!(truth < 1e-36 || is_borderline(&logits, &masked, &options, id), "token {} {} {}", id, found, truth);
                return Ok(());
            }
            prop_assert!((f64::from(found) - truth).abs() < 1e-6);
        }
    }

    #[test]
    fn draws_of_a_row_depend_on_nothing_else(logits in logits(), seed: u64, rows in 1usize..5, steps in 1usize..6) {
        let draw_all = |rows: usize| -> Vec<Vec<u32>> {
            let mut samplers: Vec<RowSampler> = (0..rows)
                .map(|row| RowSampler::new(SamplingOptions::default(), 3..5, seed, row as u64).unwrap())
                .collect();
            let mut drawn = vec![vec![]; rows];
            for _ in 0..steps {
                for (row, sampler) in samplers.iter_mut().enumerate().rev() {
                    drawn[row].push(sampler.sample(&logits).unwrap());
                }
            }
            drawn
        };
        let all = draw_all(5);
        prop_assert_eq!(&draw_all(rows)[..], &all[..rows]);
        let probabilities = probabilities(&logits, 3..5, &SamplingOptions::default()).unwrap();
        prop_assert!(all.iter().flatten().all(|&id| probabilities[id as usize] > 0.0));
    }

    #[test]
    fn greedy_takes_the_first_of_the_best(logits in logits(), start in 0u32..15) {
        let masked = start..start + 5;
        let mut best: Option<u32> = None;
        for id in (0..logits.len() as u32).filter(|id| !masked.contains(id)) {
            if best.is_none_or(|best| logits[id as usize] > logits[best as usize]) {
                best = Some(id);
            }
        }
        let mut sampler = RowSampler::new(SamplingOptions::greedy(), masked, 0, 0).unwrap();
        prop_assert_eq!(Some(sampler.sample(&logits).unwrap()), best);
    }

    #[test]
    fn every_share_of_the_total_belongs_to_its_token(logits in logits(), uniform in 0.0f64..1.0) {
        let mut weights = Weights::default();
        let total = weights.compute(&logits, &(0..0), &SamplingOptions::default()).unwrap();
        let picked = weights.pick(uniform * total);
        let before: f64 = weights.kept()[..picked].iter().map(|&w| f64::from(w)).sum();
        let share = f64::from(weights.kept()[picked]);
        prop_assert!(share > 0.0);
        prop_assert!(before <= uniform * total + 1e-9 && uniform * total <= before + share + 1e-9);
        // The far end belongs to the last token that is kept.
        let last = weights.kept().iter().rposition(|&w| w > 0.0).unwrap();
        prop_assert_eq!(weights.pick(total), last);
    }
}

/// Whether the cumulative probability up to a token is 1 - top_p within rounding.
fn is_borderline(logits: &[f32], masked: &Range<u32>, options: &SamplingOptions, id: usize) -> bool {
    let all = SamplingOptions { top_p: 1.0, ..*options };
    let probabilities = brute_force(logits, masked, &all);
    let temperature = options.temperature as f32;
    let key = |id: usize| (logits[id] / temperature, id);
    let cumulative: f64 = (0..logits.len())
        .filter(|&other| key(other) <= key(id))
        .map(|other| probabilities[other])
        .sum();
    (cumulative - (1.0 - options.top_p)).abs() < 1e-6
}

#[test]
fn frequencies_are_the_probabilities() {
    let logits: Vec<f32> = (0..3000).map(|i| ((i * 7919) % 13) as f32 * 0.4).collect();
    let options = SamplingOptions {
        top_p: 0.9,
        ..Default::default()
    };
    let truth = probabilities(&logits, 0..100, &options).unwrap();
    let mut sampler = RowSampler::new(options, 0..100, 5, 0).unwrap();
    let draws = 20_000;
    let mut counts = [0.0; 30];
    for _ in 0..draws {
        counts[sampler.sample(&logits).unwrap() as usize / 100] += 1.0;
    }
    // Chi-squared over blocks of 100 ids; 28 degrees of freedom, 99.9 % below 56.9.
    let mut chi_squared = 0.0;
    for (block, count) in counts.iter().enumerate() {
        let expected: f64 = truth[block * 100..][..100].iter().map(|&p| f64::from(p)).sum::<f64>() * draws as f64;
        if expected == 0.0 {
            assert_eq!(*count, 0.0);
        } else {
            chi_squared += (count - expected).powi(2) / expected;
        }
    }
    assert!(chi_squared < 56.9, "{chi_squared}");
}

#[test]
fn the_streams_number_chooses() {
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 997) as f32 * 0.01).collect();
    for options in [SamplingOptions::default(), SamplingOptions::greedy()] {
        let mut sampler = RowSampler::new(options, 0..10, 42, 1).unwrap();
        let mut other = sampler.clone();
        for _ in 0..5 {
            let uniform = other.uniform();
            assert_eq!(
                other.choose(&logits, uniform).unwrap(),
                sampler.sample(&logits).unwrap()
            );
        }
    }
}

#[test]
fn draws_are_pinned() {
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 997) as f32 * 0.01).collect();
    let mut sampler = RowSampler::new(SamplingOptions::default(), 0..10, 42, 1).unwrap();
    let draws: Vec<u32> = (0..6).map(|_| sampler.sample(&logits).unwrap()).collect();
    assert_eq!(draws, [735, 175, 579, 105, 578, 439]);
}

#[test]
fn bad_options_and_logits_are_errors() {
    let with = |change: fn(&mut SamplingOptions)| {
        let mut options = SamplingOptions::default();
        change(&mut options);
        RowSampler::new(options, 0..0, 0, 0).unwrap_err().to_string()
    };
    assert!(with(|o| o.temperature = 0.0).contains("temperature"));
    assert!(with(|o| o.temperature = f64::NAN).contains("temperature"));
    assert!(with(|o| o.top_k = Some(0)).contains("top_k"));
    assert!(with(|o| o.top_p = 1.5).contains("top_p"));
    for options in [SamplingOptions::default(), SamplingOptions::greedy()] {
        for (logits, expected) in [
            (vec![], LogitsFault::Nothing),
            (vec![0.0, f32::NAN], LogitsFault::Nan),
            (vec![0.0, f32::INFINITY], LogitsFault::Infinite),
            (vec![f32::NEG_INFINITY; 3], LogitsFault::Nothing),
        ] {
            let mut sampler = RowSampler::new(options, 2..2, 0, 0).unwrap();
            let found = sampler.sample(&logits);
            assert!(
                matches!(found, Err(Error::Logits(fault)) if fault == expected),
                "{logits:?}"
            );
        }
        let mut sampler = RowSampler::new(options, 0..9, 0, 0).unwrap();
        assert!(sampler.sample(&[1.0, 2.0]).is_err());
    }
}
