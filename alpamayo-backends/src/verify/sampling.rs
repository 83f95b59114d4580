//! Drawing tokens.

use std::ops::Range;

use super::{Bench, Check, ModelShapes, host};
use crate::ModelBackend;
use crate::sampling::{Sampled, TokenSampling};

/// Of a probability: what rounding and the one token explain that may lie within rounding of the cut.
const TOLERANCE: f64 = 1e-5;

pub(super) fn verify<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) {
    let (rows, vocabulary) = (shapes.samples, shapes.vocabulary);
    let logits = bench.random.values(rows * vocabulary, 8.0);
    let masked = (vocabulary / 2) as u32..(vocabulary * 2 / 3) as u32;
    let sampling = TokenSampling {
        masked: masked.clone(),
        greedy: false,
        temperature: 0.6,
        top_p: 0.98,
        uniforms: (0..rows).map(|row| (row as f64 + 0.5) / rows as f64).collect(),
    };
    let on_device = host::upload(&logits, [rows, vocabulary], bench.device);
    let Some(drawn) = B::sample_tokens(on_device, &sampling) else {
        return;
    };
    let drawn = drawn.tokens().unwrap_or_default();
    // Without tokens there is nothing that could be right.
    let missing = (drawn.len() != rows).then_some(f64::NAN);
    let distances = drawn.into_iter().enumerate().map(|(row, drawn)| {
        let shares = shares(&logits[row * vocabulary..][..vocabulary], &sampling);
        let uniform = sampling.uniforms[row];
        match drawn {
            Sampled::Token(id) => (shares.get(id as usize)).map_or(f64::NAN, |share| distance(uniform, share)),
            _ => f64::NAN,
        }
    });
    // `max` of two numbers would pass over NaN.
    let worse = |worst: f64, distance: f64| {
        if distance <= worst || worst.is_nan() {
            worst
        } else {
            distance
        }
    };
    let worst = distances.chain(missing).fold(0.0, worse);
    bench.checks.push(Check {
        operation: "sample_tokens",
        shape: format!("{rows} x {vocabulary}"),
        relative_error: worst,
        tolerance: TOLERANCE,
    });
}

/// How far a number lies outside a token's share of the probability; infinitely far where it has none.
fn distance(uniform: f64, share: &Range<f64>) -> f64 {
    if share.is_empty() {
        return f64::INFINITY;
    }
    (share.start - uniform).max(uniform - share.end).max(0.0)
}

/// Every token's share of the probability, one behind the other.
fn shares(logits: &[f32], sampling: &TokenSampling) -> Vec<Range<f64>> {
    let mut order: Vec<usize> = (0..logits.len())
        .filter(|&id| !sampling.masked.contains(&(id as u32)))
        .collect();
    order.sort_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(a.cmp(&b)));
    let largest = order.last().map_or(0.0, |&id| logits[id]);
    let mut weights: Vec<f64> = vec![0.0; logits.len()];
    for &id in &order {
        weights[id] = (f64::from(logits[id] - largest) / f64::from(sampling.temperature)).exp();
    }
    let mut rest = (1.0 - sampling.top_p) * weights.iter().sum::<f64>();
    for id in order {
        rest -= weights[id];
        if rest < 0.0 {
            break;
        }
        weights[id] = 0.0;
    }
    let total: f64 = weights.iter().sum();
    let mut before = 0.0;
    let share = |weight: f64| {
        let start = before;
        before += weight / total;
        start..before
    };
    weights.into_iter().map(share).collect()
}
