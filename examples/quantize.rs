//! Writes a checkpoint in 8 or 4 bits, so that it takes half or a third of the disk and loads faster.
//!
//! ```text
//! cargo run --release --example quantize -- Alpamayo-R1-10B Alpamayo-R1-10B-int8 --weights int8
//! ```
//!
//! The new directory is a checkpoint like any other: `--checkpoint` takes it, and without `--weights` it stays in few bits.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use alpamayo_backends::layers::Quantization;
use alpamayo_core::ModelConfig;
use alpamayo_models::import::{self, Checkpoint, SINGLE_FILE};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

/// Write a checkpoint in few bits.
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory with config.json and the weights
    checkpoint: PathBuf,
    /// Directory to write; it must not hold weights yet
    output: PathBuf,
    /// Bits per weight
    #[arg(long, value_enum)]
    weights: Bits,
    /// Directory with the backbone's config.json, where the checkpoint names one that isn't on this machine
    #[arg(long)]
    vlm: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bits {
    /// 8 bits, a step per 32 values
    Int8,
    /// 4 bits, a step per 32 values; 8 for vision tower and output head
    Int4,
}

fn quantize(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let (source, output) = (&arguments.checkpoint, &arguments.output);
    let weights = output.join(SINGLE_FILE);
    if weights.exists() {
        return Err(format!("{} is there already; give another directory", weights.display()).into());
    }
    let config = ModelConfig::from_checkpoint(source, arguments.vlm.as_deref())?;
    let checkpoint = Checkpoint::open(source)?;
    if real_path(output)?.starts_with(source.canonicalize()?) {
        let (source, output) = (source.display(), output.display());
        return Err(format!("{output} is {source} or lies in it; give a directory beside it").into());
    }
    copy_documents(source, output)?;
    let quantization = match arguments.weights {
        Bits::Int8 => Quantization::Int8,
        Bits::Int4 => Quantization::Int4,
    };
    let style = ProgressStyle::with_template("quantising {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?;
    let bar = ProgressBar::new(0).with_style(style);
    // Under another name until it is whole.
    let partial = output.join(format!("{SINGLE_FILE}.partial"));
    import::quantize(&checkpoint, &config, quantization, &partial, &mut |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
    })?;
    bar.finish_and_clear();
    std::fs::rename(&partial, &weights)?;
    let size = |files: &Checkpoint| files.files().map(|(_, bytes)| bytes).sum::<u64>() as f64 / 1e9;
    let written = Checkpoint::open(output)?;
    println!(
        "{}: {:.3} GB, was {:.3} GB",
        output.display(),
        size(&written),
        size(&checkpoint)
    );
    Ok(())
}

/// The path without links and `..`, also of what isn't there yet.
fn real_path(path: &Path) -> std::io::Result<PathBuf> {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            Ok(real_path(parent)?.join(name))
        }
        (found, ..) => found,
    }
}

/// Copies everything that isn't weights: configuration, tokenizer, the backbone's directory.
fn copy_documents(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        let name = path.to_string_lossy();
        if path.is_dir() {
            copy_documents(&path, &target)?;
        } else if !name.ends_with(".safetensors") && !name.ends_with(".safetensors.index.json") {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match quantize(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
