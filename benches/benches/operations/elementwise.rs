//! What reads and writes each value once.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::Norm;
use alpamayo_backends::verify::ModelShapes;
use alpamayo_core::ModelConfig;
use alpamayo_models::pipeline::Inputs;
use burn::tensor::{Int, Tensor, TensorData};

use super::Bench;

pub fn run<B: ModelBackend>(
    bench: &mut Bench<'_, B>,
    shapes: &ModelShapes,
    config: &ModelConfig,
    inputs: &Inputs,
) -> Result<(), String> {
    pixels(bench, config, inputs);
    tokens(bench, shapes, inputs)?;
    fourier(bench, shapes, config.action_in_proj.num_fourier_feats / 2);
    Ok(())
}

fn pixels<B: ModelBackend>(bench: &mut Bench<'_, B>, config: &ModelConfig, inputs: &Inputs) {
    let vision = &config.vision;
    let (channels, temporal) = (vision.in_channels, vision.temporal_patch_size);
    let area = vision.patch_size * vision.patch_size;
    let (pixels, device) = (&inputs.patches.pixels, bench.device.clone());
    let at = format!("{} patches", inputs.patches.num_patches());
    bench.time("normalize_pixels", at, || {
        B::normalize_pixels(pixels, channels, temporal, area, &device)
    });
}

/// The prompt's residual stream: look-up, norm, deepstack features added to the image tokens.
fn tokens<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes, inputs: &Inputs) -> Result<(), String> {
    let (length, hidden) = (shapes.prompt_length, shapes.text.hidden_size);
    let table = B::random_weight((shapes.vocabulary, hidden), 1.0, bench.weights, &bench.device);
    let table = table.map_err(|error| error.to_string())?;
    let ids = indices::<B>((0..length).map(|token| token * 7919 % shapes.vocabulary), &bench.device);
    bench.time(
        "lookup_rows",
        format!("{length} of {} x {hidden}", shapes.vocabulary),
        || B::lookup_rows(ids.clone(), &table),
    );
    drop(table);

    let x = bench.matrix(length, hidden);
    let norm = Norm::rms(bench.vector(hidden), 1e-6);
    bench.time("normalize", format!("{length} x {hidden}"), || {
        B::normalize(x.clone(), &norm)
    });

    let rows: Vec<usize> = inputs
        .prompts
        .iter()
        .flat_map(|prompt| prompt.image_rows.clone())
        .collect();
    let values = bench.matrix(rows.len(), hidden);
    let at = format!("{} of {length} x {hidden}", rows.len());
    let rows = indices::<B>(rows.into_iter(), &bench.device);
    bench.time("add_rows", at, || B::add_rows(x.clone(), rows.clone(), values.clone()));
    Ok(())
}

fn fourier<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes, count: usize) {
    let frequencies = bench.matrix(3, count);
    for rows in [1, shapes.samples] {
        let x = bench.matrix(rows * shapes.waypoints, 2);
        bench.time(
            "fourier_features",
            format!("{rows} x {} waypoints", shapes.waypoints),
            || B::fourier_features(x.clone(), 0.3, &frequencies),
        );
    }
}

fn indices<B: ModelBackend>(rows: impl Iterator<Item = usize>, device: &B::Device) -> Tensor<B, 1, Int> {
    let rows: Vec<i32> = rows.map(|row| row as i32).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}
