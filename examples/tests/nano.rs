//! The trained miniature on every device that this build and this machine have: the reference's words, tokens and path.

use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_backends::{Device, DeviceVisitor, ModelBackend};
use alpamayo_core::Clip;
use alpamayo_examples::cli::{BUNDLED_CLIPS, bundled};
use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};
use serde::Deserialize;

/// What the reference computes with greedy reasoning; arrays as nested lists.
#[derive(Deserialize)]
struct Reference {
    text: String,
    generated_ids: Vec<u32>,
    noise: serde_json::Value,
    pred_xyz: serde_json::Value,
}

impl Reference {
    fn of(name: &str) -> Self {
        let path = bundled("reference").join(format!("{name}.json"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }
}

/// The numbers of nested lists, in order.
fn numbers(value: &serde_json::Value) -> Vec<f32> {
    match value.as_array() {
        Some(values) => values.iter().flat_map(numbers).collect(),
        None => vec![value.as_f64().unwrap() as f32],
    }
}

/// Drives every clip in f32; the largest distance from the reference's path, metres.
struct Worst;

impl DeviceVisitor for Worst {
    type Output = f32;

    fn visit<B: ModelBackend>(self, device: B::Device) -> f32 {
        let options = LoadOptions {
            weight_format: Some(WeightFormat::F32),
            cache_format: Some(CacheFormat::F32),
            ..LoadOptions::default()
        };
        let model = Alpamayo::<B>::load(bundled("checkpoint"), &device, options).unwrap();
        BUNDLED_CLIPS
            .map(|name| distance(&model, name))
            .into_iter()
            .fold(0.0, f32::max)
    }
}

fn distance<B: ModelBackend>(model: &Alpamayo<B>, name: &str) -> f32 {
    let (clip, reference) = (Clip::read(bundled("clips").join(name)).unwrap(), Reference::of(name));
    let options = DriveOptions {
        noise: Some(numbers(&reference.noise)),
        max_generation_length: Some(64),
        ..DriveOptions::greedy()
    };
    let plan = model.drive(&clip, &options).unwrap();
    assert_eq!(plan.reasoning[0], reference.text, "{name}");
    assert_eq!(
        plan.tokens[0],
        reference.generated_ids[..plan.tokens[0].len()],
        "{name}"
    );
    let path = numbers(&reference.pred_xyz);
    let (path, _) = path.as_chunks::<3>();
    let xyz = plan.trajectories[0].xyz();
    assert_eq!(xyz.len(), path.len());
    let squares = |(a, b): (&[f32; 3], &[f32; 3])| (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum::<f32>();
    xyz.iter().zip(path).map(squares).fold(0.0, f32::max).sqrt()
}

#[test]
fn every_device_plans_as_the_reference() {
    for found in Device::available() {
        let worst = found.device.run(Worst).unwrap();
        println!("{found}: {worst:e} m from the reference");
        assert!(worst <= 1e-3, "{found}: {worst} m from the reference");
    }
}
