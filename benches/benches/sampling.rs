//! Logits to the next token, once per generated token and row, at the released vocabulary.

use std::hint::black_box;

use alpamayo_core::{RowSampler, SamplingOptions, flow_noise};
use criterion::{Criterion, criterion_group, criterion_main};

const VOCABULARY: usize = 155_697;
const TRAJECTORY_TOKENS: std::ops::Range<u32> = 151_669..155_669;

fn sampling(criterion: &mut Criterion) {
    let noise = flow_noise(1, 0, VOCABULARY);
    // Language models' logits: a bell of width 2 or 3, and a few tokens far above it.
    let mut peaked: Vec<f32> = noise.iter().map(|x| 2.5 * x).collect();
    for (i, logit) in [22.0, 20.5, 19.0, 18.5, 16.0].into_iter().enumerate() {
        peaked[i * 20_011] = logit;
    }
    let equal = vec![0.0; VOCABULARY];
    let default = SamplingOptions::default();
    let top_k = SamplingOptions {
        top_k: Some(50),
        ..default
    };
    let mut group = criterion.benchmark_group("sampling");
    for (name, logits, options) in [
        ("peaked", &peaked, default),
        ("bell", &noise, default),
        ("all equal", &equal, default),
        ("peaked, top-k 50", &peaked, top_k),
        ("greedy", &peaked, SamplingOptions::greedy()),
    ] {
        let mut sampler = RowSampler::new(options, TRAJECTORY_TOKENS, 0, 0).expect("valid options");
        group.bench_function(name, |bencher| {
            bencher.iter(|| sampler.sample(black_box(logits)).expect("finite logits"));
        });
    }
    group.bench_function("flow noise", |bencher| {
        bencher.iter(|| flow_noise(black_box(7), 0, 64 * 2));
    });
    group.finish();
}

criterion_group!(benches, sampling);
criterion_main!(benches);
