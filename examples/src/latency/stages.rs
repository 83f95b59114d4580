//! Running the stages and taking their times.

use std::time::Instant;

use alpamayo_backends::{DeviceVisitor, ModelBackend};
use alpamayo_core::perturb::EgoHistory;
use alpamayo_core::{Frame, HISTORY_POSES, ImageProcessor, ModelConfig, MultimodalPositions};
use alpamayo_models::pipeline::Prompt;
use alpamayo_models::{Alpamayo, DriveOptions};
use indicatif::{ProgressBar, ProgressStyle};

use super::work::Extents;
use super::{Ceilings, Report, Stage};
use crate::cli::ModelArguments;
use crate::error::{Error, Result};

/// A model of random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    /// The bundled miniature's.
    Nano,
    /// The released model's.
    #[value(name = "r1-10b")]
    R1,
}

impl Size {
    /// The configuration of this size.
    ///
    /// # Errors
    /// None that the bundled files can cause.
    pub fn config(self) -> Result<ModelConfig> {
        Ok(match self {
            Self::Nano => ModelConfig::from_checkpoint(&crate::cli::bundled("checkpoint"), None)?,
            Self::R1 => ModelConfig::from_json(
                include_str!("../../data/r1-10b/config.json"),
                include_str!("../../data/r1-10b/backbone.json"),
            )?,
        })
    }
}

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Request {
    /// Random weights of this size instead of a checkpoint
    #[arg(long, value_enum)]
    pub random: Option<Size>,
    /// Rows that share the prompt
    #[arg(long, default_value_t = 1)]
    pub samples: usize,
    /// Tokens of reasoning
    #[arg(long, default_value_t = 40)]
    pub tokens: usize,
    /// Flow steps
    #[arg(long, default_value_t = 10)]
    pub flow_steps: usize,
    /// Timed repetitions
    #[arg(long, default_value_t = 7)]
    pub repetitions: usize,
    /// Height and width of the sixteen camera frames
    #[arg(long, num_args = 2, default_values_t = [1080, 1920])]
    pub frame: Vec<usize>,
}

/// Builds the model on the backend that `model` names and measures it.
///
/// Every stage is compiled for every backend here, once for all programs whose profile shares generic code.
///
/// # Errors
/// Where there is no such device, the model can't be built, or a stage fails.
pub fn measure(request: &Request, model: &ModelArguments) -> Result<Report> {
    model.backend.backend.run(Measurement { request, model })?
}

struct Measurement<'a> {
    request: &'a Request,
    model: &'a ModelArguments,
}

impl DeviceVisitor for Measurement<'_> {
    type Output = Result<Report>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        measure_on::<B>(self.request, self.model, &device)
    }
}

fn measure_on<B: ModelBackend>(request: &Request, model: &ModelArguments, device: &B::Device) -> Result<Report> {
    let options = model.load_options();
    let (weights, cache) = (options.weight_format::<B>(device), options.cache_format::<B>(device));
    let started = Instant::now();
    let alpamayo = match request.random {
        Some(size) => Alpamayo::<B>::random(&size.config()?, None, device, &options)?,
        None => Alpamayo::<B>::load(model.checkpoint(), device, options)?,
    };
    wait::<B>(device)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let frames = frames(request.frame[0], request.frame[1])?;
    let run = Run {
        prompt: prompt(alpamayo.config(), &frames)?,
        model: &alpamayo,
        frames,
        request,
    };
    let (first_milliseconds, plans, stages) = run.repeat()?;
    let patches = ImageProcessor::new(alpamayo.config()).process(&run.frames)?;
    let merge = alpamayo.config().vision.spatial_merge_size.pow(2);
    let extents = Extents {
        config: alpamayo.config(),
        image_patches: patches
            .tokens_per_image()
            .into_iter()
            .map(|tokens| tokens * merge)
            .collect(),
        prompt: run.prompt.len(),
        rows: request.samples,
        tokens: request.tokens,
        weights,
        cache,
    };
    let work = [
        None,
        Some(extents.encode()),
        Some(extents.prefill()),
        Some(extents.decode()),
        Some(extents.flow()),
    ];
    let names = ["preprocess", "encode", "prefill", "decode, per token", "flow, per step"];
    let memory_gib = B::reserved_memory(device).map(|bytes| bytes as f64 / f64::from(1 << 30));
    Ok(Report {
        backend: model.backend.backend.to_string(),
        device: model.backend.backend.check()?.to_string(),
        weights: format!("{weights:?}").to_lowercase(),
        samples: request.samples,
        patches: patches.num_patches(),
        prompt_tokens: run.prompt.len(),
        tokens: request.tokens,
        flow_steps: request.flow_steps,
        load_seconds,
        first_milliseconds,
        plan_milliseconds: median(plans),
        memory_gib,
        ceilings: Ceilings::measure::<B>(weights, device)?,
        stages: (0..names.len())
            .map(|stage| Stage {
                name: names[stage],
                milliseconds: median(stages.iter().map(|times| times[stage][1]).collect()),
                host_milliseconds: median(stages.iter().map(|times| times[stage][0]).collect()),
                work: work[stage],
            })
            .collect(),
    })
}

/// Milliseconds of each stage until the host has queued its work and until the device has done it.
type StageTimes = [[f64; 2]; 5];

/// One model, its inputs, and what is asked of it.
struct Run<'a, B: ModelBackend> {
    model: &'a Alpamayo<B>,
    frames: Vec<Frame>,
    prompt: Prompt,
    request: &'a Request,
}

impl<B: ModelBackend> Run<'_, B> {
    /// Milliseconds of the first plan, of whole plans, and of the stages.
    fn repeat(&self) -> Result<(f64, Vec<f64>, Vec<StageTimes>)> {
        let bar = ProgressBar::new(2 * self.request.repetitions as u64 + 2);
        if let Ok(style) = ProgressStyle::with_template("{msg:<10} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        bar.set_message("warming up");
        let first = self.plan()?;
        bar.inc(1);
        self.stages()?;
        bar.inc(1);
        bar.set_message("measuring");
        let (mut plans, mut stages) = (Vec::new(), Vec::new());
        for _ in 0..self.request.repetitions {
            plans.push(self.plan()?);
            bar.inc(1);
            stages.push(self.stages()?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok((first, plans, stages))
    }

    fn options(&self) -> DriveOptions {
        DriveOptions {
            samples: self.request.samples,
            // A random model doesn't stop: every token is sampled, the limit ends it.
            max_generation_length: Some(self.request.tokens),
            flow_steps: Some(self.request.flow_steps),
            ..DriveOptions::default()
        }
    }

    /// Frames on the host to trajectories on the host, milliseconds.
    fn plan(&self) -> Result<f64> {
        let (model, options) = (self.model, self.options());
        let started = Instant::now();
        let patches = ImageProcessor::new(model.config()).process(&self.frames)?;
        let features = model.encode(&patches, &mut ())?;
        let prefilled = model.prefill(std::slice::from_ref(&self.prompt), &features, &mut ())?;
        let generation = model.generate(&prefilled, &options, &mut ())?;
        let actions = model.flow(&generation, &options, &mut ())?;
        let trajectories = model.trajectories_from(&[straight_history()], &actions)?;
        let elapsed = started.elapsed().as_secs_f64() * 1e3;
        if trajectories.len() != self.request.samples {
            return Err(Error::Device(format!("{} trajectories came back", trajectories.len())));
        }
        Ok(elapsed)
    }

    /// Milliseconds of each stage until the host has queued its work and until the device has done it, one after another.
    fn stages(&self) -> Result<StageTimes> {
        let (model, options) = (self.model, self.options());
        let mut clock = Instant::now();
        let mut lap = || -> Result<[f64; 2]> {
            let queued = clock.elapsed();
            wait::<B>(model.device())?;
            let done = clock.elapsed();
            clock = Instant::now();
            Ok([queued, done].map(|time| time.as_secs_f64() * 1e3))
        };
        let patches = ImageProcessor::new(model.config()).process(&self.frames)?;
        let preprocess = lap()?;
        let features = model.encode(&patches, &mut ())?;
        let encode = lap()?;
        let prefilled = model.prefill(std::slice::from_ref(&self.prompt), &features, &mut ())?;
        let prefill = lap()?;
        let generation = model.generate(&prefilled, &options, &mut ())?;
        let generate = lap()?;
        model.flow(&generation, &options, &mut ())?;
        let flow = lap()?;
        // The first token comes from the prefill's logits.
        let decoded = generation.tokens.first().map_or(1, Vec::len).max(2) - 1;
        let steps = self.request.flow_steps;
        Ok([
            preprocess,
            encode,
            prefill,
            generate.map(|time| time / decoded as f64),
            flow.map(|time| time / steps as f64),
        ])
    }
}

fn wait<B: ModelBackend>(device: &B::Device) -> Result<()> {
    B::sync(device).map_err(|error| Error::Device(error.to_string()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Sixteen frames of noise-like pixels.
fn frames(height: usize, width: usize) -> Result<Vec<Frame>> {
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
fn prompt(config: &ModelConfig, frames: &[Frame]) -> Result<Prompt> {
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

/// Ten metres per second straight ahead.
fn straight_history() -> EgoHistory {
    EgoHistory {
        xyz: (0..HISTORY_POSES)
            .map(|pose| [pose as f32 - (HISTORY_POSES - 1) as f32, 0.0, 0.0])
            .collect(),
        rot: vec![[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]; HISTORY_POSES],
    }
}
