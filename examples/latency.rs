//! Times each stage of the model on this machine, with a checkpoint or with random weights of the released size.
//!
//! `cargo run --release --features cuda --example latency -- --backend cuda --random r1-10b`

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use alpamayo_backends::{DeviceVisitor, ModelBackend};
use alpamayo_core::{Frame, ImageProcessor, ModelConfig, MultimodalPositions};
use alpamayo_examples::cli::ModelArguments;
use alpamayo_models::pipeline::Prompt;
use alpamayo_models::{Alpamayo, DriveOptions};
use clap::Parser;
use serde::Serialize;

/// Time the stages of Alpamayo-R1.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Random weights of this size instead of a checkpoint: r1-10b
    #[arg(long)]
    random: Option<String>,
    /// Rows that share the prompt
    #[arg(long, default_value_t = 1)]
    samples: usize,
    /// Tokens of reasoning
    #[arg(long, default_value_t = 40)]
    tokens: usize,
    /// Flow steps
    #[arg(long, default_value_t = 10)]
    flow_steps: usize,
    /// Timed repetitions, after one that isn't timed
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Height and width of the camera frames
    #[arg(long, num_args = 2, default_values_t = [1080, 1920])]
    frame: Vec<usize>,
    /// Also write the numbers to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Milliseconds of each stage.
#[derive(Debug, Clone, Copy, Serialize)]
struct Times {
    preprocess: f64,
    encode: f64,
    prefill: f64,
    generate_per_token: f64,
    flow_per_step: f64,
    total: f64,
}

#[derive(Debug, Serialize)]
struct Results {
    backend: String,
    samples: usize,
    prompt_tokens: usize,
    patches: usize,
    tokens: usize,
    flow_steps: usize,
    load_seconds: f64,
    first_total_milliseconds: f64,
    median_milliseconds: Times,
}

impl DeviceVisitor for &Arguments {
    type Output = Result<Results, Box<dyn Error>>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        let started = Instant::now();
        let model = self.build::<B>(&device)?;
        B::sync(&device).map_err(|error| error.to_string())?;
        let load_seconds = started.elapsed().as_secs_f64();
        eprintln!("ready after {load_seconds:.1} s");
        let frames = frames(self.frame[0], self.frame[1])?;
        let prompt = prompt(model.config(), &frames)?;
        let mut times = Vec::new();
        for repetition in 0..=self.repetitions {
            let stages = self.once(&model, &frames, &prompt)?;
            eprintln!("{repetition}: {stages:.1?}");
            times.push(stages);
        }
        let first_total_milliseconds = times.remove(0).total;
        let median = |of: fn(&Times) -> f64| {
            let mut values: Vec<f64> = times.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Ok(Results {
            backend: self.model.backend.backend.to_string(),
            samples: self.samples,
            prompt_tokens: prompt.len(),
            patches: ImageProcessor::new(model.config()).process(&frames)?.num_patches(),
            tokens: self.tokens,
            flow_steps: self.flow_steps,
            load_seconds,
            first_total_milliseconds,
            median_milliseconds: Times {
                preprocess: median(|t| t.preprocess),
                encode: median(|t| t.encode),
                prefill: median(|t| t.prefill),
                generate_per_token: median(|t| t.generate_per_token),
                flow_per_step: median(|t| t.flow_per_step),
                total: median(|t| t.total),
            },
        })
    }
}

impl Arguments {
    fn build<B: ModelBackend>(&self, device: &B::Device) -> Result<Alpamayo<B>, Box<dyn Error>> {
        let options = self.model.load_options();
        match self.random.as_deref() {
            None => Ok(Alpamayo::load(self.model.checkpoint(), device, options)?),
            Some("r1-10b") => {
                let config = ModelConfig::from_json(
                    include_str!("data/r1-10b/config.json"),
                    include_str!("data/r1-10b/backbone.json"),
                )?;
                Ok(Alpamayo::random(&config, None, device, &options)?)
            }
            Some(other) => Err(format!("there is no size `{other}`; known is r1-10b").into()),
        }
    }

    /// All stages once, from frames on the host to trajectories on the host.
    fn once<B: ModelBackend>(
        &self,
        model: &Alpamayo<B>,
        frames: &[Frame],
        prompt: &Prompt,
    ) -> Result<Times, Box<dyn Error>> {
        let options = DriveOptions {
            samples: self.samples,
            // The stop can't come by chance: every token is sampled, the limit ends it.
            max_generation_length: Some(self.tokens),
            flow_steps: Some(self.flow_steps),
            ..DriveOptions::default()
        };
        let sync = || B::sync(model.device()).map_err(|error| error.to_string());
        let mut clock = Clock(Instant::now());
        let patches = ImageProcessor::new(model.config()).process(frames)?;
        let preprocess = clock.lap();
        let features = model.encode(&patches, &mut ())?;
        sync()?;
        let encode = clock.lap();
        let prefilled = model.prefill(std::slice::from_ref(prompt), &features, &mut ())?;
        sync()?;
        let prefill = clock.lap();
        let generation = model.generate(&prefilled, &options, &mut ())?;
        sync()?;
        let generate = clock.lap();
        let actions = model.flow(&generation, &options, &mut ())?;
        let flow = clock.lap();
        if actions.iter().flatten().flatten().any(|value| !value.is_finite()) {
            return Err("the actions are not finite".into());
        }
        let tokens = generation.tokens.first().map_or(1, Vec::len);
        Ok(Times {
            preprocess,
            encode,
            prefill,
            generate_per_token: generate / tokens as f64,
            flow_per_step: flow / self.flow_steps as f64,
            total: preprocess + encode + prefill + generate + flow,
        })
    }
}

/// Sixteen frames of noise-like pixels.
fn frames(height: usize, width: usize) -> Result<Vec<Frame>, Box<dyn Error>> {
    let pixels = |frame: usize| {
        (0..height * width * 3)
            .map(|i| (i * 31 + i / 977 + frame * 7) as u8)
            .collect()
    };
    Ok((0..16)
        .map(|frame| Frame::new(width, height, pixels(frame)))
        .collect::<Result<_, _>>()?)
}

/// A prompt of the released length without a tokenizer: text around the images as long as the real one's.
fn prompt(config: &ModelConfig, frames: &[Frame]) -> Result<Prompt, Box<dyn Error>> {
    const TEXT_BEFORE: usize = 18;
    const TEXT_AFTER: usize = 76;
    let patches = ImageProcessor::new(config).process(frames)?;
    let image_pad = u32::MAX;
    let mut ids: Vec<u32> = (0..TEXT_BEFORE as u32).collect();
    for tokens in patches.tokens_per_image() {
        ids.push(1);
        ids.extend(std::iter::repeat_n(image_pad, tokens));
        ids.push(2);
    }
    ids.extend(0..TEXT_AFTER as u32);
    let positions = MultimodalPositions::new(&ids, image_pad, &patches.grid_thw, config.vision.spatial_merge_size)?;
    Ok(Prompt::new(ids, image_pad, positions))
}

struct Clock(Instant);

impl Clock {
    /// Milliseconds since the last call.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let elapsed: Duration = now - std::mem::replace(&mut self.0, now);
        elapsed.as_secs_f64() * 1e3
    }
}

fn print(results: &Results) {
    let times = &results.median_milliseconds;
    println!(
        "{}, {} sample(s), {} patches, {} prompt tokens",
        results.backend, results.samples, results.patches, results.prompt_tokens
    );
    let rows = [
        ("preprocess", times.preprocess),
        ("encode", times.encode),
        ("prefill", times.prefill),
        ("generate, per token", times.generate_per_token),
        ("flow, per step", times.flow_per_step),
        ("total", times.total),
        ("first drive", results.first_total_milliseconds),
    ];
    for (stage, milliseconds) in rows {
        println!("{stage:<22} {milliseconds:>10.2} ms");
    }
    println!("{:<22} {:>10.2} s", "load", results.load_seconds);
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let results = arguments.model.backend.backend.run(arguments)??;
    print(&results);
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
