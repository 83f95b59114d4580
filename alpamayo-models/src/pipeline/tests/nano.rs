//! The trained miniature on the bundled clips.

use std::path::PathBuf;

use alpamayo_backends::instances::Flex;
use alpamayo_core::{Clip, metrics};
use serde_json::Value;

use crate::pipeline::{Alpamayo, DriveOptions, LoadOptions};
use crate::test_data::Device;

pub(super) const CLIPS: [&str; 6] = [
    "barriers",
    "green_start",
    "pedestrian",
    "red_light",
    "right_curve",
    "slow_truck",
];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data/nano")
}

pub(super) fn model() -> Alpamayo<Flex> {
    Alpamayo::load(
        directory().join("checkpoint"),
        &Device::default(),
        LoadOptions::default(),
    )
    .unwrap()
}

pub(super) fn clip(name: &str) -> Clip {
    Clip::read(directory().join("clips").join(name)).unwrap()
}

fn reference(name: &str) -> Value {
    let path = directory().join("reference").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap() as f32],
    }
}

#[test]
fn greedy_plans_are_the_references() {
    let model = model();
    for name in CLIPS {
        let reference = reference(name);
        let options = DriveOptions {
            noise: Some(numbers(&reference["noise"])),
            max_generation_length: Some(64),
            ..DriveOptions::greedy()
        };
        let plan = model.drive(&clip(name), &options).unwrap();
        assert_eq!(plan.reasoning[0], reference["text"].as_str().unwrap(), "{name}");
        let generated = numbers(&reference["generated_ids"]);
        let found: Vec<f32> = plan.tokens[0].iter().map(|&id| id as f32).collect();
        assert_eq!(found, generated[..found.len()], "{name}");
        let truth = numbers(&reference["pred_xyz"]);
        let distances = plan.trajectories[0]
            .xyz()
            .iter()
            .zip(truth.as_chunks::<3>().0)
            .map(|(a, b)| (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum::<f32>().sqrt());
        let worst = distances.fold(0.0, f32::max);
        println!("{name}: {worst:e} m");
        assert!(worst <= 1e-3, "{name}: {worst} m from the reference");
    }
}

#[test]
fn six_samples_keep_the_sentences() {
    let model = model();
    let mut sum = 0.0;
    for name in CLIPS {
        let clip = clip(name);
        let options = DriveOptions {
            seed: 7,
            max_generation_length: Some(64),
            ..DriveOptions::default()
        };
        let plan = model.drive(&clip, &options).unwrap();
        let truth = reference(name)["text"].as_str().unwrap().to_owned();
        assert!(
            plan.reasoning.iter().all(|sentence| *sentence == truth),
            "{name}: {:?}",
            plan.reasoning
        );
        assert!(plan.warnings.is_empty() && plan.stopped == [true; 6]);
        let future = clip.ego_future_xyz.unwrap();
        let samples: Vec<&[[f32; 3]]> = plan.trajectories.iter().map(|t| t.xyz()).collect();
        sum += metrics::min_ade(&samples, &future, 0.1).unwrap().ade;
    }
    let mean = sum / CLIPS.len() as f64;
    println!("mean minADE {mean} m");
    assert!(mean <= 0.8, "mean minADE {mean} m");
}
