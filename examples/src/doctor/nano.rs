//! The trained miniature on the bundled clips, against what the reference computes of them.

use std::path::Path;
use std::time::Duration;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_core::{Clip, metrics};
use alpamayo_models::{Alpamayo, DriveOptions, Event, LoadOptions, Observer};
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::cli::{BUNDLED_CLIPS, bundled};

/// Rows of the timed drives.
const SAMPLES: usize = 6;

/// How far from the reference's a plan may be in full precision, metres.
const FULL_PRECISION: f64 = 1e-3;

/// The relative error of a plan that arithmetic in bf16 explains: what one rounding may change, 2^-9.
const BF16_PRECISION: f64 = 1.0 / 512.0;

/// The miniature's plans and how long they took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NanoRun {
    /// How the cache's keys and values are stored: in bf16 where stages are computed in it too.
    pub cache: String,
    /// Greedy plans from the reference's noise.
    pub clips: Vec<ClipParity>,
    /// What six samples give, where repetitions were asked for.
    pub six_samples: Option<SixSamples>,
}

/// Drives with six samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SixSamples {
    /// Mean minADE over the clips, metres.
    pub mean_min_ade: f64,
    /// Milliseconds of a drive: the median of the repetitions.
    pub median_ms: StageTimes,
}

/// A plan against the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClipParity {
    /// The clip.
    pub clip: String,
    /// Whether the reasoning is the same, word by word.
    pub text_equal: bool,
    /// Relative L2 error of the first token's logits.
    pub logits_error: f64,
    /// Relative L2 error of the positions.
    pub trajectory_error: f64,
    /// The largest distance between positions, metres.
    pub worst_metres: f64,
    /// ADE of this plan against what happened, metres.
    pub ade: f64,
    /// ADE of the reference's plan, metres.
    pub reference_ade: f64,
}

/// Milliseconds per stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTimes {
    /// Frames to patches, prompt to tokens.
    pub preprocess: f64,
    /// The vision tower.
    pub encode: f64,
    /// The prompt through the decoder.
    pub prefill: f64,
    /// One token of every row.
    pub generate_per_token: f64,
    /// Flow matching, all steps.
    pub flow: f64,
    /// The whole drive.
    pub total: f64,
}

impl NanoRun {
    /// Whether the plans are the reference's, as far as formats let them be: in full precision, with weights of bf16 too, which the
    /// checkpoint is in, to a millimetre; where arithmetic is in bf16, as far as its roundings go; with few bits in their words.
    pub fn passed(&self, weights: &str) -> bool {
        let bf16 = self.cache == CacheFormat::Bf16.name();
        let near = |clip: &ClipParity| match weights {
            "int8" | "int4" => true,
            _ if bf16 => clip.trajectory_error <= BF16_PRECISION,
            _ => clip.worst_metres <= FULL_PRECISION,
        };
        self.clips.iter().all(|clip| clip.text_equal && near(clip))
    }
}

#[derive(Deserialize)]
struct Reference {
    text: String,
    noise: Vec<[f32; 2]>,
    pred_xyz: Vec<[f32; 3]>,
    first_logits: Vec<f32>,
    ade: f64,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Keeps the logits of the first token.
#[derive(Default)]
struct FirstLogits(Vec<f32>);

impl<B: ModelBackend> Observer<B> for FirstLogits {
    fn observe(&mut self, event: Event<'_, B>) {
        if let Event::LastLogits(logits) = event {
            self.0 = logits.to_data().iter::<f32>().collect();
        }
    }
}

/// Drives all clips with the miniature.
pub fn run<B: ModelBackend>(weights: WeightFormat, repetitions: usize, device: &B::Device) -> Outcome<NanoRun> {
    Outcome::of(|| {
        let options = LoadOptions {
            weight_format: Some(weights),
            ..LoadOptions::default()
        };
        let model = Alpamayo::<B>::load(bundled("checkpoint"), device, options)?;
        let clips: Vec<(&str, Clip)> = BUNDLED_CLIPS
            .iter()
            .map(|name| Ok((*name, Clip::read(bundled("clips").join(name))?)))
            .collect::<Result<_, Error>>()?;
        let compared = clips.iter().map(|(name, clip)| compare(&model, name, clip));
        Ok(NanoRun {
            cache: B::default_cache_format(weights, device).name().to_owned(),
            clips: compared.collect::<Result<_, Error>>()?,
            six_samples: match repetitions {
                0 => None,
                _ => Some(six_samples(&model, &clips, repetitions)?),
            },
        })
    })
}

fn compare<B: ModelBackend>(model: &Alpamayo<B>, name: &str, clip: &Clip) -> Result<ClipParity, Error> {
    let reference = Reference::read(&bundled("reference").join(format!("{name}.json")))?;
    let options = DriveOptions {
        noise: Some(reference.noise.concat()),
        max_generation_length: Some(64),
        ..DriveOptions::greedy()
    };
    let mut logits = FirstLogits::default();
    let inputs = model.preprocess(std::slice::from_ref(clip), &options.prompt)?;
    let plans = model.drive_inputs(&inputs, std::slice::from_ref(clip), &options, &mut logits)?;
    let plan = plans.first().ok_or("a clip gives a plan")?;
    let xyz = plan.trajectories[0].xyz();
    let distances = xyz.iter().zip(&reference.pred_xyz).map(|(a, b)| {
        (0..3)
            .map(|axis| f64::from(a[axis] - b[axis]).powi(2))
            .sum::<f64>()
            .sqrt()
    });
    let truth = clip.ego_future_xyz.as_ref().ok_or("the bundled clips have a future")?;
    Ok(ClipParity {
        clip: name.to_owned(),
        text_equal: plan.reasoning[0] == reference.text,
        logits_error: relative_error(&logits.0, &reference.first_logits),
        trajectory_error: relative_error(xyz.as_flattened(), reference.pred_xyz.as_flattened()),
        worst_metres: distances.fold(0.0, f64::max),
        ade: metrics::ade(xyz, truth)?,
        reference_ade: reference.ade,
    })
}

impl Reference {
    fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    }
}

fn relative_error(found: &[f32], reference: &[f32]) -> f64 {
    if found.len() != reference.len() {
        return f64::INFINITY;
    }
    let (mut difference, mut norm) = (0.0, 0.0);
    for (&found, &reference) in found.iter().zip(reference) {
        difference += f64::from(found - reference).powi(2);
        norm += f64::from(reference).powi(2);
    }
    (difference / norm.max(f64::MIN_POSITIVE)).sqrt()
}

fn sampled() -> DriveOptions {
    DriveOptions {
        samples: SAMPLES,
        seed: 7,
        max_generation_length: Some(64),
        ..DriveOptions::default()
    }
}

fn six_samples<B: ModelBackend>(
    model: &Alpamayo<B>,
    clips: &[(&str, Clip)],
    repetitions: usize,
) -> Result<SixSamples, Error> {
    let mut min_ade = 0.0;
    for (_, clip) in clips {
        let plan = model.drive(clip, &sampled())?;
        let truth = clip.ego_future_xyz.as_ref().ok_or("the bundled clips have a future")?;
        let samples: Vec<&[[f32; 3]]> = plan.trajectories.iter().map(|trajectory| trajectory.xyz()).collect();
        min_ade += metrics::min_ade(&samples, truth, 0.1)?.ade;
    }
    Ok(SixSamples {
        mean_min_ade: min_ade / clips.len() as f64,
        median_ms: time(model, repetitions)?,
    })
}

fn time<B: ModelBackend>(model: &Alpamayo<B>, repetitions: usize) -> Result<StageTimes, Error> {
    let clip = Clip::read(bundled("clips/red_light"))?;
    let mut runs = Vec::new();
    for _ in 0..repetitions {
        let times = model.drive(&clip, &sampled())?.timings;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        runs.push(StageTimes {
            preprocess: milliseconds(times.preprocess),
            encode: milliseconds(times.encode),
            prefill: milliseconds(times.prefill),
            generate_per_token: milliseconds(times.generate) / times.generated_tokens.max(1) as f64,
            flow: milliseconds(times.flow),
            total: milliseconds(times.total()),
        });
    }
    let median = |of: fn(&StageTimes) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok(StageTimes {
        preprocess: median(|times| times.preprocess),
        encode: median(|times| times.encode),
        prefill: median(|times| times.prefill),
        generate_per_token: median(|times| times.generate_per_token),
        flow: median(|times| times.flow),
        total: median(|times| times.total),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_may_be_as_far_off_as_its_arithmetic_explains() {
        let run = |cache: CacheFormat, trajectory_error, worst_metres| NanoRun {
            cache: cache.name().to_owned(),
            clips: vec![ClipParity {
                clip: "a clip".into(),
                text_equal: true,
                logits_error: 0.0,
                trajectory_error,
                worst_metres,
                ade: 1.0,
                reference_ade: 1.0,
            }],
            six_samples: None,
        };
        assert!(run(CacheFormat::Bf16, 5e-4, 0.03).passed("bf16"));
        assert!(!run(CacheFormat::Bf16, 5e-3, 0.03).passed("bf16"));
        assert!(!run(CacheFormat::F32, 5e-4, 0.03).passed("bf16"));
        assert!(run(CacheFormat::F32, 1e-6, 1e-4).passed("f32"));
        assert!(!run(CacheFormat::F32, f64::NAN, f64::NAN).passed("f32"));
        assert!(run(CacheFormat::F32, 5e-3, 0.3).passed("int8"));
    }
}
