//! Drives one clip: reasoning, trajectory, its error against what happened, times, and a picture.
//!
//! `cargo run --release --example drive` needs nothing else: a miniature model and its clips are in the repository.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use alpamayo_backends::{DeviceVisitor, ModelBackend};
use alpamayo_core::Clip;
use alpamayo_core::metrics::min_ade;
use alpamayo_examples::cli::{ModelArguments, SamplingArguments, bundled};
use alpamayo_examples::figure::{self, FigureInput};
use alpamayo_models::{Alpamayo, Plan};
use clap::Parser;

/// Drive one clip with Alpamayo-R1.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Clip folder: clip.json and cam{index}_f{k}.png [default: a bundled one]
    #[arg(long)]
    clip: Option<PathBuf>,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// The picture, .png or .svg
    #[arg(long, default_value = "drive.png")]
    output: PathBuf,
}

impl DeviceVisitor for &Arguments {
    type Output = Result<(), Box<dyn Error>>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        let clip = Clip::read(self.clip.clone().unwrap_or_else(|| bundled("clips/red_light")))?;
        let started = Instant::now();
        let model = Alpamayo::<B>::load(self.model.checkpoint(), &device, self.model.load_options())?;
        println!(
            "loaded on {} in {:.2} s",
            self.model.backend.backend,
            started.elapsed().as_secs_f64()
        );
        let plan = model.drive(&clip, &self.sampling.drive_options())?;
        let mut figure = FigureInput::from_clip(&clip);
        report(&clip, &plan, &mut figure)?;
        for (trajectory, reasoning) in plan.trajectories.iter().zip(&plan.reasoning) {
            figure.plan(trajectory, reasoning);
        }
        figure::draw(&figure)?.write(&self.output)?;
        println!("\npicture      {}", self.output.display());
        Ok(())
    }
}

/// Prints what came out, and puts the numbers into the figure.
fn report(clip: &Clip, plan: &Plan, figure: &mut FigureInput<'_>) -> Result<(), Box<dyn Error>> {
    println!("\n{}: {}", clip.name, clip.description.as_deref().unwrap_or(""));
    for (sample, (reasoning, trajectory)) in plan.reasoning.iter().zip(&plan.trajectories).enumerate() {
        let [x, y, _] = trajectory.xyz().last().copied().unwrap_or_default();
        let heading = trajectory.yaw().last().copied().unwrap_or_default().to_degrees();
        println!(
            "  sample {sample}   {reasoning}\n             after 6.4 s: {x:.1} m ahead, {y:+.1} m left, heading {heading:+.1}°"
        );
    }
    plan.warnings
        .iter()
        .for_each(|warning| println!("  warning    {warning}"));
    if let Some(truth) = &clip.ego_future_xyz {
        let samples: Vec<_> = plan.trajectories.iter().map(|trajectory| trajectory.xyz()).collect();
        let error = min_ade(&samples, truth, 0.1)?;
        println!(
            "\nagainst what happened, best of {}: ADE {:.2} m, FDE {:.2} m (sample {})",
            samples.len(),
            error.ade,
            error.fde,
            error.sample
        );
        figure.number(format!("minADE of {}", samples.len()), format!("{:.2} m", error.ade));
        figure.number("FDE", format!("{:.2} m", error.fde));
    }
    let times = &plan.timings;
    let stages = [
        ("preprocess", times.preprocess),
        ("encode", times.encode),
        ("prefill", times.prefill),
        ("generate", times.generate),
        ("flow", times.flow),
        ("total", times.total()),
    ];
    println!();
    for (stage, time) in stages {
        println!("{stage:<12} {:>9.1} ms", time.as_secs_f64() * 1e3);
    }
    figure.number("time", format!("{:.0} ms", times.total().as_secs_f64() * 1e3));
    Ok(())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = arguments
        .model
        .backend
        .backend
        .run(&arguments)
        .map_err(Into::into)
        .and_then(|result| result);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
