//! Whole golden cases: every stage of a run from frames to trajectories.

use std::collections::BTreeMap;

use alpamayo_backends::instances::Flex;
use alpamayo_core::PromptStyle;
use burn::tensor::Tensor;

use crate::host::download;
use crate::observer::{Event, Observer};
use crate::pipeline::DriveOptions;
use crate::test_data::{Golden, SINE_TOLERANCE, TOLERANCE, TRAJECTORY_TOLERANCE, relative_l2};

/// Keeps what the stages compute under the golden tensors' names.
#[derive(Default)]
struct Recorder {
    found: BTreeMap<String, Vec<f32>>,
}

impl Recorder {
    fn tensor(&mut self, name: String, tensor: &Tensor<Flex, 2>) {
        let values = download(tensor.clone(), &name).unwrap();
        self.found.entry(name).or_default().extend(values);
    }
}

impl Observer<Flex> for Recorder {
    fn observe(&mut self, event: Event<'_, Flex>) {
        match event {
            Event::PatchEmbedding(x) => self.tensor("vision.patch_embed".into(), x),
            Event::VisionBlock(index, x) => self.tensor(format!("vision.blocks.{index}"), x),
            Event::Deepstack(index, x) => self.tensor(format!("vision.deepstack.{index}"), x),
            Event::Merger(x) => self.tensor("vision.merger".into(), x),
            Event::TextLayer(index, x) => self.tensor(format!("text.layers.{index}"), x),
            Event::TextNorm(x) => self.tensor("text.norm".into(), x),
            Event::LastLogits(x) => self.tensor("text.last_logits".into(), x),
            Event::StepLogits(step, logits) => {
                self.found.insert(format!("gen.step_logits.{step}"), logits.to_vec());
            }
            Event::ActionInProjection(0, x) => self.tensor("expert.action_in_proj".into(), x),
            Event::ExpertHidden(0, x) => self.tensor("expert.last_hidden".into(), x),
            Event::FlowState(_, x) => self.tensor("flow.x".into(), x),
            _ => {}
        }
    }

    fn wants_all(&self) -> bool {
        true
    }
}

fn options(golden: &Golden) -> DriveOptions {
    DriveOptions {
        samples: golden.case("num_traj_samples"),
        max_generation_length: Some(golden.case("max_generation_length")),
        flow_steps: Some(golden.case("flow_steps")),
        noise: Some(golden.f32("flow.noise")),
        ..DriveOptions::greedy()
    }
}

fn tolerance(name: &str) -> f64 {
    if name.starts_with("expert.") {
        SINE_TOLERANCE
    } else {
        TOLERANCE
    }
}

/// Everything that the reference computes of a case from the frames on.
fn check_case(case: &str) {
    let golden = Golden::read(case);
    let (model, clips, options) = (golden.model(), golden.clips(), options(&golden));
    let mut recorder = Recorder::default();

    let inputs = model.preprocess(&clips, &PromptStyle::R1).unwrap();
    let ids: Vec<i64> = inputs
        .prompts
        .iter()
        .flat_map(|prompt| &prompt.ids)
        .map(|&id| id.into())
        .collect();
    assert_eq!(ids, golden.i64("pre.fused_input_ids"));
    let axis = |axis: usize| {
        inputs
            .prompts
            .iter()
            .flat_map(move |prompt| prompt.positions.ids.iter().map(move |p| p[axis]))
    };
    assert_eq!(
        (0..3).flat_map(axis).collect::<Vec<_>>(),
        golden.i64("pre.position_ids")
    );

    let features = model.encode(&inputs.patches, &mut recorder).unwrap();
    let prefilled = model.prefill(&inputs.prompts, &features, &mut recorder).unwrap();
    assert_eq!(prefilled.rope_deltas, golden.i64("pre.rope_deltas"));
    for (index, layer) in prefilled.cache.layers.iter().enumerate() {
        let mut keep = |name: &str, x: &Tensor<Flex, 4>| {
            let values = download(x.clone(), name).unwrap();
            recorder.found.insert(format!("cache.{index}.{name}"), values);
        };
        keep("key", &layer.prompt.key);
        keep("value", &layer.prompt.value);
    }
    let generation = model.generate(&prefilled, &options, &mut recorder).unwrap();
    check_generation(&golden, &generation, &recorder);

    let positions = golden.i64("expert.position_ids");
    let waypoints = positions.len() / 3 / generation.tokens.len();
    let first: Vec<i64> = positions[..positions.len() / 3]
        .chunks(waypoints)
        .map(|row| row[0])
        .collect();
    assert_eq!(generation.action_positions().unwrap(), first);
    let actions = model.flow(&generation, &options, &mut recorder).unwrap();
    let flat = actions.iter().flatten().flatten().copied().collect();
    recorder.found.insert("flow.action".into(), flat);

    let mut compared = 0;
    for (name, found) in &recorder.found {
        if golden.has(name) {
            let error = relative_l2(found, &golden.f32(name));
            println!("{case} {name}: {error:.2e}");
            assert!(error <= tolerance(name), "{case} {name}: {error:e}");
            compared += 1;
        }
    }
    assert_eq!(
        compared,
        golden.network_tensors(),
        "every golden tensor of the network is compared"
    );
    check_velocities(&golden, &model, &generation);
    check_trajectories(&golden, &model.trajectories(&clips, &actions).unwrap());
}

/// Ids and logits of every row up to one token past its stop.
fn check_generation(golden: &Golden, generation: &crate::pipeline::Generation<Flex>, recorder: &Recorder) {
    let shape = golden.shape("gen.step_logits");
    let [rows, steps, vocabulary] = shape[..] else {
        panic!("three extents")
    };
    let (truth, sequences) = (golden.f32("gen.step_logits"), golden.i64("gen.raw_sequences"));
    let length = sequences.len() / rows;
    assert_eq!((generation.tokens.len(), generation.tokens[0].len()), (rows, steps));
    for (row, stop) in generation.stops.iter().enumerate() {
        let compared = (stop.index + 2).min(steps);
        let ids: Vec<i64> = generation.tokens[row].iter().map(|&id| id.into()).collect();
        assert_eq!(
            ids[..compared],
            sequences[(row + 1) * length - steps..][..compared],
            "row {row}"
        );
        for step in 0..compared {
            let found = &recorder.found[&format!("gen.step_logits.{step}")][row * vocabulary..][..vocabulary];
            let truth = &truth[(row * steps + step) * vocabulary..][..vocabulary];
            let error = relative_l2(found, truth);
            assert!(error <= TOLERANCE, "row {row} step {step}: {error:e}");
        }
    }
}

/// The velocity at every step, from the reference's own state: errors in v would grow from step to step otherwise.
fn check_velocities(golden: &Golden, model: &crate::Alpamayo<Flex>, generation: &crate::pipeline::Generation<Flex>) {
    let steps = golden.case("flow_steps");
    let (x, v) = (golden.f32("flow.x"), golden.f32("flow.v"));
    let count = x.len() / steps;
    let flow = crate::flow::EulerFlow::new(steps).unwrap();
    for (step, (x, v)) in x.chunks(count).zip(v.chunks(count)).enumerate() {
        let found = model.velocity(generation, x, flow.times()[step]).unwrap();
        let error = relative_l2(&found, v);
        assert!(error <= SINE_TOLERANCE, "flow.v[{step}]: {error:e}");
    }
}

fn check_trajectories(golden: &Golden, trajectories: &[alpamayo_core::Trajectory]) {
    let xyz: Vec<f32> = trajectories.iter().flat_map(|t| t.xyz()).flatten().copied().collect();
    let rot: Vec<f32> = trajectories
        .iter()
        .flat_map(|t| t.rot())
        .flatten()
        .flatten()
        .copied()
        .collect();
    for (name, found) in [("out.pred_xyz", xyz), ("out.pred_rot", rot)] {
        let error = relative_l2(&found, &golden.f32(name));
        println!("{name}: {error:.2e}");
        assert!(error <= TRAJECTORY_TOLERANCE, "{name}: {error:e}");
    }
}

#[test]
fn base() {
    check_case("base");
}

#[test]
fn two_samples_that_never_stop() {
    check_case("two-samples-no-eos");
}

#[test]
fn two_clips_that_stop_at_different_steps() {
    check_case("batch-ragged-eos");
}
