//! The table against the released model's list of tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use alpamayo_core::ModelConfig;

use super::super::{Checkpoint, Part, expected_tensors, problems};
use super::{released_config, small_config};

#[test]
fn released_size_has_exactly_the_released_names_and_shapes() {
    let text = include_str!("../../../tests/data/released/tensors.json");
    let released: BTreeMap<String, Vec<usize>> = serde_json::from_str(text).unwrap();
    let expected = expected_tensors(&released_config());
    assert_eq!(expected.len(), 1_166);
    let ours: BTreeMap<String, Vec<usize>> = expected
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.shape.clone()))
        .collect();
    assert_eq!(ours, released);
}

#[test]
fn released_size_has_the_released_number_of_parameters() {
    let expected = expected_tensors(&released_config());
    let count = |optional| {
        let tensors = expected.iter().filter(move |tensor| tensor.optional == optional);
        (
            tensors.clone().count(),
            tensors.map(|tensor| tensor.elements()).sum::<usize>(),
        )
    };
    assert_eq!(count(false), (1_159, 11_078_526_194));
    assert_eq!(count(true), (7, 34));
}

#[test]
fn only_buffers_are_optional_and_names_are_unique() {
    let expected = expected_tensors(&small_config());
    assert!(
        expected
            .iter()
            .all(|tensor| tensor.optional == (tensor.part == Part::Buffers))
    );
    let names: BTreeSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names.len(), expected.len());
}

#[test]
fn layers_come_one_after_another() {
    // The reader works ahead in this order: a layer's tensors must stand together.
    let expected = expected_tensors(&small_config());
    let layers: Vec<&str> = expected
        .iter()
        .filter_map(|tensor| tensor.name.strip_prefix("vlm.model.language_model.layers."))
        .filter_map(|rest| rest.split('.').next())
        .collect();
    assert_eq!(layers.len(), 22);
    assert!(layers.is_sorted());
}

#[test]
fn deeper_action_encoders_are_numbered_as_the_stored_sequence() {
    let expected = expected_tensors(&small_config()); // num_enc_layers 3
    let field = |name: &str| {
        expected
            .iter()
            .find(|tensor| tensor.name == name)
            .map(|tensor| tensor.field.as_str())
    };
    assert_eq!(
        field("action_in_proj.encoder.trunk.5.weight"),
        Some("action_in_proj.norms.1")
    );
    assert_eq!(
        field("action_in_proj.encoder.trunk.6.weight"),
        Some("action_in_proj.linears.2")
    );
    assert_eq!(
        field("action_in_proj.encoder.trunk.9.bias"),
        Some("action_in_proj.linears.3")
    );
    assert_eq!(field("action_in_proj.encoder.trunk.1.weight"), None);
}

#[test]
fn bundled_checkpoints_fit_their_configurations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (directory, tensors, files) in [
        ("../examples/data/nano/checkpoint", 180, 1),
        ("tests/data/base/checkpoint", 186, 1),
        ("tests/data/batch-ragged-eos/checkpoint", 179, 3), // without buffers
        ("tests/data/two-samples-no-eos/checkpoint", 186, 1),
    ] {
        let directory = root.join(directory);
        let config = ModelConfig::from_checkpoint(&directory, None).unwrap();
        let checkpoint = Checkpoint::open(&directory).unwrap();
        assert_eq!(problems(&checkpoint, &config), [], "{}", directory.display());
        assert_eq!(
            (checkpoint.tensors().count(), checkpoint.files().count()),
            (tensors, files),
            "{}",
            directory.display()
        );
        let buffers = expected_tensors(&config)
            .iter()
            .filter(|tensor| tensor.optional)
            .count();
        assert!([0, buffers].contains(&(expected_tensors(&config).len() - tensors)));
    }
}
