//! All stages in a row.

use std::time::{Duration, Instant};

use alpamayo_backends::ModelBackend;
use alpamayo_core::{Clip, StopPosition, Trajectory, extract_reasoning};

use super::build::Alpamayo;
use super::check;
use super::generate::Generation;
use super::guard::guard;
use super::inputs::Inputs;
use super::options::DriveOptions;
use super::plan::{Plan, Timings};
use crate::error::{Error, Result};
use crate::observer::Observer;

impl<B: ModelBackend> Alpamayo<B> {
    /// Drives one clip: reasoning and trajectory of every sample.
    ///
    /// # Errors
    /// As the stages'.
    pub fn drive(&self, clip: &Clip, options: &DriveOptions) -> Result<Plan> {
        Ok(self.drive_batch(std::slice::from_ref(clip), options)?.remove(0))
    }

    /// Drives several clips at once, one plan per clip; their prompts must be of equal length.
    ///
    /// Row = clip · samples + sample counts through the batch, for the random streams, `noise` and `forced_tokens`.
    ///
    /// # Errors
    /// As the stages'.
    pub fn drive_batch(&self, clips: &[Clip], options: &DriveOptions) -> Result<Vec<Plan>> {
        self.drive_observed(clips, options, &mut ())
    }

    /// As [`drive_batch`](Self::drive_batch), with an observer of all stages.
    ///
    /// # Errors
    /// As the stages'.
    pub fn drive_observed(
        &self,
        clips: &[Clip],
        options: &DriveOptions,
        observer: &mut dyn Observer<B>,
    ) -> Result<Vec<Plan>> {
        let started = Instant::now();
        let inputs = self.preprocess(clips, &options.prompt)?;
        let preprocess = started.elapsed();
        let mut plans = self.drive_inputs(&inputs, clips, options, observer)?;
        for plan in &mut plans {
            plan.timings.preprocess = preprocess;
        }
        Ok(plans)
    }

    /// As [`drive_observed`](Self::drive_observed), from inputs that [`preprocess`](Self::preprocess) made of the clips before, on
    /// another thread for instance; their time is not in the plan's timings.
    ///
    /// # Errors
    /// As the stages', and where there are not as many clips as prompts.
    pub fn drive_inputs(
        &self,
        inputs: &Inputs,
        clips: &[Clip],
        options: &DriveOptions,
        observer: &mut dyn Observer<B>,
    ) -> Result<Vec<Plan>> {
        if clips.len() != inputs.prompts.len() {
            let reason = format!("{} clips for inputs of {}", clips.len(), inputs.prompts.len());
            return check::reject("clips", reason);
        }
        let mut clock = Clock::start();
        let mut timings = Timings::default();
        let features = self.encode(&inputs.patches, observer)?;
        self.finish("encode")?;
        timings.encode = clock.lap();
        let prefilled = self.prefill(&inputs.prompts, &features, observer)?;
        self.finish("prefill")?;
        timings.prefill = clock.lap();
        let generation = self.generate(&prefilled, options, observer)?;
        self.finish("generate")?;
        timings.generate = clock.lap();
        timings.generated_tokens = generation.tokens.first().map_or(0, Vec::len);
        let actions = self.flow(&generation, options, observer)?;
        timings.flow = clock.lap();
        let trajectories = self.trajectories(clips, &actions)?;
        let mut plans = self.plans(&generation, actions, trajectories)?;
        timings.postprocess = clock.lap();
        for plan in &mut plans {
            plan.timings = timings;
        }
        Ok(plans)
    }

    /// The sentence of every row: generated ids → text → what stands before `<|cot_end|>`.
    ///
    /// # Errors
    /// Where the model has no tokenizer, an id is unknown to it, or the generation's fields don't go together.
    pub fn reasoning(&self, generation: &Generation<B>) -> Result<Vec<String>> {
        let tokenizer = self.tokenizer()?;
        let text = |row: Vec<u32>| Ok(extract_reasoning(&tokenizer.decode(&row)?));
        visible_tokens(generation)?.into_iter().map(text).collect()
    }

    pub(super) fn plans(
        &self,
        generation: &Generation<B>,
        actions: Vec<Vec<[f32; 2]>>,
        trajectories: Vec<Trajectory>,
    ) -> Result<Vec<Plan>> {
        let samples = generation.cache.samples();
        let mut reasoning = self.reasoning(generation)?.into_iter();
        let mut tokens = visible_tokens(generation)?.into_iter();
        let (mut actions, mut trajectories) = (actions.into_iter(), trajectories.into_iter());
        let plan = |stops: &[StopPosition]| {
            let actions: Vec<_> = actions.by_ref().take(samples).collect();
            Plan {
                reasoning: reasoning.by_ref().take(samples).collect(),
                trajectories: trajectories.by_ref().take(samples).collect(),
                tokens: tokens.by_ref().take(samples).collect(),
                stopped: stops.iter().map(|stop| stop.found).collect(),
                warnings: self.warnings(stops, &actions),
                actions,
                timings: Timings::default(),
            }
        };
        Ok(generation.stops.chunks(samples.max(1)).map(plan).collect())
    }

    fn warnings(&self, stops: &[StopPosition], actions: &[Vec<[f32; 2]>]) -> Vec<String> {
        let mut warnings = Vec::new();
        for (sample, (stop, actions)) in stops.iter().zip(actions).enumerate() {
            if !stop.found {
                warnings.push(format!(
                    "sample {sample}: no <|traj_future_start|> within {} tokens; its last token takes that place, and the \
                     trajectory may mean little (raise max_generation_length)",
                    stop.index + 1
                ));
            }
            if !self.action_space.within_bounds(actions) {
                let space = &self.config.action_space;
                warnings.push(format!(
                    "sample {sample}: its accelerations or curvatures leave the vehicle's bounds ({:?} m/s², {:?} 1/m); no \
                     vehicle of the configuration can follow its trajectory",
                    space.accel_bounds, space.curvature_bounds
                ));
            }
        }
        warnings
    }

    /// Waits for the device, so that a stage's time and its failures are its own.
    pub(super) fn finish(&self, stage: &'static str) -> Result<()> {
        guard(stage, || {
            B::sync(&self.device).map_err(|error| {
                Error::Backend(alpamayo_backends::Error::Device {
                    context: stage.to_owned(),
                    message: error.to_string(),
                })
            })
        })
    }
}

/// Generated tokens up to and including the stop.
fn visible_tokens<B: ModelBackend>(generation: &Generation<B>) -> Result<Vec<Vec<u32>>> {
    check::generation(generation)?;
    let rows = generation.tokens.iter().zip(&generation.stops);
    Ok(rows.map(|(row, stop)| row[..=stop.index].to_vec()).collect())
}

/// Time since the last look.
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.0, now))
    }
}
