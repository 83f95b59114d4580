//! What doesn't fit together is refused with an error that names it, before anything is computed from it.

use alpamayo_backends::instances::Flex;
use alpamayo_core::PromptStyle;
use burn::tensor::Tensor;

use super::stages::greedy;
use crate::error::Error;
use crate::pipeline::{Alpamayo, DriveOptions, Generation, Inputs, Prefilled, Prompt};
use crate::test_data::{Device, Golden};
use crate::vision::VisionFeatures;

/// The argument that an error names; another error's text.
fn argument<T>(result: Result<T, Error>) -> String {
    match result.err().expect("it was accepted") {
        Error::Argument { argument, .. } => argument.to_owned(),
        other => other.to_string(),
    }
}

/// A model with what its stages make of a case.
struct Run {
    golden: Golden,
    model: Alpamayo<Flex>,
    inputs: Inputs,
    features: VisionFeatures<Flex>,
    prefilled: Prefilled<Flex>,
}

impl Run {
    fn new(case: &str) -> Self {
        let golden = Golden::read(case);
        let model = golden.model();
        let inputs = model.preprocess(&golden.clips(), &PromptStyle::R1).unwrap();
        let features = model.encode(&inputs.patches, &mut ()).unwrap();
        let prefilled = model.prefill(&inputs.prompts, &features, &mut ()).unwrap();
        Self {
            golden,
            model,
            inputs,
            features,
            prefilled,
        }
    }

    fn generation(&self) -> Generation<Flex> {
        let options = greedy(&self.golden);
        self.model.generate(&self.prefilled, &options, &mut ()).unwrap()
    }
}

#[test]
fn bad_arguments_are_errors_that_name_them() {
    let golden = Golden::read("base");
    let (model, clips) = (golden.model(), golden.clips());
    let argument = |change: fn(&mut DriveOptions)| {
        let mut options = greedy(&golden);
        change(&mut options);
        match model.drive_batch(&clips, &options).unwrap_err() {
            Error::Argument { argument, .. } => argument.to_owned(),
            other => other.to_string(),
        }
    };
    assert_eq!(argument(|o| o.samples = 0), "samples");
    assert_eq!(argument(|o| o.max_generation_length = Some(0)), "max_generation_length");
    assert_eq!(argument(|o| o.flow_steps = Some(0)), "flow_steps");
    // Lists of these lengths would end the process.
    assert_eq!(argument(|o| o.samples = 1 << 40), "samples");
    assert_eq!(
        argument(|o| o.max_generation_length = Some(1 << 40)),
        "max_generation_length"
    );
    assert_eq!(argument(|o| o.flow_steps = Some(1 << 40)), "flow_steps");
    assert_eq!(argument(|o| o.flow_steps = Some(usize::MAX)), "flow_steps");
    assert_eq!(argument(|o| o.noise = Some(vec![0.0; 3])), "noise");
    assert_eq!(argument(|o| o.noise = Some(vec![f32::NAN; 128])), "noise");
    assert_eq!(argument(|o| o.forced_tokens = vec![vec![1], vec![2]]), "forced_tokens");
    assert_eq!(argument(|o| o.forced_tokens = vec![vec![1_000_000]]), "forced_tokens");
    assert!(argument(|o| (o.top_k, o.temperature) = (None, -1.0)).contains("temperature"));
    assert!(matches!(
        model.drive_batch(&[], &greedy(&golden)),
        Err(Error::Argument { argument: "clips", .. })
    ));
}

#[test]
fn prompts_must_be_sound() {
    let run = Run::new("base");
    let refused = |change: &dyn Fn(&mut Prompt)| {
        let mut prompt = run.inputs.prompts[0].clone();
        change(&mut prompt);
        argument(run.model.prefill(&[prompt], &run.features, &mut ()))
    };
    let images = run.inputs.prompts[0].image_rows.len();
    let text = (0..)
        .find(|row| !run.inputs.prompts[0].image_rows.contains(row))
        .unwrap();
    assert_eq!(argument(run.model.prefill(&[], &run.features, &mut ())), "prompts");
    assert_eq!(refused(&|prompt| prompt.positions.ids.truncate(3)), "prompts");
    assert_eq!(refused(&|prompt| prompt.positions.ids.push([0; 3])), "prompts");
    assert_eq!(
        refused(&|prompt| prompt.image_rows[images - 1] = prompt.ids.len()),
        "prompts"
    );
    assert_eq!(
        refused(&|prompt| prompt.image_rows[1] = prompt.image_rows[0]),
        "prompts"
    );
    assert_eq!(refused(&|prompt| prompt.ids[text] = u32::MAX), "prompts");
    // Ids of image tokens hold places only.
    let mut prompt = run.inputs.prompts[0].clone();
    let row = prompt.image_rows[0];
    prompt.ids[row] = u32::MAX;
    run.model.prefill(&[prompt], &run.features, &mut ()).unwrap();
    let mut longer = run.inputs.prompts[0].clone();
    longer.ids.push(1);
    longer.positions.ids.push([0; 3]);
    let different = [run.inputs.prompts[0].clone(), longer];
    assert_eq!(
        argument(run.model.prefill(&different, &run.features, &mut ())),
        "prompts"
    );
}

#[test]
fn features_must_fit_the_prompts_and_the_model() {
    let run = Run::new("base");
    let refused = |change: &dyn Fn(&mut VisionFeatures<Flex>)| {
        let mut features = run.features.clone();
        change(&mut features);
        argument(run.model.prefill(&run.inputs.prompts, &features, &mut ()))
    };
    let [tokens, hidden] = run.features.tokens.dims();
    let narrow = |x: &Tensor<Flex, 2>, dim, length| x.clone().narrow(dim, 0, length);
    assert_eq!(
        refused(&|features| *features = features.images(0..2).unwrap()),
        "features"
    );
    assert_eq!(
        refused(&|features| features.tokens = narrow(&features.tokens, 1, hidden - 1)),
        "features"
    );
    assert_eq!(
        refused(&|features| features.deepstack[0] = narrow(&features.deepstack[0], 0, tokens - 1)),
        "features"
    );
    assert_eq!(refused(&|features| features.deepstack.clear()), "features");
    let mut patches = run.inputs.patches.clone();
    patches.pixels.pop();
    assert_eq!(argument(run.model.encode(&patches, &mut ())), "patches");
    patches.grid_thw[0] = [usize::MAX; 3];
    assert_eq!(argument(run.model.encode(&patches, &mut ())), "patches");
}

#[test]
fn a_generation_must_go_with_its_cache() {
    let run = Run::new("batch-ragged-eos");
    let refused = |change: &dyn Fn(&mut Generation<Flex>), name: &str| {
        let mut generation = run.generation();
        change(&mut generation);
        let options = greedy(&run.golden);
        assert_eq!(argument(run.model.reasoning(&generation)), name);
        assert_eq!(argument(generation.action_positions()), name);
        refused_by_the_expert(&run.model, &generation, &options, name);
    };
    refused(
        &|generation| generation.stops[0].index = generation.tokens[0].len(),
        "generation",
    );
    refused(&|generation| generation.stops.truncate(1), "generation");
    refused(&|generation| generation.tokens[1].clear(), "generation");
    refused(&|generation| generation.tokens[0].extend([1; 1000]), "generation");
    refused(&|generation| generation.rope_deltas.clear(), "generation");
    // What the tokens don't show, the expert's kernels would.
    let mut generation = run.generation();
    generation.cache.layers.pop();
    refused_by_the_expert(&run.model, &generation, &greedy(&run.golden), "cache");
    let mut generation = run.generation();
    let value = generation.cache.layers[1].suffix.value.clone();
    generation.cache.layers[1].suffix.value = value.narrow(2, 0, 1);
    refused_by_the_expert(&run.model, &generation, &greedy(&run.golden), "cache");
    // Positions that no token has are far away, not a panic.
    let mut generation = run.generation();
    generation.rope_deltas = vec![i64::MAX; 2];
    assert_eq!(generation.action_positions().unwrap(), [i64::MAX; 2]);
}

fn refused_by_the_expert(model: &Alpamayo<Flex>, generation: &Generation<Flex>, options: &DriveOptions, name: &str) {
    assert_eq!(argument(model.expert_context(generation)), name);
    assert_eq!(argument(model.flow(generation, options, &mut ())), name);
}

#[test]
fn what_is_generated_from_must_be_this_models() {
    let run = Run::new("base");
    let refused = |change: &dyn Fn(&mut Prefilled<Flex>)| {
        let mut prefilled = run.prefilled.clone();
        change(&mut prefilled);
        argument(run.model.generate(&prefilled, &greedy(&run.golden), &mut ()))
    };
    assert_eq!(refused(&|prefilled| prefilled.rope_deltas.clear()), "prefilled");
    assert_eq!(
        refused(&|prefilled| prefilled.logits = Tensor::zeros([1, 3], &Device::default())),
        "prefilled"
    );
    assert_eq!(refused(&|prefilled| prefilled.cache.layers.clear()), "cache");
}

#[test]
fn every_prompt_has_its_clip() {
    let run = Run::new("batch-ragged-eos");
    let clips = run.golden.clips();
    let drive = |clips| {
        run.model
            .drive_inputs(&run.inputs, clips, &greedy(&run.golden), &mut ())
    };
    assert_eq!(argument(drive(&clips[..1])), "clips");
    assert_eq!(argument(drive(&[])), "clips");
    assert_eq!(drive(&clips).unwrap().len(), 2);
}

#[test]
fn actions_beyond_the_vehicle_are_warned_of() {
    let golden = Golden::read("base");
    let (model, options) = (golden.model(), greedy(&golden));
    let count = golden.f32("flow.noise").len();
    let drive = |noise| {
        let options = DriveOptions {
            noise: Some(noise),
            ..options.clone()
        };
        model.drive_batch(&golden.clips(), &options).unwrap().remove(0).warnings
    };
    let bounds = |warnings: &[String]| warnings.iter().filter(|warning| warning.contains("bounds")).count();
    assert_eq!(bounds(&drive(vec![0.0; count])), 0);
    // The steps of the flow can't bring this back.
    assert_eq!(bounds(&drive(vec![1e4; count])), 1);
}
