//! The program `quantize` as a person runs it.
#![cfg(unix)]

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use alpamayo_examples::cli::bundled;

fn quantize(source: &Path, output: &Path) -> Output {
    Command::new(program::program("quantize"))
        .args([source, output])
        .args(["--weights", "int8"])
        .output()
        .unwrap()
}

/// A folder's files, also those of folders in it, by name.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, bytes)| (name.join(below), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

/// The miniature with its one file as the only shard of an index.
fn sharded(folder: &Path) {
    for (name, bytes) in files(&bundled("checkpoint")) {
        let is_weights = name == Path::new("model.safetensors");
        let path = folder.join(if is_weights {
            Path::new("model-00001-of-00001.safetensors")
        } else {
            &name
        });
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if is_weights {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
            let names = header
                .as_object()
                .unwrap()
                .keys()
                .filter(|name| *name != "__metadata__");
            let map: serde_json::Map<_, _> = names
                .map(|name| (name.clone(), "model-00001-of-00001.safetensors".into()))
                .collect();
            let index = serde_json::json!({ "metadata": {}, "weight_map": map });
            fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_checkpoint_is_not_written_over_or_into_itself() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("R1");
    sharded(&source);
    let link = folder.path().join("link");
    symlink(&source, &link).unwrap();
    let before = files(&source);
    for output in [
        source.clone(),
        source.join("."),
        source.join("int8"),
        source.join("few/bits/int8"),
        source.join("vlm/../int8"),
        link.join("int8"),
        link.clone(),
    ] {
        let run = quantize(&source, &output);
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(
            !run.status.success() && error.contains("or lies in it"),
            "{}: {error}",
            output.display()
        );
        assert!(
            files(&source) == before,
            "{} has changed the checkpoint",
            output.display()
        );
    }
    // Beside it, also under a name that begins like its own.
    let output = folder.path().join("R1-int8");
    let run = quantize(&source, &output);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(files(&source) == before);
    let written = files(&output);
    for document in ["config.json", "vlm/config.json", "vlm/tokenizer.json"].map(Path::new) {
        assert!(written[document] == before[document], "{}", document.display());
    }
    assert!(
        written[Path::new("model.safetensors")].len() < before[Path::new("model-00001-of-00001.safetensors")].len()
    );
    assert_eq!(written.len(), 4);
}
