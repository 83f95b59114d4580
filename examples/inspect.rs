//! What is in a checkpoint, from its headers alone: files, element types, parameters per part, what is missing or strange, and
//! the device memory that it needs per backend and precision.
//!
//! ```text
//! cargo run --release --example inspect -- examples/data/nano/checkpoint
//! ```
//!
//! Exits with 1 where the checkpoint can't be imported.

use std::path::PathBuf;
use std::process::ExitCode;

use alpamayo_core::ModelConfig;
use alpamayo_models::import::{Checkpoint, CheckpointSummary, Workload};
use clap::Parser;

/// Shows what is in a checkpoint without reading its weights.
#[derive(Parser)]
struct Arguments {
    /// Directory with config.json and model.safetensors or model.safetensors.index.json.
    checkpoint: PathBuf,
    /// Directory with the backbone's config.json, where the checkpoint names one that isn't on this machine.
    #[arg(long)]
    vlm: Option<PathBuf>,
    /// Samples per clip that the key-value cache is to hold.
    #[arg(long, default_value_t = 1)]
    samples: usize,
    /// Prints everything as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match inspect(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the summary; whether the checkpoint can be imported.
fn inspect(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let config = ModelConfig::from_checkpoint(&arguments.checkpoint, arguments.vlm.as_deref())?;
    let checkpoint = Checkpoint::open(&arguments.checkpoint)?;
    let summary = CheckpointSummary::new(&checkpoint, &config, Workload::one_clip(&config, arguments.samples));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print_contents(&summary);
        print_memory(&summary);
        print_problems(&summary);
    }
    Ok(summary.problems.is_empty())
}

fn print_contents(summary: &CheckpointSummary) {
    println!("{}\n", summary.path.display());
    for (name, bytes) in &summary.files {
        println!("{name:<48} {:>12}", size(*bytes));
    }
    let line = |name: &str, tensors: String, parameters: u64, bytes: u64| {
        println!("{name:<20} {tensors:>14} {parameters:>16} {:>12}", size(bytes));
    };
    println!("\n{:<20} {:>14} {:>16} {:>12}", "part", "tensors", "parameters", "size");
    for part in &summary.parts {
        let tensors = match part.found.tensors {
            all if all == part.expected_tensors => all.to_string(),
            some => format!("{some} of {}", part.expected_tensors),
        };
        line(part.part.name(), tensors, part.found.parameters, part.found.bytes);
    }
    line(
        "all",
        summary.total.tensors.to_string(),
        summary.total.parameters,
        summary.total.bytes,
    );
    println!();
    for (dtype, count) in &summary.by_type {
        line(dtype, count.tensors.to_string(), count.parameters, count.bytes);
    }
}

fn print_memory(summary: &CheckpointSummary) {
    let workload = &summary.workload;
    println!(
        "\nDevice memory for {} prompt tokens and {} x {} generated ones, without activations:\n",
        workload.prompt_tokens, workload.samples, workload.generated_tokens
    );
    println!(
        "{:<14} {:<8} {:<6} {:>12} {:>12} {:>12}",
        "backend", "weights", "cache", "weights", "cache", "together"
    );
    for need in &summary.memory {
        let sizes = [need.weight_bytes, need.cache_bytes, need.total_bytes()].map(size);
        let [weights, cache, together] = sizes;
        println!(
            "{:<14} {:<8} {:<6} {weights:>12} {cache:>12} {together:>12}",
            need.backend, need.weights, need.cache
        );
    }
    println!("\nOn CUDA, token embeddings beside weights of few bits are in the host's memory.");
}

fn print_problems(summary: &CheckpointSummary) {
    if !summary.rebuilt_buffers.is_empty() {
        println!(
            "\nNot stored, so computed from config.json: {}",
            summary.rebuilt_buffers.join(", ")
        );
    }
    if summary.problems.is_empty() {
        println!("\nEvery tensor fits the configuration.");
        return;
    }
    println!("\n{} problems:", summary.problems.len());
    for problem in &summary.problems {
        println!("  {problem}");
    }
}

/// Bytes in the largest decimal unit that leaves a digit before the point.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.3} GB", bytes as f64 / 1e9),
    }
}
