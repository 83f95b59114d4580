//! Products with stored weights, of every layer of the model.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Activation, Norm};
use alpamayo_backends::verify::{DecoderShapes, ModelShapes};

use super::Bench;

/// Patches that become one image token.
const CELL: usize = 4;

pub fn run<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes, patch_values: usize) -> Result<(), String> {
    vision(bench, shapes, patch_values)?;
    decoder(bench, "text", &shapes.text, &[1, shapes.samples, shapes.prompt_length])?;
    head(bench, shapes)?;
    let waypoints = shapes.waypoints;
    decoder(
        bench,
        "expert",
        &shapes.expert,
        &[waypoints, shapes.samples * waypoints],
    )
}

fn decoder<B: ModelBackend>(
    bench: &mut Bench<'_, B>,
    name: &str,
    shapes: &DecoderShapes,
    lengths: &[usize],
) -> Result<(), String> {
    let (hidden, intermediate) = (shapes.hidden_size, shapes.intermediate_size);
    let attended = shapes.attention.num_heads * shapes.attention.head_dim;
    let qkv = bench.linear(hidden, shapes.attention.qkv_features(), false)?;
    let (output, down) = (
        bench.linear(attended, hidden, false)?,
        bench.linear(intermediate, hidden, false)?,
    );
    let gate_up = bench.linear(hidden, 2 * intermediate, false)?;
    let norm = Norm::rms(bench.vector(hidden), 1e-6);
    for &tokens in lengths {
        let at = |layer: &str, columns, rows| format!("{name} {layer} {tokens} x {columns} to {rows}");
        let x = bench.matrix(tokens, hidden);
        bench.time("norm_project", at("q|k|v", hidden, qkv.out_features()), || {
            B::norm_project(x.clone(), &norm, &qkv, Activation::None)
        });
        bench.time("norm_gate_up", at("gate|up", hidden, intermediate), || {
            B::norm_gate_up(x.clone(), &norm, &gate_up)
        });
        for (layer, linear) in [("o", &output), ("down", &down)] {
            let input = bench.matrix(tokens, linear.in_features());
            bench.time("project_add", at(layer, linear.in_features(), hidden), || {
                B::project_add(input.clone(), linear, x.clone())
            });
        }
    }
    Ok(())
}

fn head<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) -> Result<(), String> {
    let hidden = shapes.text.hidden_size;
    let head = bench.linear(hidden, shapes.vocabulary, false)?;
    let norm = Norm::rms(bench.vector(hidden), 1e-6);
    for tokens in [1, shapes.samples] {
        let x = bench.matrix(tokens, hidden);
        let at = format!("text head {tokens} x {hidden} to {}", shapes.vocabulary);
        bench.time("norm_project", at, || {
            B::norm_project(x.clone(), &norm, &head, Activation::None)
        });
    }
    Ok(())
}

fn vision<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes, patch_values: usize) -> Result<(), String> {
    let vision = &shapes.vision;
    let (hidden, intermediate) = (vision.hidden_size, vision.intermediate_size);
    let (patches, merged): (usize, usize) = (vision.image_lengths.iter().sum(), CELL * hidden);
    let norm = Norm::layer(bench.vector(hidden), bench.vector(hidden), 1e-6);
    let layers = [
        ("patches", patches, patch_values, hidden, Activation::None),
        ("merger in", patches / CELL, merged, merged, Activation::GeluErf),
        (
            "merger out",
            patches / CELL,
            merged,
            shapes.text.hidden_size,
            Activation::None,
        ),
    ];
    for (layer, tokens, columns, rows, activation) in layers {
        let (x, linear) = (bench.matrix(tokens, columns), bench.linear(columns, rows, true)?);
        bench.time(
            "project",
            format!("vision {layer} {tokens} x {columns} to {rows}"),
            || B::project(x.clone(), &linear, activation),
        );
    }
    let x = bench.matrix(patches, hidden);
    let blocks = [
        ("q|k|v", vision.attention.qkv_features(), Activation::None),
        ("up", intermediate, Activation::GeluTanh),
    ];
    for (layer, rows, activation) in blocks {
        let linear = bench.linear(hidden, rows, true)?;
        bench.time(
            "norm_project",
            format!("vision {layer} {patches} x {hidden} to {rows}"),
            || B::norm_project(x.clone(), &norm, &linear, activation),
        );
    }
    for (layer, columns) in [("o", hidden), ("down", intermediate)] {
        let (input, linear) = (bench.matrix(patches, columns), bench.linear(columns, hidden, true)?);
        bench.time(
            "project_add",
            format!("vision {layer} {patches} x {columns} to {hidden}"),
            || B::project_add(input.clone(), &linear, x.clone()),
        );
    }
    Ok(())
}
