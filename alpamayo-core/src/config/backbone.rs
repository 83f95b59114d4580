//! Where the backbone's configuration and tokenizer are found.
//!
//! A checkpoint names its backbone in `vlm_name_or_path`: a directory, relative to the checkpoint, or a repository on a
//! hub. Nothing is ever downloaded; the sizes of the two repositories that the released checkpoints name are known.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Repositories with the same configuration and tokenizer, which the released checkpoints name.
const KNOWN_NAMES: [&str; 2] = ["Qwen/Qwen3-VL-8B-Instruct", "nvidia/Cosmos-Reason2-8B"];

/// The configuration of both.
const KNOWN_CONFIG: &str = include_str!("qwen3-vl-8b.json");

/// The backbone's `config.json`: its path, for error messages, and its text.
pub(super) fn read_config(checkpoint: &Path, name: &str, directory: Option<&Path>) -> Result<(PathBuf, String)> {
    if let Some(directory) = local_directory(checkpoint, name, directory) {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        return Ok((path, text));
    }
    match KNOWN_NAMES.contains(&name) {
        true => Ok((
            PathBuf::from(format!("{name}/config.json (built in)")),
            KNOWN_CONFIG.to_string(),
        )),
        false => Err(not_local(checkpoint, name, "config.json")),
    }
}

/// The tokenizer file: the backbone's, or one that lies in the checkpoint itself.
pub(super) fn tokenizer_path(checkpoint: &Path, name: &str, directory: Option<&Path>) -> Result<PathBuf> {
    let beside = checkpoint.join("tokenizer.json");
    match local_directory(checkpoint, name, directory) {
        Some(directory) => Ok(directory.join("tokenizer.json")),
        None if beside.is_file() => Ok(beside),
        None => Err(not_local(checkpoint, name, "tokenizer.json")),
    }
}

/// The backbone's directory on this machine: the one given, else the one named.
fn local_directory(checkpoint: &Path, name: &str, directory: Option<&Path>) -> Option<PathBuf> {
    match directory {
        Some(directory) => Some(directory.to_path_buf()),
        // An empty name would make the checkpoint its own backbone.
        None if name.is_empty() => None,
        None => Some(checkpoint.join(name)).filter(|path| path.is_dir()),
    }
}

fn not_local(checkpoint: &Path, name: &str, wanted: &'static str) -> Error {
    Error::BackboneNotLocal {
        path: checkpoint.join("config.json"),
        name: name.to_string(),
        wanted,
    }
}
