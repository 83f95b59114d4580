//! Drives many clips and measures the plans: one JSON line per clip, a summary, a page to look at, NumPy arrays.
//!
//! `cargo run --release --example evaluate` needs nothing else: a miniature model and its clips are in the repository.
//! The same command again goes on where it was stopped.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use alpamayo_backends::{DeviceVisitor, ModelBackend};
use alpamayo_examples::cli::{ModelArguments, SamplingArguments, bundled};
use alpamayo_examples::evaluate::{ClipItem, ClipRecord, Options, Summary, clips, drive, export, page};
use alpamayo_examples::run::{self, Interrupt, Outcome, ResultFile, RunArguments};
use alpamayo_models::Alpamayo;
use clap::Parser;

/// Drive many clips with Alpamayo-R1 and measure the plans.
#[derive(Debug, Parser)]
struct Arguments {
    /// Clip folders, folders of clip folders, or globs of them [default: the bundled clips]
    clips: Vec<String>,
    #[cfg(feature = "dataset")]
    #[command(flatten)]
    dataset: alpamayo_examples::evaluate::dataset::DatasetArguments,
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    run: RunArguments,
    /// Folder for results.jsonl, summary.txt, summary.json and report.html
    #[arg(long, default_value = "evaluation")]
    output: PathBuf,
    /// Write results.npz too
    #[arg(long)]
    npz: bool,
    /// How many of the worst and of the best clips the page shows
    #[arg(long, default_value_t = 6)]
    cases: usize,
}

/// The clips that are still to be driven, on whichever backend.
struct Evaluation<'a> {
    arguments: &'a Arguments,
    results: &'a mut ResultFile<ClipRecord>,
    pending: &'a [&'a ClipItem],
}

impl DeviceVisitor for Evaluation<'_> {
    type Output = Result<Outcome, Box<dyn Error>>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        let model = &self.arguments.model;
        let model = Alpamayo::<B>::load(model.checkpoint(), &device, model.load_options())?;
        let (options, interrupt) = (self.arguments.sampling.drive_options(), Interrupt::on_ctrl_c()?);
        Ok(drive(&model, &options, self.results, self.pending, &interrupt)?)
    }
}

impl Arguments {
    fn items(&self) -> Result<Vec<ClipItem>, Box<dyn Error>> {
        let mut items = clips::find(&self.clips)?;
        #[cfg(feature = "dataset")]
        items.extend(self.dataset.items()?);
        if items.is_empty() {
            items = clips::find(&[bundled("clips").to_string_lossy()])?;
        }
        Ok(items)
    }

    fn options(&self) -> Result<Options, Box<dyn Error>> {
        #[cfg_attr(not(feature = "dataset"), expect(unused_mut))]
        let mut options = Options::new(&self.model, &self.sampling)?;
        #[cfg(feature = "dataset")]
        self.dataset.note(&mut options);
        Ok(options)
    }

    fn evaluate(&self) -> Result<Outcome, Box<dyn Error>> {
        let items = self.items()?;
        let options = self.options()?;
        let mut results = ResultFile::open(&self.output.join("results.jsonl"), &options)?;
        let pending = run::pending(&items, &results, &self.run)?;
        let mut outcome = Outcome::default();
        if !pending.is_empty() {
            let evaluation = Evaluation {
                arguments: self,
                results: &mut results,
                pending: &pending,
            };
            outcome = self.model.backend.backend.run(evaluation)??;
        }
        self.report(&items, &results)?;
        Ok(outcome)
    }

    /// Writes everything that is made of the file of results, of these items.
    fn report(&self, items: &[ClipItem], results: &ResultFile<ClipRecord>) -> Result<(), Box<dyn Error>> {
        let summary = Summary::new(results, items, self.sampling.samples)?;
        std::fs::write(self.output.join("summary.txt"), summary.to_string())?;
        let json = serde_json::to_string_pretty(&summary)?;
        std::fs::write(self.output.join("summary.json"), json + "\n")?;
        page::page(results, &summary, items, self.cases)?.write(&self.output.join("report.html"))?;
        if self.npz {
            export::write(results, items, self.sampling.samples, &self.output.join("results.npz"))?;
        }
        println!("{summary}\n{}", self.output.join("report.html").display());
        Ok(())
    }
}

fn main() -> ExitCode {
    match Arguments::parse().evaluate() {
        Ok(outcome) if outcome.interrupted => {
            eprintln!("stopped; the same command goes on");
            ExitCode::from(130)
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
