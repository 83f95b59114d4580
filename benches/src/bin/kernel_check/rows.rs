//! Norms, gates and random weights, through the operations of the backend.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::layers::{Linear, Norm, WeightFormat};
use burn::tensor::{Distribution, Tensor};

use super::measure::{Cube, Options, Work, dot, host, random, relative_error, row, sample, time, weight_row, weights};

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    for (tokens, columns) in [(1, 4096), (6, 4096), (64, 2048), (3006, 4096)] {
        let columns = options.extent(columns);
        let weight = Tensor::<Cube<R>, 1>::random([columns], Distribution::Uniform(0.5, 1.5), device);
        normalize::<R>("rms norm", tokens, columns, &Norm::rms(weight, 1e-6), device);
    }
    let (tokens, columns) = (11_520, options.extent(1152));
    let ones = Tensor::<Cube<R>, 1>::ones([columns], device);
    let zeros = Tensor::<Cube<R>, 1>::zeros([columns], device);
    normalize::<R>("layer norm", tokens, columns, &Norm::layer(ones, zeros, 1e-6), device);
    for (tokens, hidden, intermediate) in [(64, 2048, 8256), (3006, 4096, 12_288), (11_520, 1152, 4304)] {
        many_tokens::<R>(tokens, options.extent(hidden), options.extent(intermediate), device);
    }
    let (rows, columns) = (options.extent(24_576), options.extent(4096));
    let times = time::<R, _>(device, |_| {
        Cube::<R>::random_weight((rows, columns), 0.05, WeightFormat::Bf16, device).expect("an even width")
    });
    row(
        "random_weight",
        &format!("{rows} x {columns}"),
        times,
        Work::Bytes(2 * rows * columns),
        0.0,
    );
}

fn normalize<R: KernelRuntime>(name: &str, tokens: usize, columns: usize, norm: &Norm<Cube<R>>, device: &R::Device) {
    let x = random::<R>(tokens, columns, device);
    let output = host::<R, 2>(Cube::<R>::normalize(x.clone(), norm));
    let values = host::<R, 2>(x.clone());
    let (weight, centred) = match norm {
        Norm::Rms(norm) => (host::<R, 1>(norm.weight.val()), false),
        Norm::Layer(norm) => (host::<R, 1>(norm.weight.val()), true),
    };
    let mut pairs = Vec::new();
    for token in [0, tokens / 2, tokens - 1] {
        let row = &values[token * columns..][..columns];
        let mean = if centred {
            row.iter().map(|&x| f64::from(x)).sum::<f64>() / columns as f64
        } else {
            0.0
        };
        let variance = dot(row, row) / columns as f64 - mean * mean;
        let scale = (variance + 1e-6).sqrt().recip();
        for (at, &x) in row.iter().enumerate() {
            let expected = (f64::from(x) - mean) * scale * f64::from(weight[at]);
            pairs.push((output[token * columns + at], expected));
        }
    }
    let times = time::<R, _>(device, |_| Cube::<R>::normalize(x.clone(), norm));
    let work = Work::Bytes(8 * tokens * columns);
    row(
        name,
        &format!("{tokens} x {columns}"),
        times,
        work,
        relative_error(&pairs),
    );
}

/// A whole gated projection of many rows, as the model calls it: by the library, or by the register-blocked kernel.
fn many_tokens<R: KernelRuntime>(tokens: usize, hidden: usize, intermediate: usize, device: &R::Device) {
    let linears: Vec<_> = weights::<R>(2 * intermediate, hidden, device)
        .into_iter()
        .map(|weight| Linear::new(weight, None))
        .collect();
    let norm = Norm::rms(Tensor::<Cube<R>, 1>::ones([hidden], device), 1e-6);
    let x = random::<R>(tokens, hidden, device);
    let launch = |index: usize| Cube::<R>::norm_gate_up(x.clone(), &norm, &linears[index % linears.len()]);
    let (output, values) = (host::<R, 2>(launch(0)), host::<R, 2>(x.clone()));
    let mut pairs = Vec::new();
    for at in sample(intermediate) {
        let gate_row = weight_row::<R>(&linears[0].weight, at);
        let up_row = weight_row::<R>(&linears[0].weight, intermediate + at);
        for token in sample(tokens) {
            let x = &values[token * hidden..][..hidden];
            let scale = (dot(x, x) / hidden as f64 + 1e-6).sqrt().recip();
            let gate = dot(x, &gate_row) * scale;
            let expected = gate / (1.0 + (-gate).exp()) * dot(x, &up_row) * scale;
            pairs.push((output[token * intermediate + at], expected));
        }
    }
    let times = time::<R, _>(device, launch);
    row(
        "norm_gate_up, many tokens",
        &format!("{tokens} x {hidden} -> 2 x {intermediate}"),
        times,
        Work::Operations(4 * tokens * hidden * intermediate),
        relative_error(&pairs),
    );
}
