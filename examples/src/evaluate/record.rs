//! What is kept of a clip.

use std::time::Duration;

use alpamayo_core::clip::Clip;
use alpamayo_core::metrics::{Comfort, ComfortLimits, Spread, comfort, spread};
use alpamayo_core::{Trajectory, UnicycleActionSpace};
use alpamayo_models::{DriveOptions, Plan};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checkpoint::CheckpointId;
use super::measures::Measures;
use crate::cli::{ModelArguments, SamplingArguments};
use crate::error::Result;
use crate::figure::Track;
use crate::run::BoxedError;

/// What the results of a run depend on, in every line of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
    /// The checkpoint, with the backbone's configuration and the tokenizer.
    pub checkpoint: CheckpointId,
    /// The backend's name, without the number of its device.
    pub backend: String,
    /// How weights are stored, where that was chosen.
    pub weights: Option<String>,
    /// How the cache is stored, where that was chosen.
    pub cache: Option<String>,
    /// The seed from which every clip's is made.
    pub seed: u64,
    /// Rows per clip.
    pub samples: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// How many of the likeliest tokens are drawn from.
    pub top_k: Option<usize>,
    /// Nucleus sampling's probability.
    pub top_p: f64,
    /// Most tokens of reasoning.
    pub max_generation_length: usize,
    /// Flow steps, where they are not the checkpoint's.
    pub flow_steps: Option<usize>,
    /// Indices of the cameras that are taken from a dataset.
    pub cameras: Option<Vec<usize>>,
    /// Frames per camera that are taken from a dataset.
    pub frames: Option<usize>,
}

impl Options {
    /// What was asked for on the command line.
    ///
    /// # Errors
    /// Those of [`CheckpointId::of`].
    pub fn new(model: &ModelArguments, sampling: &SamplingArguments) -> Result<Self> {
        let name = |value: Option<String>| value.map(|name| name.to_lowercase());
        let backend = &model.backend;
        Ok(Self {
            checkpoint: CheckpointId::of(model)?,
            backend: backend.backend.kind.name().to_owned(),
            weights: name(backend.weights.map(|weights| format!("{weights:?}"))),
            cache: name(backend.cache.map(|cache| format!("{cache:?}"))),
            seed: sampling.seed,
            samples: sampling.samples,
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            max_generation_length: sampling.max_generation_length,
            flow_steps: sampling.flow_steps,
            cameras: None,
            frames: None,
        })
    }
}

/// Options as a page shows them: those that were chosen, `samples 6, seed 42`.
pub(crate) fn options_in_words(options: &Value) -> String {
    let chosen = options.as_object().into_iter().flatten();
    let words = chosen.filter(|(_, value)| !value.is_null()).map(|(name, value)| {
        let value = match value {
            Value::Object(parts) => parts.values().map(in_words).collect::<Vec<_>>().join(" "),
            value => in_words(value),
        };
        format!("{} {value}", name.replace('_', " "))
    });
    words.collect::<Vec<_>>().join(", ")
}

fn in_words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One sample of a clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// The chain of causation.
    pub reasoning: String,
    /// Whether the reasoning ended before the limit.
    pub stopped: bool,
    /// Positions `[64][x, y, z]` at t0 + 0.1 s … t0 + 6.4 s, metres, ego frame at t0.
    pub xyz: Vec<[f32; 3]>,
    /// Headings `[64]`, radians.
    pub yaw: Vec<f32>,
    /// The trajectory's extremes.
    pub comfort: Comfort,
    /// Whether they are within nuPlan's bounds.
    pub comfortable: bool,
}

impl SampleRecord {
    /// The poses as they were planned.
    pub fn trajectory(&self) -> Trajectory {
        Trajectory::from_yaws(self.xyz.clone(), self.yaw.iter().copied())
    }
}

/// Milliseconds per stage, of all samples together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Reading and decoding the clip; while the clip before was driven.
    pub read: f64,
    /// Frames to patches, prompt to tokens; while the clip before was driven.
    pub preprocess: f64,
    /// The vision tower.
    pub encode: f64,
    /// The prompt through the decoder.
    pub prefill: f64,
    /// The chain of causation.
    pub generate: f64,
    /// Flow matching.
    pub flow: f64,
    /// Actions to trajectories, ids to text.
    pub postprocess: f64,
}

impl Times {
    /// The stages' names and times.
    pub fn stages(&self) -> [(&'static str, f64); 7] {
        [
            ("read", self.read),
            ("preprocess", self.preprocess),
            ("encode", self.encode),
            ("prefill", self.prefill),
            ("generate", self.generate),
            ("flow", self.flow),
            ("postprocess", self.postprocess),
        ]
    }

    /// From the model's first stage to its last.
    pub fn drive(&self) -> f64 {
        self.stages().iter().skip(1).map(|(_, time)| time).sum()
    }
}

/// One clip of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipRecord {
    /// The clip's name.
    pub name: String,
    /// Where it is: its folder, or its id in the dataset.
    pub source: String,
    /// The time of the plan on the recording's clock, µs.
    pub t0_us: Option<i64>,
    /// The seed of its draws: `drive --seed` with it gives the same.
    pub seed: u64,
    /// The samples.
    pub samples: Vec<SampleRecord>,
    /// How far the samples are apart.
    pub spread: Spread,
    /// Where the car went, positions `[64][x, y, z]`.
    pub truth: Option<Vec<[f32; 3]>>,
    /// Whether what the car did is within the bounds of comfort.
    pub truth_comfortable: Option<bool>,
    /// The plans and the baseline against that.
    pub measures: Option<Measures>,
    /// The sentence that a person wrote.
    pub coc: Option<String>,
    /// Times per stage.
    pub times_ms: Times,
    /// Tokens generated per row.
    pub generated_tokens: usize,
    /// What a user should know.
    pub warnings: Vec<String>,
}

/// A clip and how it was driven.
pub struct Driven<'a> {
    /// The clip.
    pub clip: &'a Clip,
    /// Where it came from.
    pub source: String,
    /// How it was driven.
    pub options: &'a DriveOptions,
    /// What came out.
    pub plan: &'a Plan,
    /// How long reading and preprocessing took.
    pub before: [Duration; 2],
}

impl ClipRecord {
    /// Measures a drive.
    ///
    /// # Errors
    /// Where the plan and the clip's future differ in length, or the history gives no speed.
    pub fn new(driven: &Driven<'_>, space: &UnicycleActionSpace<f32>) -> Result<Self, BoxedError> {
        let (clip, plan) = (driven.clip, driven.plan);
        let dt = space.dt();
        let samples = plan.trajectories.iter().zip(&plan.reasoning).zip(&plan.stopped);
        let samples: Result<Vec<SampleRecord>, BoxedError> = samples
            .map(|((trajectory, reasoning), &stopped)| sample(trajectory, reasoning, stopped, dt))
            .collect();
        let positions: Vec<&[[f32; 3]]> = plan.trajectories.iter().map(Trajectory::xyz).collect();
        let truth = truth(clip);
        let is_comfortable = |truth| comfort(truth, dt).map(|found| found.is_within(&ComfortLimits::default()));
        Ok(Self {
            name: clip.name.clone(),
            source: driven.source.clone(),
            t0_us: clip.t0_us,
            seed: driven.options.seed,
            samples: samples?,
            spread: spread(&positions)?,
            truth_comfortable: truth.as_ref().map(is_comfortable).transpose()?,
            measures: truth
                .as_ref()
                .map(|truth| Measures::new(clip, &plan.trajectories, truth, space))
                .transpose()?,
            truth: truth.map(|truth| truth.xyz),
            coc: clip.coc.clone(),
            times_ms: times(plan, driven.before),
            generated_tokens: plan.timings.generated_tokens,
            warnings: plan.warnings.clone(),
        })
    }

    /// The sample closest to what happened, the first where that is not known.
    pub fn best_sample(&self) -> usize {
        self.measures.as_ref().map_or(0, |measures| measures.best_sample)
    }

    /// The reasoning of that sample.
    pub fn reasoning(&self) -> &str {
        self.samples
            .get(self.best_sample())
            .map_or("", |sample| &sample.reasoning)
    }
}

/// Where the car went; without rotations in the clip, the headings are those of the displacements.
fn truth(clip: &Clip) -> Option<Trajectory> {
    let xyz = clip.ego_future_xyz.clone()?;
    let Some(rot) = clip.ego_future_rot.clone() else {
        let headings = Track::new(&xyz, &[])
            .headings()
            .into_iter()
            .map(|heading| heading as f32);
        return Some(Trajectory::from_yaws(xyz, headings));
    };
    Some(Trajectory { xyz, rot })
}

fn sample(trajectory: &Trajectory, reasoning: &str, stopped: bool, dt: f64) -> Result<SampleRecord, BoxedError> {
    let comfort = comfort(trajectory, dt)?;
    Ok(SampleRecord {
        reasoning: reasoning.to_owned(),
        stopped,
        xyz: trajectory.xyz.clone(),
        yaw: trajectory.yaw(),
        comfortable: comfort.is_within(&ComfortLimits::default()),
        comfort,
    })
}

fn times(plan: &Plan, [read, preprocess]: [Duration; 2]) -> Times {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let timings = &plan.timings;
    Times {
        read: milliseconds(read),
        preprocess: milliseconds(preprocess),
        encode: milliseconds(timings.encode),
        prefill: milliseconds(timings.prefill),
        generate: milliseconds(timings.generate),
        flow: milliseconds(timings.flow),
        postprocess: milliseconds(timings.postprocess),
    }
}
