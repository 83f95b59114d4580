//! Products with stored weights.

use burn::tensor::{Int, Tensor};

use super::host;
use super::{Bench, ModelShapes};
use crate::ModelBackend;
use crate::definition;
use crate::error::Result;
use crate::layers::{Activation, Linear, Norm, SourceType, WeightSource};

/// At most so many rows and columns of an output are compared.
const SAMPLED: usize = 24;

/// Features of an action, which the last projection of the flow puts out.
const ACTION_FEATURES: usize = 2;

pub(super) fn verify<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) -> Result<()> {
    let (text, expert, vision) = (&shapes.text, &shapes.expert, &shapes.vision);
    let prompt = shapes.prompt_length;
    let patches = vision.image_lengths.iter().sum();
    for tokens in [1, shapes.samples, prompt] {
        block(
            bench,
            tokens,
            text.hidden_size,
            text.attention.qkv_features(),
            Activation::None,
        )?;
        residual(bench, tokens, text.intermediate_size, text.hidden_size)?;
        gated(bench, tokens, text.hidden_size, text.intermediate_size)?;
    }
    let queries = text.attention.num_heads * text.attention.head_dim;
    let qkv = text.attention.qkv_features();
    norm_between(bench, 1, [queries, text.hidden_size, text.intermediate_size], true)?;
    norm_between(bench, 1, [text.intermediate_size, text.hidden_size, qkv], false)?;
    for tokens in [shapes.waypoints, shapes.waypoints * shapes.samples] {
        block(
            bench,
            tokens,
            expert.hidden_size,
            expert.attention.qkv_features(),
            Activation::Silu,
        )?;
        residual(bench, tokens, expert.intermediate_size, expert.hidden_size)?;
        gated(bench, tokens, expert.hidden_size, expert.intermediate_size)?;
        block(bench, tokens, expert.hidden_size, ACTION_FEATURES, Activation::None)?;
        let queries = expert.attention.num_heads * expert.attention.head_dim;
        norm_between(
            bench,
            tokens,
            [queries, expert.hidden_size, expert.intermediate_size],
            true,
        )?;
        let qkv = expert.attention.qkv_features();
        norm_between(
            bench,
            tokens,
            [expert.intermediate_size, expert.hidden_size, qkv],
            false,
        )?;
    }
    block(
        bench,
        patches,
        vision.hidden_size,
        vision.intermediate_size,
        Activation::GeluTanh,
    )?;
    block(
        bench,
        patches / 4,
        vision.hidden_size * 4,
        vision.hidden_size * 4,
        Activation::GeluErf,
    )?;
    residual(bench, patches, vision.intermediate_size, vision.hidden_size)?;
    for tokens in [1, shapes.samples] {
        block(bench, tokens, text.hidden_size, shapes.vocabulary, Activation::None)?;
    }
    table(bench, shapes)
}

/// A random layer on the device, and its values.
pub(super) struct Layer<B: ModelBackend> {
    pub(super) linear: Linear<B>,
    values: Vec<f32>,
    bias: Vec<f32>,
    columns: usize,
}

impl<B: ModelBackend> Layer<B> {
    pub(super) fn new(bench: &mut Bench<'_, B>, columns: usize, rows: usize) -> Result<Self> {
        let values = bench.random.values(rows * columns, (columns as f32).powf(-0.5));
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let source = WeightSource::new(vec![&bytes], SourceType::F32, rows, columns);
        let weight = B::store_weight(&source, bench.formats.weight, bench.device)?;
        // What the format keeps of the values is what the product is to be of.
        let kept = definition::host_values(&source, bench.formats.weight)?;
        let values = kept.iter::<f32>().collect();
        let (bias, bias_tensor) = bench.vector(rows, 0.0, 0.5);
        Ok(Self {
            linear: Linear::new(weight, Some(bias_tensor)),
            values,
            bias,
            columns,
        })
    }

    /// Output feature `row` for the input `x`.
    pub(super) fn output(&self, x: &[f32], row: usize) -> f64 {
        host::dot(x, &self.values[row * self.columns..(row + 1) * self.columns]) + f64::from(self.bias[row])
    }
}

fn block<B: ModelBackend>(
    bench: &mut Bench<'_, B>,
    tokens: usize,
    columns: usize,
    rows: usize,
    activation: Activation,
) -> Result<()> {
    let layer = Layer::new(bench, columns, rows)?;
    let (x, tensor) = bench.matrix(tokens, columns, 2.0);
    let (weight, weight_tensor) = bench.vector(columns, 1.0, 0.5);
    let norm = Norm::rms(weight_tensor, 1e-6);
    let (at_tokens, at_rows) = (bench.random.sample(tokens, SAMPLED), bench.random.sample(rows, SAMPLED));
    let activate: fn(f64) -> f64 = match activation {
        Activation::None => |x| x,
        Activation::Silu => host::silu,
        Activation::GeluTanh => host::gelu_tanh,
        Activation::GeluErf => host::gelu_erf,
    };
    let shape = format!("{tokens} x {columns} -> {rows} {activation:?}");
    let expected = |normalised: bool| {
        let mut elements = Vec::new();
        for &token in &at_tokens {
            let x = &x[token * columns..(token + 1) * columns];
            let x = if normalised {
                host::rms_norm(x, &weight, 1e-6)
            } else {
                x.to_vec()
            };
            elements.extend(at_rows.iter().map(|&row| (token, row, activate(layer.output(&x, row)))));
        }
        elements
    };
    let tolerance = bench.formats.tolerance();
    let output = B::project(tensor.clone(), &layer.linear, activation);
    bench.compare("project", shape.clone(), tolerance, output, expected(false));
    if activation == Activation::None {
        let output = B::norm_logits(tensor.clone(), &norm, &layer.linear);
        bench.compare("norm_logits", shape.clone(), tolerance, output, expected(true));
    }
    let output = B::norm_project(tensor, &norm, &layer.linear, activation);
    bench.compare("norm_project", shape, tolerance, output, expected(true));
    Ok(())
}

fn residual<B: ModelBackend>(bench: &mut Bench<'_, B>, tokens: usize, columns: usize, rows: usize) -> Result<()> {
    let layer = Layer::new(bench, columns, rows)?;
    let (x, tensor) = bench.matrix(tokens, columns, 2.0);
    let (residual, residual_tensor) = bench.matrix(tokens, rows, 2.0);
    let (at_tokens, at_rows) = (bench.random.sample(tokens, SAMPLED), bench.random.sample(rows, SAMPLED));
    let output = B::project_add(tensor, &layer.linear, residual_tensor);
    let mut expected = Vec::new();
    for &token in &at_tokens {
        let x = &x[token * columns..(token + 1) * columns];
        let sum = |row: usize| layer.output(x, row) + f64::from(residual[token * rows + row]);
        expected.extend(at_rows.iter().map(|&row| (token, row, sum(row))));
    }
    let tolerance = bench.formats.tolerance();
    bench.compare(
        "project_add",
        format!("{tokens} x {columns} -> {rows}"),
        tolerance,
        output,
        expected,
    );
    Ok(())
}

fn gated<B: ModelBackend>(bench: &mut Bench<'_, B>, tokens: usize, columns: usize, intermediate: usize) -> Result<()> {
    let mut layer = Layer::new(bench, columns, 2 * intermediate)?;
    layer.linear.bias = None;
    layer.bias.fill(0.0);
    let (x, tensor) = bench.matrix(tokens, columns, 2.0);
    let (weight, weight_tensor) = bench.vector(columns, 1.0, 0.5);
    let (at_tokens, at_rows) = (
        bench.random.sample(tokens, SAMPLED),
        bench.random.sample(intermediate, SAMPLED),
    );
    let output = B::norm_gate_up(tensor, &Norm::rms(weight_tensor, 1e-6), &layer.linear);
    let mut expected = Vec::new();
    for &token in &at_tokens {
        let x = host::rms_norm(&x[token * columns..(token + 1) * columns], &weight, 1e-6);
        let gate = |row: usize| host::silu(layer.output(&x, row)) * layer.output(&x, intermediate + row);
        expected.extend(at_rows.iter().map(|&row| (token, row, gate(row))));
    }
    let tolerance = bench.formats.tolerance() * 2.0;
    bench.compare(
        "norm_gate_up",
        format!("{tokens} x {columns} -> {intermediate}"),
        tolerance,
        output,
        expected,
    );
    Ok(())
}

/// Two products of the given features with a norm between them; the second one `gated` or not.
fn norm_between<B: ModelBackend>(
    bench: &mut Bench<'_, B>,
    tokens: usize,
    [columns, hidden, features]: [usize; 3],
    gated: bool,
) -> Result<()> {
    let first = Layer::new(bench, columns, hidden)?;
    let mut second = Layer::new(bench, hidden, if gated { 2 * features } else { features })?;
    if gated {
        second.linear.bias = None;
        second.bias.fill(0.0);
    }
    let (x, tensor) = bench.matrix(tokens, columns, 2.0);
    let (residual, residual_tensor) = bench.matrix(tokens, hidden, 2.0);
    let (weight, weight_tensor) = bench.vector(hidden, 1.0, 0.5);
    let norm = Norm::rms(weight_tensor, 1e-6);
    let (at_tokens, at_rows) = (
        bench.random.sample(tokens, SAMPLED),
        bench.random.sample(features, SAMPLED),
    );
    let (operation, [sum, output]) = if gated {
        let results = B::project_add_norm_gate_up(tensor, &first.linear, residual_tensor, &norm, &second.linear);
        ("project_add_norm_gate_up", results)
    } else {
        let results = B::project_add_norm_project(tensor, &first.linear, residual_tensor, &norm, &second.linear);
        ("project_add_norm_project", results)
    };
    let (mut sums, mut outputs) = (Vec::new(), Vec::new());
    for &token in &at_tokens {
        let x = &x[token * columns..(token + 1) * columns];
        let added = residual[token * hidden..(token + 1) * hidden].iter();
        let row: Vec<f32> = added
            .enumerate()
            .map(|(row, &added)| (first.output(x, row) + f64::from(added)) as f32)
            .collect();
        let normalised = host::rms_norm(&row, &weight, 1e-6);
        outputs.extend(at_rows.iter().map(|&at| {
            let value = second.output(&normalised, at);
            let up = |at: usize| second.output(&normalised, features + at);
            (token, at, if gated { host::silu(value) * up(at) } else { value })
        }));
        sums.extend(row.into_iter().enumerate().map(|(at, sum)| (token, at, f64::from(sum))));
    }
    let shape = format!("{tokens} x {columns} -> {hidden} -> {features}");
    let tolerance = bench.formats.tolerance();
    bench.compare(operation, format!("{shape}, sum"), tolerance, sum, sums);
    bench.compare(operation, shape, tolerance * 2.0, output, outputs);
    Ok(())
}

fn table<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) -> Result<()> {
    let (rows, columns) = (shapes.vocabulary, shapes.text.hidden_size);
    let values = bench.random.values(rows * columns, 1.0);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let source = WeightSource::new(vec![&bytes], SourceType::F32, rows, columns);
    let table = B::store_table(&source, bench.formats.weight.of_tables(), bench.device)?;
    let ids = bench.random.sample(rows, SAMPLED);
    let indices: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let output = B::lookup_rows(Tensor::<B, 1, Int>::from_ints(indices.as_slice(), bench.device), &table);
    let expected: Vec<_> = ids
        .iter()
        .enumerate()
        .flat_map(|(row, &id)| (0..columns).map(move |column| (row, column, id * columns + column)))
        .map(|(row, column, index)| (row, column, f64::from(values[index])))
        .collect();
    bench.compare(
        "embedding",
        format!("{} of {rows} x {columns}", ids.len()),
        0.0,
        output,
        expected,
    );
    Ok(())
}
