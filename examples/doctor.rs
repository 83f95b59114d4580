//! Examines a device: its limits, every operation against a host reference, the miniature's plans against the reference's, how long
//! they take, and whether the released model would fit. Writes one file to send to whoever asked for it.
//!
//! ```text
//! cargo run --release --features metal --example doctor -- --backend metal
//! ```
//!
//! Exits with 1 where something isn't as it should be.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use alpamayo_backends::Device;
use alpamayo_examples::cli::Weights;
use alpamayo_examples::doctor::{Examination, Report, examine};
use clap::Parser;

/// Examine a device.
#[derive(Debug, Parser)]
struct Arguments {
    /// Backend and device: cpu, candle, vulkan, metal, wgpu, cuda:0 … (the build's features decide which are there)
    #[arg(long, default_value = "cpu")]
    backend: Device,
    /// How weights are stored, several separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["f32", "bf16", "int8", "int4"])]
    weights: Vec<Weights>,
    /// Run the operations at the released model's shapes too: minutes on a GPU, 8 GB of memory
    #[arg(long)]
    released_shapes: bool,
    /// Timed drives of the miniature with six samples; 0 leaves them out
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// The report, as JSON
    #[arg(long, default_value = "doctor.json")]
    output: PathBuf,
}

fn run(arguments: &Arguments) -> Result<Report, Box<dyn Error>> {
    let report = examine(&Examination {
        device: arguments.backend,
        weights: arguments.weights.iter().map(|&weights| weights.into()).collect(),
        released_shapes: arguments.released_shapes,
        repetitions: arguments.repetitions,
    })?;
    std::fs::write(&arguments.output, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("{report}\n\nSend back {}", arguments.output.display());
    Ok(report)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) if report.problems().is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
