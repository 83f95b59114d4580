//! Which checkpoint a run's results come from, wherever it lies.

use std::path::{Path, PathBuf};

use alpamayo_core::ModelConfig;
use alpamayo_models::import::Checkpoint;
use serde::Serialize;

use crate::cli::ModelArguments;
use crate::error::{Error, Result};
use crate::hash::Hash64;

/// So many places of every tensor are looked at, evenly from its first byte to its last …
const PLACES: usize = 8;
/// … and as many bytes at each.
const PLACE_BYTES: usize = 64;

/// A checkpoint by what it is, not by where it lies: the same for its copy in another place, another one where a file was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointId {
    /// The last part of its directory's path, as that was given.
    pub name: String,
    /// 16 hexadecimal digits of a hash: the configuration, the tokenizer, and every tensor's name, type, shape and some of its bytes.
    pub fingerprint: String,
}

impl CheckpointId {
    /// The checkpoint that `model` names, with the backbone's files that it names or brings. Of the weights little is read: headers,
    /// and 512 bytes of every tensor.
    ///
    /// # Errors
    /// Where the checkpoint's, the backbone's or the tokenizer's files cannot be read or contradict themselves.
    pub fn of(model: &ModelArguments) -> Result<Self> {
        let directory = model.checkpoint();
        let vlm = model.vlm.as_deref();
        let mut config = ModelConfig::from_checkpoint(&directory, vlm)?;
        let tokenizer: PathBuf = match &model.tokenizer {
            Some(path) => path.clone(),
            None => config.tokenizer_path(&directory, vlm)?,
        };
        // A path is no part of what it is.
        config.vlm_name_or_path.clear();
        let mut hash = Hash64::default();
        // As it is understood: a backbone's configuration that is built in and the same one in a file are the same.
        hash.write_field(format!("{config:?}").as_bytes());
        hash.write_field(&std::fs::read(&tokenizer).map_err(Error::io("read", &tokenizer))?);
        write_weights(&Checkpoint::open(&directory)?, &mut hash);
        Ok(Self {
            name: match &model.checkpoint {
                Some(path) => last_part(path),
                None => "bundled nano".to_owned(),
            },
            fingerprint: format!("{:016x}", hash.finish()),
        })
    }
}

/// Tensor by tensor, so that it doesn't matter how they are spread over files.
fn write_weights(checkpoint: &Checkpoint, hash: &mut Hash64) {
    for (name, entry) in checkpoint.tensors() {
        hash.write_field(name.as_bytes());
        hash.write_field(format!("{:?} {:?} {:?}", entry.dtype, entry.shape, entry.quantized).as_bytes());
        let bytes = checkpoint.bytes(entry);
        hash.write(&(bytes.len() as u64).to_le_bytes());
        let last = bytes.len().saturating_sub(PLACE_BYTES);
        for place in 0..PLACES {
            let start = last * place / (PLACES - 1);
            hash.write(&bytes[start..bytes.len().min(start + PLACE_BYTES)]);
        }
    }
}

fn last_part(path: &Path) -> String {
    let named = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    // `.` and `..` are no names.
    let whole = || path.canonicalize().ok().as_deref().and_then(named);
    named(path).or_else(whole).unwrap_or_else(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;
    use tempfile::TempDir;

    use super::*;
    use crate::cli::{SamplingArguments, bundled};
    use crate::evaluate::Options;
    use crate::run::ResultFile;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        model: ModelArguments,
        #[command(flatten)]
        sampling: SamplingArguments,
    }

    fn options(arguments: &[&Path], names: &[&str]) -> Options {
        let pairs = names.iter().zip(arguments);
        let words = pairs.flat_map(|(name, path)| [(*name).to_owned(), path.display().to_string()]);
        let all = Arguments::parse_from(std::iter::once("test".to_owned()).chain(words));
        Options::new(&all.model, &all.sampling).unwrap()
    }

    fn of_checkpoint(path: &Path) -> Options {
        options(&[path], &["--checkpoint"])
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy(&path, &target);
            } else {
                fs::write(&target, fs::read(&path).unwrap()).unwrap();
            }
        }
    }

    /// The miniature in two places, under the same name.
    fn two() -> (TempDir, [PathBuf; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let places = ["a", "b"].map(|place| folder.path().join(place).join("R1"));
        places.iter().for_each(|place| copy(&bundled("checkpoint"), place));
        (folder, places)
    }

    #[test]
    fn a_copy_is_the_same_to_the_byte_wherever_it_lies() {
        let (_folder, [a, b]) = two();
        let line = |path: &Path| serde_json::to_string(&of_checkpoint(path)).unwrap();
        assert_eq!(line(&a), line(&b));
        assert!(
            line(&a).contains(r#""checkpoint":{"name":"R1","fingerprint":""#),
            "{}",
            line(&a)
        );
        let bundled_nano = options(&[], &[]).checkpoint;
        assert_eq!(bundled_nano.fingerprint, of_checkpoint(&a).checkpoint.fingerprint);
        assert_eq!(bundled_nano.name, "bundled nano");
        assert_eq!(of_checkpoint(&a.join("../../b/R1/.")).checkpoint.name, "R1");
        // The backbone's files may come from elsewhere, if they are the same.
        let (vlm, tokenizer) = (b.join("vlm"), b.join("vlm/tokenizer.json"));
        let named = ["--checkpoint", "--vlm", "--tokenizer"];
        assert_eq!(options(&[&a, &vlm, &tokenizer], &named), of_checkpoint(&a));
    }

    #[test]
    fn a_changed_file_is_another_checkpoint_and_its_results_are_refused() {
        let (folder, [a, b]) = two();
        let results = folder.path().join("results.jsonl");
        let mut file = ResultFile::<u32>::open(&results, &of_checkpoint(&a)).unwrap();
        file.append("clip", Ok(&1)).unwrap();
        drop(file);
        assert!(ResultFile::<u32>::open(&results, &of_checkpoint(&b)).is_ok());
        let is_refused = |options: &Options| {
            let error = ResultFile::<u32>::open(&results, options).unwrap_err();
            let Error::OtherOptions { differences, .. } = &error else {
                panic!("{error}")
            };
            assert!(differences.starts_with("checkpoint.fingerprint: "), "{differences}");
        };
        let change = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let whole = fs::read(b.join(name)).unwrap();
            let mut bytes = whole.clone();
            change(&mut bytes);
            assert_ne!(bytes, whole);
            fs::write(b.join(name), bytes).unwrap();
            is_refused(&of_checkpoint(&b));
            fs::write(b.join(name), whole).unwrap();
            assert_eq!(of_checkpoint(&b), of_checkpoint(&a));
        };
        change("vlm/tokenizer.json", &|bytes| bytes.push(b'\n'));
        // The last bytes of the file are the last of a tensor.
        change("model.safetensors", &|bytes| *bytes.last_mut().unwrap() ^= 1);
        change("config.json", &|bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text
                .replace("\"num_inference_steps\": 10", "\"num_inference_steps\": 9")
                .into_bytes();
        });

        let tokenizer = folder.path().join("tokenizer.json");
        fs::write(
            &tokenizer,
            fs::read_to_string(a.join("vlm/tokenizer.json")).unwrap() + "\n",
        )
        .unwrap();
        is_refused(&options(&[&a, &tokenizer], &["--checkpoint", "--tokenizer"]));
    }
}
