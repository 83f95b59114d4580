//! Tokens drawn where the logits are: the host's tokens, and the time until the host has them, as decoding waits for each.

use std::ops::Range;
use std::time::Instant;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::sampling::{Sampled, TokenSampling};
use alpamayo_core::{RowSampler, SamplingOptions, flow_noise};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::measure::{Cube, Options, time};

const VOCABULARY: usize = 155_697;
const TRAJECTORY_TOKENS: Range<u32> = 151_669..155_669;
/// Draws that are compared.
const DRAWS: usize = 60;
/// Draws that are timed.
const TIMED: usize = 300;

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    println!(
        "{:<34} {:<26} {:>9} {:>9} {:>9} {:>10}",
        "", "", "us queued", "us waited", "us host's", "others of"
    );
    let vocabulary = options.extent(VOCABULARY);
    for &rows in &options.tokens {
        for (name, greedy) in [
            ("bell", false),
            ("narrow bell", false),
            ("peaked", false),
            ("peaked", true),
        ] {
            let logits: Vec<f32> = (0..rows as u64).flat_map(|row| logits(name, vocabulary, row)).collect();
            check_row::<R>(name, greedy, rows, &logits, device);
        }
        let equal = vec![0.0; rows * vocabulary];
        check_row::<R>("all equal", false, rows, &equal, device);
    }
}

/// Logits of a language model, of a random one, and of a decided one.
fn logits(name: &str, vocabulary: usize, row: u64) -> Vec<f32> {
    let width = if name == "narrow bell" { 0.7 } else { 2.5 };
    let mut logits: Vec<f32> = flow_noise(1, row, vocabulary).iter().map(|x| width * x).collect();
    if name == "peaked" {
        for (i, logit) in [22.0, 20.5, 19.0, 18.5, 16.0].into_iter().enumerate() {
            logits[(i * 20_011 + row as usize) % vocabulary] = logit;
        }
    }
    logits
}

fn check_row<R: KernelRuntime>(name: &str, greedy: bool, rows: usize, logits: &[f32], device: &R::Device) {
    let vocabulary = logits.len() / rows;
    let on_device = Tensor::<Cube<R>, 2>::from_data(TensorData::new(logits.to_vec(), [rows, vocabulary]), device);
    let options = if greedy {
        SamplingOptions::greedy()
    } else {
        SamplingOptions::default()
    };
    let mut sampling = TokenSampling {
        masked: TRAJECTORY_TOKENS,
        greedy,
        temperature: options.temperature as f32,
        top_p: options.top_p,
        uniforms: vec![0.5; rows],
    };
    let draw = |sampling: &TokenSampling| {
        Cube::<R>::sample_tokens(on_device.clone(), sampling).expect("the device draws tokens")
    };
    let mut samplers: Vec<RowSampler> = (0..rows as u64)
        .map(|row| RowSampler::new(options, TRAJECTORY_TOKENS, 3, row).expect("valid options"))
        .collect();
    let (mut others, mut host) = (0, f64::MAX);
    for _ in 0..DRAWS {
        sampling.uniforms = samplers.iter_mut().map(RowSampler::uniform).collect();
        let drawn = draw(&sampling).tokens().expect("the device draws tokens");
        let start = Instant::now();
        for (row, &drawn) in drawn.iter().enumerate() {
            let logits = &logits[row * vocabulary..][..vocabulary];
            let expected = samplers[row]
                .choose(logits, sampling.uniforms[row])
                .expect("finite logits");
            others += usize::from(drawn != Sampled::Token(expected));
        }
        host = host.min(start.elapsed().as_secs_f64() / rows as f64);
    }
    let queued = time::<R, _>(device, |_| draw(&sampling)).0;
    Cube::<R>::sync(device).expect("the device finishes its work");
    let start = Instant::now();
    for _ in 0..TIMED {
        draw(&sampling).tokens().expect("the device draws tokens");
    }
    let waited = start.elapsed().as_secs_f64() / TIMED as f64;
    println!(
        "{:<34} {:<26} {:>9.1} {:>9.1} {:>9.1} {:>10}",
        if greedy {
            "sample_tokens, greedy"
        } else {
            "sample_tokens"
        },
        format!("{rows} x {vocabulary}, {name}"),
        queued * 1e6,
        waited * 1e6,
        host * 1e6,
        format!("{others} of {}", rows * DRAWS),
    );
}
