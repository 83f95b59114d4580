//! The bundled miniature's clips, from their folders to the prompt that the reference read.

use std::path::{Path, PathBuf};

use alpamayo_core::{
    Clip, DeltaTokenizer, ImageProcessor, ModelConfig, PromptBuilder, PromptStyle, Tokenizer, fuse_history,
};
use serde_json::Value;

const CLIPS: [&str; 6] = [
    "barriers",
    "green_start",
    "pedestrian",
    "red_light",
    "right_curve",
    "slow_truck",
];

fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/nano")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn clips_become_the_references_prompts() {
    let checkpoint = nano().join("checkpoint");
    let config = ModelConfig::from_checkpoint(&checkpoint, None).unwrap();
    let tokenizer = Tokenizer::from_file(config.tokenizer_path(&checkpoint, None).unwrap(), &config).unwrap();
    let history_tokenizer = DeltaTokenizer::new(config.history_tokenizer.num_bins).unwrap();
    for name in CLIPS {
        let clip = Clip::read(nano().join("clips").join(name)).unwrap();
        let reference = json(&nano().join("reference").join(format!("{name}.json")));

        let patches = ImageProcessor::new(&config).process(&clip.frames).unwrap();
        assert_eq!(
            serde_json::to_value(&patches.grid_thw).unwrap(),
            reference["image_grid_thw"],
            "{name}"
        );
        let pixels = patches.normalized();
        let head = reference["pixel_values_first_patch_head"].as_array().unwrap();
        for (found, expected) in pixels.iter().zip(head) {
            assert_eq!(f64::from(*found), expected.as_f64().unwrap(), "{name}");
        }
        let sum: f64 = pixels.iter().copied().map(f64::from).sum();
        assert!(
            (sum - reference["pixel_values_sum"].as_f64().unwrap()).abs() < 1e-3,
            "{name}: {sum}"
        );

        let builder = PromptBuilder::new(&tokenizer, &config);
        let mut ids = builder
            .build(&patches.tokens_per_image(), &clip.camera_indices, &PromptStyle::R1)
            .unwrap();
        let bins = history_tokenizer
            .encode(&clip.ego_history_xyz, &clip.ego_history_rot)
            .unwrap();
        fuse_history(
            &mut ids,
            config.traj_token_ids.history,
            config.history_token_start(),
            &bins,
        )
        .unwrap();
        assert_eq!(serde_json::to_value(&ids).unwrap(), reference["input_ids"], "{name}");
    }
}

#[test]
fn clips_survive_a_round_trip() {
    let directory = tempfile::tempdir().unwrap();
    for name in CLIPS {
        let folder = nano().join("clips").join(name);
        let clip = Clip::read(&folder).unwrap();
        assert_eq!((clip.frames.len(), clip.frames_per_camera), (16, 4));
        let copy = directory.path().join(name);
        clip.write(&copy).unwrap();
        assert_eq!(Clip::read(&copy).unwrap(), clip, "{name}");
        assert!(
            same(&json(&copy.join("clip.json")), &json(&folder.join("clip.json"))),
            "{name}"
        );
    }
}

/// Equality of documents whose numbers a clip holds as f32.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().map(|a| a as f32) == b.as_f64().map(|b| b as f32),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(field, a)| b.get(field).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
