//! What a device recorded for one plan and repeats in the next ones, against models that have planned nothing before.

use alpamayo_backends::{Device, DeviceVisitor, ModelBackend};
use alpamayo_core::{Clip, PromptStyle};
use alpamayo_examples::cli::{BUNDLED_CLIPS, bundled};
use alpamayo_models::pipeline::{Generation, Prefilled};
use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

/// One plan, and what becomes of its memory.
#[derive(Debug, Clone)]
struct Request {
    clip: usize,
    samples: usize,
    limit: usize,
    seed: u64,
    /// Whether its cache stays alive while the others are made.
    is_held: bool,
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let samples = prop_oneof![3 => Just(1usize), 1 => Just(3)];
    let limit = prop_oneof![3 => Just(6usize), 1 => 2usize..9];
    let request = (
        0..BUNDLED_CLIPS.len(),
        samples,
        limit,
        any::<u64>(),
        prop::bool::weighted(0.2),
    );
    let request = request.prop_map(|(clip, samples, limit, seed, is_held)| Request {
        clip,
        samples,
        limit,
        seed,
        is_held,
    });
    prop::collection::vec(request, 4..7)
}

/// A plan's tokens and actions.
type Result = (Vec<Vec<u32>>, Vec<Vec<[f32; 2]>>);

struct Sequence(Vec<Request>);

impl DeviceVisitor for Sequence {
    type Output = ();

    fn visit<B: ModelBackend>(self, device: B::Device) {
        let load = || Alpamayo::<B>::load(bundled("checkpoint"), &device, LoadOptions::default()).unwrap();
        let model = load();
        let mut held = Vec::new();
        for request in &self.0 {
            let (result, memory) = plan(&model, request);
            assert_eq!(result, plan(&load(), request).0, "{request:?}");
            if request.is_held {
                held.push((request, result, memory));
            }
        }
        // Nothing was written over what was held.
        for (request, result, (_, generation)) in held {
            assert_eq!(
                model.flow(&generation, &options(request), &mut ()).unwrap(),
                result.1,
                "{request:?}"
            );
        }
    }
}

fn options(request: &Request) -> DriveOptions {
    DriveOptions {
        samples: request.samples,
        max_generation_length: Some(request.limit),
        flow_steps: Some(2),
        seed: request.seed,
        ..DriveOptions::default()
    }
}

fn plan<B: ModelBackend>(model: &Alpamayo<B>, request: &Request) -> (Result, (Prefilled<B>, Generation<B>)) {
    let clip = Clip::read(bundled("clips").join(BUNDLED_CLIPS[request.clip])).unwrap();
    let options = options(request);
    let inputs = model.preprocess(&[clip], &PromptStyle::R1).unwrap();
    let features = model.encode(&inputs.patches, &mut ()).unwrap();
    let prefilled = model.prefill(&inputs.prompts, &features, &mut ()).unwrap();
    let generation = model.generate(&prefilled, &options, &mut ()).unwrap();
    let actions = model.flow(&generation, &options, &mut ()).unwrap();
    ((generation.tokens.clone(), actions), (prefilled, generation))
}

#[test]
fn a_plan_after_others_is_the_plan_of_a_new_model() {
    let config = Config {
        cases: 3,
        failure_persistence: None,
        ..Config::default()
    };
    for found in Device::available() {
        let mut runner = TestRunner::new_with_rng(config.clone(), TestRng::deterministic_rng(config.rng_algorithm));
        let run = |requests| {
            found.device.run(Sequence(requests)).unwrap();
            Ok(())
        };
        runner.run(&requests(), run).unwrap();
    }
}
