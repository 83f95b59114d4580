//! A golden case: a small checkpoint, inputs, and every stage's outputs.

use std::collections::BTreeMap;
use std::path::Path;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_core::{Clip, Frame, PromptBuilder, PromptStyle};
use alpamayo_models::pipeline::{Generation, Inputs, Prefilled};
use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};
use serde::Deserialize;

use super::compare::{Comparison, Report, Tolerance};
use super::golden::{Golden, Values};
use super::recorder::{Recorder, host};
use super::{Result, rotation};

/// Golden tensors that go in.
const INPUTS: [&str; 4] = ["in.frames", "in.ego_history_xyz", "in.ego_history_rot", "flow.noise"];

/// How a case is run.
#[derive(Debug, Clone, Copy)]
pub struct CaseSettings {
    /// How weights are stored; the backend's choice where not given.
    pub weight_format: Option<WeightFormat>,
    /// How the cache is stored; the backend's choice where not given.
    pub cache_format: Option<CacheFormat>,
    /// The largest relative L2 error that passes.
    pub tolerance: Tolerance,
}

/// What `case.json` says beyond the checkpoint.
#[derive(Debug, Deserialize)]
struct CaseDescription {
    batch: usize,
    num_cameras: usize,
    frames_per_camera: usize,
    num_traj_samples: usize,
    max_generation_length: usize,
    flow_steps: usize,
}

/// Runs every stage of the case in `directory` and compares every golden tensor.
///
/// # Errors
/// When the case can't be read, the model can't be run, or the case holds a tensor that is not known here.
pub fn run_case<B: ModelBackend>(directory: &Path, settings: CaseSettings, device: &B::Device) -> Result<Report> {
    let goldens = Golden::read(&directory.join("golden.safetensors"))?;
    let description = directory.join("case.json");
    let text = std::fs::read_to_string(&description).map_err(|error| format!("{}: {error}", description.display()))?;
    let case: CaseDescription =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", description.display()))?;
    let load = LoadOptions {
        weight_format: settings.weight_format,
        cache_format: settings.cache_format,
        ..LoadOptions::default()
    };
    let model = Alpamayo::<B>::load(directory.join("checkpoint"), device, load)?;
    let run = Run::new(&model, &case, &goldens)?;
    let actual = run.tensors(&goldens)?;
    let mut report = Report::default();
    for (name, golden) in &goldens {
        if INPUTS.contains(&name.as_str()) {
            continue;
        }
        let values = actual
            .get(name)
            .ok_or_else(|| format!("golden tensor {name} is not known"))?;
        let mask = run.mask(name, golden);
        report.comparisons.push(Comparison::new(
            name,
            golden,
            values,
            mask.as_deref(),
            settings.tolerance,
        ));
    }
    Ok(report)
}

/// One run of all stages.
struct Run<'a, B: ModelBackend> {
    model: &'a Alpamayo<B>,
    case: &'a CaseDescription,
    clips: Vec<Clip>,
    inputs: Inputs,
    prefilled: Prefilled<B>,
    generation: Generation<B>,
    actions: Vec<Vec<[f32; 2]>>,
    recorder: Recorder,
}

impl<'a, B: ModelBackend> Run<'a, B> {
    fn new(model: &'a Alpamayo<B>, case: &'a CaseDescription, goldens: &BTreeMap<String, Golden>) -> Result<Self> {
        let clips = clips(case, goldens)?;
        let mut recorder = Recorder::default();
        let options = DriveOptions {
            samples: case.num_traj_samples,
            max_generation_length: Some(case.max_generation_length),
            flow_steps: Some(case.flow_steps),
            noise: Some(golden(goldens, "flow.noise")?.floats()),
            ..DriveOptions::greedy()
        };
        let inputs = model.preprocess(&clips, &PromptStyle::R1)?;
        let features = model.encode(&inputs.patches, &mut recorder)?;
        let prefilled = model.prefill(&inputs.prompts, &features, &mut recorder)?;
        let generation = model.generate(&prefilled, &options, &mut recorder)?;
        let actions = model.flow(&generation, &options, &mut recorder)?;
        Ok(Self {
            model,
            case,
            clips,
            inputs,
            prefilled,
            generation,
            actions,
            recorder,
        })
    }

    /// Everything that a case may hold, by its golden name.
    fn tensors(&self, goldens: &BTreeMap<String, Golden>) -> Result<BTreeMap<String, Values>> {
        let mut tensors: BTreeMap<String, Values> = BTreeMap::new();
        for (name, values) in &self.recorder.tensors {
            tensors.insert(name.clone(), Values::Float(values.clone()));
        }
        self.preprocessing(&mut tensors)?;
        self.cache(&mut tensors);
        self.generated(&mut tensors);
        self.expert(&mut tensors)?;
        self.results(&mut tensors)?;
        tensors.insert(
            "flow.v".into(),
            Values::Float(self.velocities(golden(goldens, "flow.x")?)?),
        );
        Ok(tensors)
    }

    fn preprocessing(&self, tensors: &mut BTreeMap<String, Values>) -> Result<()> {
        let prompts = &self.inputs.prompts;
        let mut insert = |name: &str, values| tensors.insert(name.into(), values);
        insert("pre.pixel_values", floats(self.inputs.patches.normalized()));
        let grid = self.inputs.patches.grid_thw.iter().flatten();
        insert(
            "pre.image_grid_thw",
            Values::Integer(grid.map(|&extent| extent as i64).collect()),
        );
        insert(
            "pre.fused_input_ids",
            ids(prompts.iter().flat_map(|prompt| &prompt.ids)),
        );
        let unfused = self.unfused_ids()?;
        insert("pre.input_ids", ids(unfused.iter().flatten()));
        let axis = |axis: usize| {
            prompts
                .iter()
                .flat_map(move |prompt| prompt.positions.ids.iter().map(move |id| id[axis]))
        };
        insert("pre.position_ids", Values::Integer((0..3).flat_map(axis).collect()));
        insert("pre.rope_deltas", Values::Integer(self.prefilled.rope_deltas.clone()));
        Ok(())
    }

    /// Prompts before the history takes the place of its tokens.
    fn unfused_ids(&self) -> Result<Vec<Vec<u32>>> {
        let builder = PromptBuilder::new(self.model.tokenizer()?, self.model.config());
        let mut tokens = self.inputs.patches.tokens_per_image().into_iter();
        let mut ids = Vec::with_capacity(self.clips.len());
        for clip in &self.clips {
            let tokens: Vec<usize> = tokens.by_ref().take(clip.frames.len()).collect();
            ids.push(builder.build(&tokens, &clip.camera_indices, &PromptStyle::R1)?);
        }
        Ok(ids)
    }

    fn cache(&self, tensors: &mut BTreeMap<String, Values>) {
        for (index, layer) in self.prefilled.cache.layers.iter().enumerate() {
            tensors.insert(format!("cache.{index}.key"), Values::Float(host(&layer.prompt.key)));
            tensors.insert(format!("cache.{index}.value"), Values::Float(host(&layer.prompt.value)));
        }
    }

    fn generated(&self, tensors: &mut BTreeMap<String, Values>) {
        let tokens = &self.generation.tokens;
        let sequences = tokens.iter().enumerate().flat_map(|(row, tokens)| {
            let prompt = &self.inputs.prompts[row / self.case.num_traj_samples].ids;
            prompt.iter().chain(tokens).map(|&id| i64::from(id)).collect::<Vec<_>>()
        });
        tensors.insert("gen.raw_sequences".into(), Values::Integer(sequences.collect()));
        let rows = tokens.len();
        let row = |row: usize| {
            self.recorder.step_logits.iter().flat_map(move |step| {
                let vocabulary = step.len() / rows;
                step[row * vocabulary..(row + 1) * vocabulary]
                    .iter()
                    .map(|&logit| f64::from(logit))
            })
        };
        tensors.insert(
            "gen.step_logits".into(),
            Values::Float((0..rows).flat_map(row).collect()),
        );
    }

    fn expert(&self, tensors: &mut BTreeMap<String, Values>) -> Result<()> {
        let waypoints = self.waypoints();
        let positions: Vec<i64> = (self.generation.action_positions()?.iter())
            .flat_map(|&first| (0..waypoints as i64).map(move |waypoint| first + waypoint))
            .collect();
        tensors.insert("expert.position_ids".into(), Values::Integer(positions.repeat(3)));
        let prompt = self.prefilled.cache.prompt_length();
        let generated = self.generation.tokens.first().map_or(0, Vec::len);
        let cached = prompt + generated.saturating_sub(1);
        let mut mask = Vec::new();
        for length in self.generation.suffix_lengths() {
            let row = (0..cached + waypoints).map(|index| {
                if (prompt + length..cached).contains(&index) {
                    f64::from(f32::MIN)
                } else {
                    0.0
                }
            });
            mask.extend(row.collect::<Vec<_>>().repeat(waypoints));
        }
        tensors.insert("expert.attention_mask".into(), Values::Float(mask));
        Ok(())
    }

    fn results(&self, tensors: &mut BTreeMap<String, Values>) -> Result<()> {
        let actions = self.actions.iter().flatten().flatten().copied().collect();
        tensors.insert("flow.action".into(), floats(actions));
        let trajectories = self.model.trajectories(&self.clips, &self.actions)?;
        let xyz = trajectories
            .iter()
            .flat_map(|trajectory| trajectory.xyz())
            .flatten()
            .copied()
            .collect();
        tensors.insert("out.pred_xyz".into(), floats(xyz));
        let rot = trajectories
            .iter()
            .flat_map(|trajectory| trajectory.rot())
            .flatten()
            .flatten()
            .copied()
            .collect();
        tensors.insert("out.pred_rot".into(), floats(rot));
        Ok(())
    }

    /// The velocity at every step from the golden state before it: errors don't add up from step to step.
    fn velocities(&self, states: &Golden) -> Result<Vec<f64>> {
        let times = alpamayo_models::flow::EulerFlow::new(self.case.flow_steps)?;
        let states = states.floats();
        let size = states.len() / self.case.flow_steps;
        let mut velocities = Vec::with_capacity(states.len());
        for (state, &time) in states.chunks_exact(size).zip(times.times()) {
            let velocity = self.model.velocity(&self.generation, state, time)?;
            velocities.extend(velocity.into_iter().map(f64::from));
        }
        Ok(velocities)
    }

    fn waypoints(&self) -> usize {
        self.model.config().action_space.n_waypoints
    }

    /// Which elements count: of generated rows, those up to one token past the stop.
    fn mask(&self, name: &str, golden: &Golden) -> Option<Vec<bool>> {
        let (before, width) = match (name, golden.shape.as_slice()) {
            ("gen.raw_sequences", _) => (self.prefilled.cache.prompt_length(), 1),
            ("gen.step_logits", [_, _, vocabulary]) => (0, *vocabulary),
            _ => return None,
        };
        let length = golden.shape.get(1).copied().unwrap_or(0);
        let visible = |stop: &alpamayo_core::StopPosition| before + stop.index + 2;
        let row = |stop| (0..length).flat_map(move |index| std::iter::repeat_n(index < visible(stop), width));
        Some(self.generation.stops.iter().flat_map(row).collect())
    }
}

fn golden<'a>(goldens: &'a BTreeMap<String, Golden>, name: &str) -> Result<&'a Golden> {
    Ok(goldens
        .get(name)
        .ok_or_else(|| format!("the case has no tensor {name}"))?)
}

fn floats(values: Vec<f32>) -> Values {
    Values::Float(values.into_iter().map(f64::from).collect())
}

fn ids<'a>(ids: impl Iterator<Item = &'a u32>) -> Values {
    Values::Integer(ids.map(|&id| i64::from(id)).collect())
}

/// The case's inputs as clips.
fn clips(case: &CaseDescription, goldens: &BTreeMap<String, Golden>) -> Result<Vec<Clip>> {
    let frames = golden(goldens, "in.frames")?;
    let [batch, images, _, height, width] = frames.shape[..] else {
        return Err(format!("in.frames is {:?}, not [clips, images, 3, height, width]", frames.shape).into());
    };
    if batch != case.batch || images != case.num_cameras * case.frames_per_camera {
        return Err("in.frames and case.json differ in clips, cameras or frames".into());
    }
    let bytes = frames.bytes();
    let xyz = golden(goldens, "in.ego_history_xyz")?.floats();
    let rot = golden(goldens, "in.ego_history_rot")?.floats();
    let (xyz_length, rot_length) = (xyz.len() / batch, rot.len() / batch);
    let mut clips = Vec::with_capacity(batch);
    for index in 0..batch {
        let planar = bytes[index * images * 3 * height * width..]
            .chunks_exact(3 * height * width)
            .take(images);
        let frames = planar
            .map(|image| Frame::from_planar(width, height, image))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let xyz = &xyz[index * xyz_length..(index + 1) * xyz_length];
        let rot = &rot[index * rot_length..(index + 1) * rot_length];
        clips.push(Clip {
            name: format!("clip {index}"),
            frames,
            camera_indices: (0..case.num_cameras).collect(),
            frames_per_camera: case.frames_per_camera,
            ego_history_xyz: xyz.as_chunks::<3>().0.to_vec(),
            ego_history_rot: rot.as_chunks::<9>().0.iter().map(rotation).collect(),
            ..Clip::default()
        });
    }
    Ok(clips)
}
