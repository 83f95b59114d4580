//! Times each stage of the model on this machine, with a checkpoint or with random weights of the released size.
//!
//! `cargo run --release --features cuda --example latency -- --backend cuda --random r1-10b`

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use alpamayo_backends::Device;
use alpamayo_examples::cli::ModelArguments;
use alpamayo_examples::latency::{self, Request};
use clap::Parser;

/// Time the stages of Alpamayo-R1.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    request: Request,
    /// Further backends to measure after the first, one after another
    #[arg(long, num_args = 1.., value_name = "BACKEND")]
    and: Vec<Device>,
    /// Also write the numbers to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

fn run(mut arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let mut reports = Vec::new();
    for backend in std::iter::once(arguments.model.backend.backend).chain(arguments.and.clone()) {
        arguments.model.backend.backend = backend;
        let report = latency::measure(&arguments.request, &arguments.model)?;
        latency::print(&report);
        reports.push(report);
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&reports)?)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
