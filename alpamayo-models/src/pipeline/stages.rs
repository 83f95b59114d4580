//! The stages, one method each.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{ActionTokens, RowLengths};
use alpamayo_backends::repetition::Anew;
use alpamayo_core::perturb::EgoHistory;
use alpamayo_core::{Clip, Patches, Trajectory, flow_noise};
use burn::tensor::Tensor;

use super::build::Alpamayo;
use super::check;
use super::flowing::Flowing;
use super::generate::{Generation, Generator};
use super::guard::{guard, on_device};
use super::inputs::Prompt;
use super::kept::places;
use super::options::DriveOptions;
use super::prefill::{Prefilled, prefill};
use crate::cache::KeyValueCache;
use crate::error::{Error, Result};
use crate::expert::{ACTION_FEATURES, ExpertContext};
use crate::flow::EulerFlow;
use crate::host::{download, upload};
use crate::observer::Observer;
use crate::vision::VisionFeatures;

/// Reasonings whose numbers of tokens have the same multiple of this above them leave the action expert the same work, which can be repeated
/// from plan to plan.
const ALIKE: usize = 64;

impl<B: ModelBackend> Alpamayo<B> {
    /// Patches of frames → image tokens and deepstack features.
    ///
    /// # Errors
    /// Where the patches contradict the sizes, or the device fails.
    pub fn encode(&self, patches: &Patches, observer: &mut dyn Observer<B>) -> Result<VisionFeatures<B>> {
        let vision = &self.config.vision;
        check::patches(vision, patches)?;
        let changed = self.grids.changed(patches.grid_thw.clone());
        on_device::<B, _>("encode", &self.device, || {
            if changed {
                self.clean_up();
            }
            let tables = self
                .vision_tables
                .of(&self.network.vision, &patches.grid_thw, &self.device)?;
            let area = vision.patch_size * vision.patch_size;
            let (channels, temporal) = (vision.in_channels, vision.temporal_patch_size);
            let pixels = B::normalize_pixels(&patches.pixels, channels, temporal, area, &self.device);
            self.network.vision.forward(pixels, &tables, observer)
        })
    }

    /// Prompts through the decoder; `features` are those of all prompts' images, one behind the other.
    ///
    /// # Errors
    /// Where prompts differ in length, contradict themselves or ask for other features, or the device fails.
    pub fn prefill(
        &self,
        prompts: &[Prompt],
        features: &VisionFeatures<B>,
        observer: &mut dyn Observer<B>,
    ) -> Result<Prefilled<B>> {
        check::prompts(&self.config, prompts, features)?;
        let (text, decoder) = (&self.config.text, &self.network.decoder);
        on_device::<B, _>("prefill", &self.device, || {
            let (clips, length) = (prompts.len(), prompts[0].len());
            if self.prompts.changed([clips, length]) {
                self.clean_up();
            }
            let cache = KeyValueCache::for_prompts(text, clips, length, self.cache_format, &self.device);
            Ok(prefill(decoder, prompts, features, cache, &self.device, observer))
        })
    }

    /// The chain of causation: `options.samples` rows per clip, sampled, greedy or forced.
    ///
    /// The prompts' cache is shared, so a [`Prefilled`] can be generated from many times.
    ///
    /// # Errors
    /// Where the options contradict the batch, logits are not finite, or the device fails.
    pub fn generate(
        &self,
        prefilled: &Prefilled<B>,
        options: &DriveOptions,
        observer: &mut dyn Observer<B>,
    ) -> Result<Generation<B>> {
        on_device::<B, _>("generate", &self.device, || {
            self.generator(prefilled, options)?.run(observer)
        })
    }

    /// What generates from a prefilled prompt.
    pub(super) fn generator<'a>(
        &'a self,
        prefilled: &'a Prefilled<B>,
        options: &'a DriveOptions,
    ) -> Result<Generator<'a, B>> {
        let (decoder, kept) = (&self.network.decoder, &self.decoding);
        Generator::new(decoder, kept, &self.config, prefilled, options, &self.device)
    }

    /// Gives memory back that is of no use any more.
    fn clean_up(&self) {
        self.decoding.forget();
        self.flowing.forget();
        B::memory_cleanup(&self.device);
    }

    /// Flow matching from noise to normalised actions `[waypoints, 2]` per row.
    ///
    /// # Errors
    /// Where the noise has the wrong size, there are no flow steps, or the device fails.
    pub fn flow(
        &self,
        generation: &Generation<B>,
        options: &DriveOptions,
        observer: &mut dyn Observer<B>,
    ) -> Result<Vec<Vec<[f32; 2]>>> {
        let (rows, waypoints) = (generation.tokens.len(), self.config.action_space.n_waypoints);
        let noise = self.noise(rows, options)?;
        let flow = EulerFlow::new(options.flow_steps.unwrap_or(self.config.flow.num_inference_steps))?;
        on_device::<B, _>("flow", &self.device, || {
            let mut context = self.expert_context(generation)?;
            let x = upload(noise, [rows * waypoints, ACTION_FEATURES], &self.device);
            let places = places(context.cache);
            let mut flowing = Flowing::of(context.tokens, self.flowing.take(&places));
            context.tokens = flowing.tokens.clone();
            let velocity = |step, x, time, observer: &mut dyn Observer<B>| {
                (self.network.expert).velocity(step, x, time, &context, flowing.repetition.as_mut(), observer)
            };
            let x = flow.integrate(x, observer, velocity);
            let values = download(x, "reading actions")?;
            self.flowing.keep(places, flowing);
            let (actions, _) = values.as_chunks::<ACTION_FEATURES>();
            Ok(actions.chunks_exact(waypoints).map(<[_]>::to_vec).collect())
        })
    }

    /// One evaluation of the velocity: `x` `[rows, waypoints, 2]`, row-major, at flow time `time` → the same shape.
    ///
    /// # Errors
    /// Where `x` has the wrong size, or the device fails.
    pub fn velocity(&self, generation: &Generation<B>, x: &[f32], time: f32) -> Result<Vec<f32>> {
        let rows = generation.tokens.len() * self.config.action_space.n_waypoints;
        check_values("x", x, rows * ACTION_FEATURES)?;
        on_device::<B, _>("flow", &self.device, || {
            let context = self.expert_context(generation)?;
            let x = upload(x.to_vec(), [rows, ACTION_FEATURES], &self.device);
            let v: Tensor<B, 2> = (self.network.expert).velocity(0, x, time, &context, &mut Anew, &mut ());
            download(v, "reading velocities")
        })
    }

    /// What the expert sees of a generation.
    ///
    /// # Errors
    /// Where the generation's fields don't go together or are another model's, or the device fails.
    pub fn expert_context<'a>(&self, generation: &'a Generation<B>) -> Result<ExpertContext<'a, B>> {
        generation.cache.check(&self.config.text)?;
        let waypoints = self.config.action_space.n_waypoints as i64;
        let first = generation.action_positions()?.into_iter();
        let positions = first.flat_map(|first| (0..waypoints).map(move |waypoint| [first.saturating_add(waypoint); 3]));
        guard("flow", || {
            let lengths = generation.suffix_lengths();
            let longest = lengths.iter().copied().max().unwrap_or(0);
            let longest = longest.next_multiple_of(ALIKE).min(generation.cache.suffix_capacity());
            Ok(ExpertContext {
                cache: &generation.cache,
                tokens: ActionTokens {
                    suffix_lengths: RowLengths::within(longest, lengths, &self.device),
                    rotary: self.network.expert.rope.table(positions, &self.device),
                },
            })
        })
    }

    /// Actions of every row → trajectories in metres; `clips` give the histories, rows are ordered clip first.
    ///
    /// # Errors
    /// Where the rows don't divide among the clips, or a trajectory is not finite.
    pub fn trajectories(&self, clips: &[Clip], actions: &[Vec<[f32; 2]>]) -> Result<Vec<Trajectory>> {
        let histories: Vec<EgoHistory> = clips.iter().map(EgoHistory::from).collect();
        self.trajectories_from(&histories, actions)
    }

    /// As [`trajectories`](Self::trajectories), from histories that are not the clips' own.
    ///
    /// # Errors
    /// As those of [`trajectories`](Self::trajectories).
    pub fn trajectories_from(&self, histories: &[EgoHistory], actions: &[Vec<[f32; 2]>]) -> Result<Vec<Trajectory>> {
        if histories.is_empty() || !actions.len().is_multiple_of(histories.len()) {
            return Err(Error::Argument {
                argument: "actions",
                reason: format!("{} rows don't divide among {} clips", actions.len(), histories.len()),
            });
        }
        let samples = actions.len() / histories.len();
        let mut trajectories = Vec::with_capacity(actions.len());
        for (history, rows) in histories.iter().zip(actions.chunks(samples.max(1))) {
            let v0 = self.action_space.estimate_v0(&history.xyz, &history.rot)?;
            let z = history.xyz.last().map_or(0.0, |position| position[2]);
            for row in rows {
                trajectories.push(self.action_space.roll_out(row, v0, z)?);
            }
        }
        Ok(trajectories)
    }

    fn noise(&self, rows: usize, options: &DriveOptions) -> Result<Vec<f32>> {
        let count = self.config.action_space.n_waypoints * ACTION_FEATURES;
        match &options.noise {
            Some(noise) => {
                check_values("noise", noise, rows * count)?;
                Ok(noise.clone())
            }
            None => Ok((0..rows as u64)
                .flat_map(|row| flow_noise(options.seed, row, count))
                .collect()),
        }
    }
}

fn check_values(argument: &'static str, values: &[f32], expected: usize) -> Result<()> {
    if values.len() != expected {
        let reason = format!(
            "{} values where rows · waypoints · 2 = {expected} are needed",
            values.len()
        );
        return Err(Error::Argument { argument, reason });
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        let reason = format!("{value} is no number that the flow can start from");
        return Err(Error::Argument { argument, reason });
    }
    Ok(())
}
