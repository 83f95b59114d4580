//! Compares every stage with golden values of the reference: `parity CASE_DIR`, `parity --domain DIR --tokenizer FILE`.
//!
//! Prints `name shape rel_l2 max_abs` per tensor, last the worst; exits 1 where one is beyond the tolerance or an id differs.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use alpamayo_backends::{DeviceVisitor, ModelBackend};
use alpamayo_examples::cli::BackendArguments;
use alpamayo_examples::parity::{CaseSettings, Report, Tolerance, run_case, run_domain};
use clap::Parser;

/// Compare with golden values of the reference.
#[derive(Debug, Parser)]
struct Arguments {
    /// Case directory: case.json, golden.safetensors and checkpoint/
    #[arg(required_unless_present = "domain")]
    case: Option<PathBuf>,
    /// Directory of golden values around the network, instead of a case
    #[arg(long, conflicts_with = "case", requires = "tokenizer")]
    domain: Option<PathBuf>,
    /// The tokenizer.json that the domain's prompts were made with
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Largest relative L2 error; expert.* and flow.v, behind sines of large angles, may have three times that
    #[arg(long, default_value_t = 1e-5)]
    tolerance: f64,
    #[command(flatten)]
    backend: BackendArguments,
}

struct Case<'a> {
    directory: &'a Path,
    settings: CaseSettings,
}

impl DeviceVisitor for Case<'_> {
    type Output = alpamayo_examples::parity::Result<Report>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        run_case::<B>(self.directory, self.settings, &device)
    }
}

fn run(arguments: &Arguments) -> Result<Report, Box<dyn Error + Send + Sync>> {
    let tolerance = Tolerance(arguments.tolerance);
    if let (Some(directory), Some(tokenizer)) = (&arguments.domain, &arguments.tokenizer) {
        return run_domain(directory, tokenizer, tolerance);
    }
    let directory = arguments.case.as_deref().ok_or("name a case directory, or --domain")?;
    let settings = CaseSettings {
        weight_format: arguments.backend.weights.map(Into::into),
        cache_format: arguments.backend.cache.map(Into::into),
        tolerance,
    };
    arguments.backend.backend.run(Case { directory, settings })?
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) => {
            println!("{report}");
            if report.passed() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
