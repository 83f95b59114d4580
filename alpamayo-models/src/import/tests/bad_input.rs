//! Every kind of bad checkpoint gets an error that names the file and the field.

use std::path::Path;

use safetensors::Dtype;
use tempfile::tempdir;

use super::super::{Checkpoint, TensorProblem, problems, verify};
use super::{Stored, safetensors, small_config, small_tensors, write_index, write_shards, write_single};
use crate::error::Error;

/// Opens and verifies; returns the error's text.
fn failure(directory: &Path) -> String {
    let result = Checkpoint::open(directory).and_then(|checkpoint| verify(&checkpoint, &small_config()));
    result.expect_err("a bad checkpoint was accepted").to_string()
}

fn assert_mentions(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
}

fn stored(name: &str, dtype: Dtype, shape: &[usize]) -> Stored {
    let bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
    Stored {
        name: name.into(),
        dtype,
        shape: shape.into(),
        bytes,
    }
}

#[test]
fn sound_checkpoints_are_accepted_with_and_without_buffers_single_and_sharded() {
    for keep_buffers in [true, false] {
        let mut tensors = small_tensors(Dtype::BF16);
        tensors.retain(|tensor| {
            keep_buffers || !(tensor.name.ends_with("freqs") || tensor.name.starts_with("action_space"))
        });
        let (single, sharded) = (tempdir().unwrap(), tempdir().unwrap());
        write_single(single.path(), &tensors);
        write_shards(sharded.path(), &tensors);
        for directory in [single.path(), sharded.path(), &single.path().join("model.safetensors")] {
            let checkpoint = Checkpoint::open(directory).unwrap();
            assert_eq!(problems(&checkpoint, &small_config()), []);
            assert_eq!(checkpoint.tensors().count(), tensors.len());
        }
    }
}

#[test]
fn all_problems_are_told_at_once_with_the_nearest_names() {
    let directory = tempdir().unwrap();
    let mut tensors = small_tensors(Dtype::BF16);
    let named = |tensors: &[Stored], end: &str| tensors.iter().position(|tensor| tensor.name.ends_with(end)).unwrap();
    let renamed = named(&tensors, "layers.1.self_attn.q_proj.weight");
    tensors[renamed].name = tensors[renamed].name.replace("q_proj", "qproj");
    let reshaped = named(&tensors, "merger.norm.weight");
    tensors[reshaped].shape = vec![4, 4];
    let retyped = named(&tensors, "pos_embed.weight");
    tensors[retyped].dtype = Dtype::I16;
    let absent = named(&tensors, "vlm.lm_head.weight");
    tensors.remove(absent);
    tensors.push(stored("optimizer_state", Dtype::F32, &[2]));
    write_single(directory.path(), &tensors);

    let message = failure(directory.path());
    assert_mentions(
        &message,
        &[
            &directory.path().display().to_string(),
            "6 problems",
            "`vlm.model.language_model.layers.1.self_attn.q_proj.weight` [32, 32] is missing; \
             the checkpoint has `vlm.model.language_model.layers.1.self_attn.qproj.weight`",
            "`vlm.model.language_model.layers.1.self_attn.qproj.weight` in model.safetensors is not part of the model; \
             the nearest known name is `vlm.model.language_model.layers.1.self_attn.q_proj.weight`",
            "`vlm.model.visual.merger.norm.weight` in model.safetensors is [4, 4], the configuration asks for [16]",
            "`vlm.model.visual.pos_embed.weight` in model.safetensors has element type I16; BF16, F16 and F32 can be imported",
            "`vlm.lm_head.weight` [890, 32] is missing",
            "`optimizer_state` in model.safetensors is not part of the model",
        ],
    );
    assert!(
        !message.contains("nearest known name is `vlm.lm_head"),
        "a far-fetched suggestion: {message}"
    );
}

#[test]
fn directories_without_a_checkpoint_and_absent_paths() {
    let directory = tempdir().unwrap();
    assert_mentions(
        &failure(directory.path()),
        &[
            &directory.path().display().to_string(),
            "model.safetensors",
            "model.safetensors.index.json",
        ],
    );
    let absent = directory.path().join("absent");
    assert_mentions(&failure(&absent), &[&absent.display().to_string(), "cannot read"]);
}

#[test]
fn truncated_files() {
    let directory = tempdir().unwrap();
    let whole = safetensors(&small_tensors(Dtype::F16));
    let file = directory.path().join("model.safetensors");
    for length in [whole.len() - 1, whole.len() / 2, 100, 7, 0] {
        std::fs::write(&file, &whole[..length]).unwrap();
        let message = failure(directory.path());
        assert_mentions(&message, &[&file.display().to_string()]);
        assert!(
            message.contains("truncated") || message.contains("too few"),
            "{message}"
        );
    }
}

#[test]
fn files_that_are_no_safetensors() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("model.safetensors");
    let header =
        |json: &str, data: usize| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat();
    let cases = [
        (b"<!DOCTYPE html><html>not found</html>".to_vec(), "no safetensors file"),
        (header("[1, 2]", 0), "not the JSON of a safetensors file"),
        (header(r#"{"a": 3}"#, 0), "not the JSON of a safetensors file"),
        (
            header(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                4,
            ),
            "lists tensor `a` twice",
        ),
        (
            header(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8,
            ),
            "overlap",
        ),
        (
            header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
            "`data_offsets` of tensor `a`",
        ),
        (
            header(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#, 4),
            "`shape` and `dtype`",
        ),
        (
            header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 5),
            "longer than its header",
        ),
        (
            header(r#"{"a":{"dtype":"Q4","shape":[1],"data_offsets":[0,4]}}"#, 4),
            "Q4",
        ),
        (
            header(
                &format!(
                    r#"{{"a":{{"dtype":"U8","shape":[1],"data_offsets":[0,{}]}}}}"#,
                    u64::MAX
                ),
                4,
            ),
            "no file can hold",
        ),
        (
            header(
                r#"{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
                4,
            ),
            "more values",
        ),
    ];
    for (bytes, words) in cases {
        std::fs::write(&file, &bytes).unwrap();
        assert_mentions(&failure(directory.path()), &[&file.display().to_string(), words]);
    }
}

#[test]
fn an_index_that_names_an_absent_shard() {
    let directory = tempdir().unwrap();
    write_shards(directory.path(), &small_tensors(Dtype::BF16));
    std::fs::remove_file(directory.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert_mentions(
        &failure(directory.path()),
        &[
            "model.safetensors.index.json",
            "`weight_map`",
            "model-00002-of-00002.safetensors",
            "not in the directory",
        ],
    );
}

#[test]
fn an_index_that_escapes_its_directory() {
    let outer = tempdir().unwrap();
    let directory = outer.path().join("checkpoint");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(
        outer.path().join("other.safetensors"),
        safetensors(&small_tensors(Dtype::BF16)),
    )
    .unwrap();
    let absolute = outer.path().join("other.safetensors").display().to_string();
    for name in [
        "../other.safetensors",
        absolute.as_str(),
        "a/../../other.safetensors",
        "",
        ".",
        "..",
    ] {
        write_index(
            &directory,
            &serde_json::json!({ "weight_map": { "a": name } }).to_string(),
        );
        assert_mentions(
            &failure(&directory),
            &[
                "model.safetensors.index.json",
                "`weight_map`",
                name,
                "not a file inside the checkpoint's directory",
            ],
        );
    }
}

#[test]
fn an_index_that_lists_a_tensor_twice() {
    let directory = tempdir().unwrap();
    write_index(
        directory.path(),
        r#"{"weight_map": {"a": "x.safetensors", "b": "x.safetensors", "a": "y.safetensors"}}"#,
    );
    assert_mentions(
        &failure(directory.path()),
        &["model.safetensors.index.json", "`weight_map` lists `a` twice"],
    );
}

#[test]
fn an_index_that_is_none() {
    let directory = tempdir().unwrap();
    for (text, words) in [
        ("{", "not the JSON of an index"),
        ("{}", "missing field `weight_map`"),
        (r#"{"weight_map": {"a": 3}}"#, "expected a string"),
        (r#"{"weight_map": {}}"#, "lists no tensor"),
    ] {
        write_index(directory.path(), text);
        assert_mentions(&failure(directory.path()), &["model.safetensors.index.json", words]);
    }
}

#[test]
fn an_index_and_shards_that_disagree() {
    let directory = tempdir().unwrap();
    let tensors = small_tensors(Dtype::BF16);
    let mut index = write_shards(directory.path(), &tensors);
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let map = index["weight_map"].as_object_mut().unwrap();
    map.insert(tensors[0].name.clone(), second.into());
    map.remove(&tensors[1].name);
    map.insert("ghost".into(), first.into());
    write_index(directory.path(), &index.to_string());
    let half = tensors.len().div_ceil(2);
    std::fs::write(
        directory.path().join(second),
        safetensors(&[&tensors[half..], &tensors[2..3]].concat()),
    )
    .unwrap();

    let found = problems(&Checkpoint::open(directory.path()).unwrap(), &small_config());
    let name = |number: usize| tensors[number].name.clone();
    let wanted = [
        TensorProblem::Repeated {
            name: name(2),
            files: [first.into(), second.into()],
        },
        TensorProblem::NotInShard {
            name: "ghost".into(),
            listed: first.into(),
        },
        TensorProblem::WrongShard {
            name: name(0),
            listed: second.into(),
            found: first.into(),
        },
        TensorProblem::NotInIndex {
            name: name(1),
            file: first.into(),
        },
    ];
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for problem in wanted {
        assert!(found.contains(&problem), "{problem:?} is not among {found:?}");
    }
    assert!(matches!(
        verify(&Checkpoint::open(directory.path()).unwrap(), &small_config()),
        Err(Error::CheckpointTensors { count: 4, .. })
    ));
}
