//! Changes one thing in clips, drives again, and measures what moved: perturbations x severities x clips x repetitions.
//!
//! `cargo run --release --example perturb` needs nothing else: a miniature model, its clips and a first sweep are in the repository.
//! The same command again goes on where it was stopped; `docs/perturbation.md` is the guide.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use alpamayo_backends::{DeviceVisitor, ModelBackend};
use alpamayo_core::perturb::Sweep;
use alpamayo_examples::cli::{ModelArguments, SamplingArguments, bundled};
use alpamayo_examples::evaluate::{ClipItem, Options, clips};
use alpamayo_examples::perturb::page::{self, Sources};
use alpamayo_examples::perturb::{
    FlipItem, FlipRecord, GridItem, IntentKind, Record, Rows, Summary, bundled_sweep, curves, drive_grid, find_flips,
    flip_items, grid, tables,
};
use alpamayo_examples::run::{self, Interrupt, Item, Outcome, ResultFile, RunArguments};
use alpamayo_models::Alpamayo;
use clap::Parser;
use serde_json::json;

/// Change one thing in clips, drive again with Alpamayo-R1, measure what moved.
#[derive(Debug, Parser)]
struct Arguments {
    /// Clip folder, folder of clip folders, or a glob of them; repeatable [default: the bundled clips]
    #[arg(long, value_name = "DIR")]
    clips: Vec<String>,
    #[cfg(feature = "dataset")]
    #[command(flatten)]
    dataset: alpamayo_examples::evaluate::dataset::DatasetArguments,
    /// What is tried out, a TOML or JSON file [default: the bundled first.toml]
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Folder for results.jsonl, pairs.csv, summary.csv, summary.txt, curves/ and report.html
    #[arg(long, value_name = "DIR", default_value = "perturbation")]
    out: PathBuf,
    /// Look for the severity at which each clip's intent flips too, by bisection: of the words, or of the plan
    #[arg(long, value_name = "INTENT", num_args = 0..=1, require_equals = true, default_missing_value = "stated")]
    find_flip: Option<IntentKind>,
    /// How many pairs of figures the page shows of each clip: the first of every clip, further ones up to 120 in all; 0 for none
    #[arg(long, default_value_t = 2)]
    figures: usize,
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    run: RunArguments,
}

/// A file of flips and what they are flips of.
type Flips = (IntentKind, ResultFile<FlipRecord>);

/// What is still to be driven, on whichever backend.
struct Experiment<'a> {
    arguments: &'a Arguments,
    results: &'a mut ResultFile<Record>,
    pending: &'a [&'a GridItem<'a>],
    flips: Option<&'a mut Flips>,
    pending_flips: &'a [&'a FlipItem<'a>],
}

impl DeviceVisitor for Experiment<'_> {
    type Output = Result<Outcome, Box<dyn Error>>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        let model = &self.arguments.model;
        let model = Alpamayo::<B>::load(model.checkpoint(), &device, model.load_options())?;
        let (options, interrupt) = (self.arguments.sampling.drive_options(), Interrupt::on_ctrl_c()?);
        let outcome = drive_grid(&model, &options, self.results, self.pending, &interrupt)?;
        match self.flips {
            Some((kind, flips)) if !outcome.interrupted => {
                eprintln!("looking for the severities at which the {} intent flips", kind.name());
                Ok(find_flips(
                    &model,
                    &options,
                    *kind,
                    flips,
                    self.pending_flips,
                    &interrupt,
                )?)
            }
            _ => Ok(outcome),
        }
    }
}

impl Arguments {
    fn clips(&self) -> Result<Vec<ClipItem>, Box<dyn Error>> {
        let mut items = clips::find(&self.clips)?;
        #[cfg(feature = "dataset")]
        items.extend(self.dataset.items()?);
        if items.is_empty() {
            items = clips::find(&[bundled("clips").to_string_lossy()])?;
        }
        // Of a shard are whole clips, so that each is looked at in one of them only.
        Ok(self.run.shard.of(&items).cloned().collect())
    }

    fn options(&self) -> Result<Options, Box<dyn Error>> {
        #[cfg_attr(not(feature = "dataset"), expect(unused_mut))]
        let mut options = Options::new(&self.model, &self.sampling)?;
        #[cfg(feature = "dataset")]
        self.dataset.note(&mut options);
        Ok(options)
    }

    fn flips(&self, options: &Options) -> Result<Option<Flips>, Box<dyn Error>> {
        let Some(kind) = self.find_flip else { return Ok(None) };
        let options = json!({ "drive": options, "intent": kind });
        let path = self.out.join(format!("flips_{}.jsonl", kind.name()));
        Ok(Some((kind, ResultFile::open(&path, &options)?)))
    }

    fn perturb(&self) -> Result<Outcome, Box<dyn Error>> {
        let sweep = Sweep::read(&self.spec.clone().unwrap_or_else(|| bundled_sweep("first")))?;
        let clips = self.clips()?;
        let (items, flip_items) = (grid(&sweep, &clips)?, flip_items(&sweep, &clips)?);
        let options = self.options()?;
        let mut results = ResultFile::open(&self.out.join("results.jsonl"), &options)?;
        let mut flips = self.flips(&options)?;
        let all = RunArguments {
            retry_failed: self.run.retry_failed,
            ..RunArguments::default()
        };
        let pending = run::pending(&items, &results, &all)?;
        let pending_flips = match &flips {
            Some((_, flips)) => run::pending(&flip_items, flips, &all)?,
            None => Vec::new(),
        };
        let mut outcome = Outcome::default();
        if !(pending.is_empty() && pending_flips.is_empty()) {
            let experiment = Experiment {
                arguments: self,
                results: &mut results,
                pending: &pending,
                flips: flips.as_mut(),
                pending_flips: &pending_flips,
            };
            outcome = self.model.backend.backend.run(experiment)??;
        }
        self.report(&clips, &items, &results, found_flips(&flip_items, flips.as_ref())?)?;
        Ok(outcome)
    }

    /// Writes everything that is made of the files of results.
    fn report(
        &self,
        clips: &[ClipItem],
        items: &[GridItem<'_>],
        results: &ResultFile<Record>,
        flips: Option<(IntentKind, Vec<FlipRecord>)>,
    ) -> Result<(), Box<dyn Error>> {
        let rows = Rows::read(results, items)?;
        let summary = Summary::new(&rows)?;
        tables::write_pairs(&rows, &self.out.join("pairs.csv"))?;
        tables::write_summary(&summary, &self.out.join("summary.csv"))?;
        std::fs::write(self.out.join("summary.txt"), summary.to_string())?;
        let mut charts = curves::severity_curves(&summary);
        if let Some((kind, flips)) = &flips {
            tables::write_flips(flips, *kind, &self.out.join(format!("flips_{}.csv", kind.name())))?;
            charts.extend(curves::flip_curves(flips, *kind));
        }
        curves::write(&charts, &self.out.join("curves"))?;
        let sources = Sources {
            results,
            clips,
            rows: &rows,
            summary: &summary,
            flips: flips.as_ref().map(|(kind, flips)| (*kind, flips.as_slice())),
            drawn_per_clip: self.figures,
        };
        page::page(&sources)?.write(&self.out.join("report.html"))?;
        println!("{summary}\n{}", self.out.join("report.html").display());
        Ok(())
    }
}

/// Flips of one kind of intent.
type Found = (IntentKind, Vec<FlipRecord>);

/// The flips that were found so far, of the items in their order.
fn found_flips(items: &[FlipItem<'_>], flips: Option<&Flips>) -> Result<Option<Found>, Box<dyn Error>> {
    let Some((kind, flips)) = flips else { return Ok(None) };
    let mut found = Vec::new();
    for item in items {
        match flips.record(&item.key())? {
            Some(Ok(record)) => found.push(record),
            Some(Err(error)) => eprintln!("failed: {}: {error}", item.key()),
            None => {}
        }
    }
    Ok(Some((*kind, found)))
}

fn main() -> ExitCode {
    match Arguments::parse().perturb() {
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
