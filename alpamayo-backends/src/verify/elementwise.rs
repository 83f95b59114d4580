//! Norms, look-ups, pixels and Fourier features.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use half::bf16;

use super::host;
use super::{Bench, ModelShapes};
use crate::ModelBackend;
use crate::layers::{HostBytes, Norm};

const EXACT: f64 = 1e-6;

pub(super) fn verify<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) {
    norms(bench, shapes);
    rows(bench, shapes);
    pixels(bench);
    fourier(bench, shapes);
}

fn norms<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) {
    for (tokens, features) in [
        (1, shapes.text.hidden_size),
        (shapes.waypoints, shapes.expert.hidden_size),
    ] {
        let (x, tensor) = bench.matrix(tokens, features, 3.0);
        let (weight, weight_tensor) = bench.vector(features, 1.0, 0.5);
        let output = B::normalize(tensor, &Norm::rms(weight_tensor, 1e-6));
        let expected = x
            .chunks_exact(features)
            .enumerate()
            .flat_map(|(row, x)| elements(row, host::rms_norm(x, &weight, 1e-6)));
        let expected: Vec<_> = expected.collect();
        bench.compare(
            "normalize",
            format!("rms {tokens} x {features}"),
            EXACT * 3.0,
            output,
            expected,
        );
    }
    let (tokens, features) = (7, shapes.vision.hidden_size);
    let (x, tensor) = bench.matrix(tokens, features, 3.0);
    let (weight, weight_tensor) = bench.vector(features, 1.0, 0.5);
    let (bias, bias_tensor) = bench.vector(features, 0.0, 0.5);
    let output = B::normalize(tensor, &Norm::layer(weight_tensor, bias_tensor, 1e-6));
    let expected: Vec<_> = x
        .chunks_exact(features)
        .enumerate()
        .flat_map(|(row, x)| elements(row, host::layer_norm(x, &weight, &bias, 1e-6)))
        .collect();
    bench.compare(
        "normalize",
        format!("layer {tokens} x {features}"),
        EXACT * 3.0,
        output,
        expected,
    );
}

fn elements(row: usize, values: Vec<f32>) -> impl Iterator<Item = (usize, usize, f64)> {
    values
        .into_iter()
        .enumerate()
        .map(move |(column, value)| (row, column, f64::from(value)))
}

fn rows<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) {
    let features = shapes.text.hidden_size;
    let (x, tensor) = bench.matrix(11, features, 1.0);
    let (values, values_tensor) = bench.matrix(3, features, 1.0);
    let targets = [1_usize, 4, 10];
    let indices = Tensor::<B, 1, Int>::from_ints(targets.map(|row| row as i32), bench.device);
    let output = B::add_rows(tensor, indices, values_tensor);
    let expected: Vec<_> = (0..11 * features)
        .map(|i| {
            let (row, column) = (i / features, i % features);
            let added = targets.iter().position(|&target| target == row);
            let added = added.map_or(0.0, |index| f64::from(values[index * features + column]));
            (row, column, f64::from(x[i]) + added)
        })
        .collect();
    bench.compare("add_rows", format!("3 of 11 x {features}"), EXACT, output, expected);
    host_rows(bench, &x, features);
}

/// Rows that stay on the host, where the device reads them by itself.
fn host_rows<B: ModelBackend>(bench: &mut Bench<'_, B>, values: &[f32], features: usize) {
    let rows = values.len() / features;
    let bytes: Vec<u8> = (values.iter())
        .flat_map(|&value| bf16::from_f32(value).to_le_bytes())
        .collect();
    let bytes: HostBytes = Arc::new(bytes);
    let ids = [rows - 1, 0, rows / 2, rows + 5];
    let indices = Tensor::<B, 1, Int>::from_ints(ids.map(|id| id as i32), bench.device);
    let table = B::store_host_rows(&bytes, (rows, features), bench.device);
    let Some(output) = table.and_then(|table| B::lookup_host_rows(indices, &table)) else {
        return;
    };
    let expected = ids.iter().enumerate().flat_map(|(row, &id)| {
        let found = &values[id.min(rows - 1) * features..][..features];
        elements(row, found.to_vec())
    });
    let shape = format!("{} of {rows} x {features}", ids.len());
    bench.compare("lookup_host_rows", shape, 0.0, output, expected);
}

fn pixels<B: ModelBackend>(bench: &mut Bench<'_, B>) {
    let (channels, temporal, area, patches) = (3, 2, 256, 5);
    let pixels: Vec<u8> = (0..patches * channels * area).map(|i| (i * 7 % 256) as u8).collect();
    let output = B::normalize_pixels(&pixels, channels, temporal, area, bench.device);
    let width = channels * temporal * area;
    let expected: Vec<_> = (0..patches * width)
        .map(|i| {
            let (patch, column) = (i / width, i % width);
            let (channel, position) = (column / (temporal * area), column % area);
            let pixel = f32::from(pixels[(patch * channels + channel) * area + position]);
            (patch, column, f64::from((pixel - 127.5) / 127.5))
        })
        .collect();
    bench.compare("normalize_pixels", format!("{patches} patches"), 1e-7, output, expected);
}

fn fourier<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) {
    let (waypoints, count) = (shapes.waypoints, 10);
    let frequencies: Vec<f32> = (0..3 * count).map(|i| 100_f32.powf((i % count) as f32 / 9.0)).collect();
    let (x, tensor) = bench.matrix(waypoints, 2, 3.0);
    let time = 0.3_f32;
    let frequencies_tensor = host::upload(&frequencies, [3, count], bench.device);
    let output = B::fourier_features(tensor, time, &frequencies_tensor);
    let mut expected = Vec::new();
    for (row, pair) in x.chunks_exact(2).enumerate() {
        for (input, value) in [pair[0], pair[1], time].into_iter().enumerate() {
            for (j, frequency) in frequencies[input * count..(input + 1) * count].iter().enumerate() {
                let angle = f64::from((value * frequency) * std::f32::consts::TAU);
                let column = input * 2 * count + j;
                expected.push((row, column, std::f64::consts::SQRT_2 * angle.sin()));
                expected.push((row, column + count, std::f64::consts::SQRT_2 * angle.cos()));
            }
        }
    }
    bench.compare("fourier_features", format!("{waypoints} x 2"), EXACT, output, expected);
}
