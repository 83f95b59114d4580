//! What is fused around the matrix-vector kernel, through the operations of the backend.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::layers::{Activation, Linear, Norm};
use burn::tensor::{Distribution, Tensor};

use super::measure::{Cube, Options, Work, dot, host, random, relative_error, row, sample, time, weight_row, weights};

const EPSILON: f64 = 1e-6;

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    for &tokens in &options.tokens {
        for (hidden, intermediate, qkv) in [(4096, 12_288, 6144), (2048, 8256, 4096)] {
            let [hidden, intermediate, qkv] = [hidden, intermediate, qkv].map(|extent| options.extent(extent));
            norm_project::<R>(tokens, hidden, qkv, device);
            norm_gate_up::<R>(tokens, hidden, intermediate, device);
            project_add::<R>(tokens, intermediate, hidden, device);
        }
    }
}

fn linears<R: KernelRuntime>(rows: usize, columns: usize, device: &R::Device) -> Vec<Linear<Cube<R>>> {
    let weights = weights::<R>(rows, columns, device).into_iter();
    weights.map(|weight| Linear::new(weight, None)).collect()
}

/// `x`, a norm, and the normalised rows on the host.
fn normalised<R: KernelRuntime>(
    tokens: usize,
    columns: usize,
    device: &R::Device,
) -> (Tensor<Cube<R>, 2>, Norm<Cube<R>>, Vec<f32>) {
    let x = random::<R>(tokens, columns, device);
    let weight = Tensor::<Cube<R>, 1>::random([columns], Distribution::Uniform(0.5, 1.5), device);
    let scales = host::<R, 1>(weight.clone());
    let rows = host::<R, 2>(x.clone());
    let values = rows.chunks_exact(columns).flat_map(|row| {
        let factor = (dot(row, row) / columns as f64 + EPSILON).sqrt().recip();
        let scaled = row.iter().zip(&scales);
        scaled
            .map(move |(&x, &w)| (f64::from(x) * factor * f64::from(w)) as f32)
            .collect::<Vec<_>>()
    });
    let values = values.collect();
    (x, Norm::rms(weight, EPSILON), values)
}

fn norm_project<R: KernelRuntime>(tokens: usize, columns: usize, rows: usize, device: &R::Device) {
    let linears = linears::<R>(rows, columns, device);
    let (x, norm, values) = normalised::<R>(tokens, columns, device);
    let run =
        |index: usize| Cube::<R>::norm_project(x.clone(), &norm, &linears[index % linears.len()], Activation::None);
    let output = host::<R, 2>(run(0));
    let mut pairs = Vec::new();
    for at in sample(rows) {
        let weight = weight_row::<R>(&linears[0].weight, at);
        for token in 0..tokens {
            pairs.push((
                output[token * rows + at],
                dot(&values[token * columns..][..columns], &weight),
            ));
        }
    }
    let times = time::<R, _>(device, run);
    row(
        "norm_project",
        &format!("{tokens} x {columns} -> {rows}"),
        times,
        Work::Bytes(2 * rows * columns),
        relative_error(&pairs),
    );
}

fn norm_gate_up<R: KernelRuntime>(tokens: usize, columns: usize, intermediate: usize, device: &R::Device) {
    let linears = linears::<R>(2 * intermediate, columns, device);
    let (x, norm, values) = normalised::<R>(tokens, columns, device);
    let run = |index: usize| Cube::<R>::norm_gate_up(x.clone(), &norm, &linears[index % linears.len()]);
    let output = host::<R, 2>(run(0));
    let mut pairs = Vec::new();
    for at in sample(intermediate) {
        let gate_row = weight_row::<R>(&linears[0].weight, at);
        let up_row = weight_row::<R>(&linears[0].weight, intermediate + at);
        for token in 0..tokens {
            let x = &values[token * columns..][..columns];
            let gate = dot(x, &gate_row);
            pairs.push((
                output[token * intermediate + at],
                gate / (1.0 + (-gate).exp()) * dot(x, &up_row),
            ));
        }
    }
    let times = time::<R, _>(device, run);
    row(
        "norm_gate_up",
        &format!("{tokens} x {columns} -> 2 x {intermediate}"),
        times,
        Work::Bytes(4 * intermediate * columns),
        relative_error(&pairs),
    );
}

fn project_add<R: KernelRuntime>(tokens: usize, columns: usize, rows: usize, device: &R::Device) {
    let linears = linears::<R>(rows, columns, device);
    let x = random::<R>(tokens, columns, device);
    let residual = random::<R>(tokens, rows, device);
    let run = |index: usize| Cube::<R>::project_add(x.clone(), &linears[index % linears.len()], residual.clone());
    let output = host::<R, 2>(run(0));
    let (values, added) = (host::<R, 2>(x.clone()), host::<R, 2>(residual.clone()));
    let mut pairs = Vec::new();
    for at in sample(rows) {
        let weight = weight_row::<R>(&linears[0].weight, at);
        for token in 0..tokens {
            let expected = f64::from(added[token * rows + at]) + dot(&values[token * columns..][..columns], &weight);
            pairs.push((output[token * rows + at], expected));
        }
    }
    let times = time::<R, _>(device, run);
    row(
        "project_add",
        &format!("{tokens} x {columns} -> {rows}"),
        times,
        Work::Bytes(2 * rows * columns),
        relative_error(&pairs),
    );
}
