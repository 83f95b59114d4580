//! What callers can do with the stages: force, replay, branch, batch, reuse.

use alpamayo_backends::instances::Flex;
use alpamayo_core::PromptStyle;
use burn::tensor::Tensor;

use crate::error::Error;
use crate::observer::Observer;
use crate::pipeline::{Alpamayo, DriveOptions, LoadOptions};
use crate::test_data::{Device, Golden, relative_l2};
use crate::vision::VisionFeatures;

pub(super) fn greedy(golden: &Golden) -> DriveOptions {
    DriveOptions {
        max_generation_length: Some(golden.case("max_generation_length")),
        ..DriveOptions::greedy()
    }
}

fn flat(actions: &[Vec<[f32; 2]>]) -> Vec<f32> {
    actions.iter().flatten().flatten().copied().collect()
}

#[test]
fn replaying_tokens_in_one_pass_gives_the_same_actions() {
    let golden = Golden::read("base");
    let (model, options) = (golden.model(), greedy(&golden));
    let plan = &model.drive_batch(&golden.clips(), &options).unwrap()[0];
    let replay = DriveOptions {
        forced_tokens: plan.tokens.clone(),
        ..options
    };
    let replayed = &model.drive_batch(&golden.clips(), &replay).unwrap()[0];
    assert_eq!(replayed.tokens, plan.tokens);
    let error = relative_l2(&flat(&replayed.actions), &flat(&plan.actions));
    assert!(error <= 1e-5, "{error:e}");
}

#[test]
fn a_forced_prefix_is_kept_and_what_follows_is_generated() {
    let golden = Golden::read("base");
    let (model, options) = (golden.model(), greedy(&golden));
    let inputs = model.preprocess(&golden.clips(), &PromptStyle::R1).unwrap();
    let features = model.encode(&inputs.patches, &mut ()).unwrap();
    let prefilled = model.prefill(&inputs.prompts, &features, &mut ()).unwrap();
    let free = model.generate(&prefilled, &options, &mut ()).unwrap();
    // The reference's own first tokens lead to its own continuation …
    let same = DriveOptions {
        forced_tokens: vec![free.tokens[0][..3].to_vec()],
        ..options.clone()
    };
    assert_eq!(model.generate(&prefilled, &same, &mut ()).unwrap().tokens, free.tokens);
    // … and `<|traj_future_start|>` stops a row wherever it stands.
    let future_start = model.config().traj_token_ids.future_start;
    let stopped = DriveOptions {
        forced_tokens: vec![vec![5, 6, future_start]],
        ..options
    };
    let generation = model.generate(&prefilled, &stopped, &mut ()).unwrap();
    assert_eq!(generation.tokens[0][..3], [5, 6, future_start]);
    assert_eq!((generation.tokens[0].len(), generation.stops[0].index), (4, 2));
    assert_eq!(generation.suffix_lengths(), [3]);
}

#[test]
fn a_row_of_a_batch_is_what_it_is_alone() {
    let golden = Golden::read("batch-ragged-eos");
    let (model, clips) = (golden.model(), golden.clips());
    let noise = golden.f32("flow.noise");
    let options = greedy(&golden);
    let batch = DriveOptions {
        noise: Some(noise.clone()),
        ..options.clone()
    };
    let together = model.drive_batch(&clips, &batch).unwrap();
    for (index, clip) in clips.iter().enumerate() {
        let half = noise.len() / 2;
        let alone = DriveOptions {
            noise: Some(noise[index * half..][..half].to_vec()),
            ..options.clone()
        };
        let alone = model.drive(clip, &alone).unwrap();
        assert_eq!(alone.tokens, together[index].tokens);
        let error = relative_l2(&flat(&alone.actions), &flat(&together[index].actions));
        assert!(error <= 1e-5, "{error:e}");
    }
}

#[test]
fn fewer_samples_are_the_first_of_more() {
    let golden = Golden::read("base");
    let (model, clips) = (golden.model(), golden.clips());
    let sampled = |samples| {
        let options = DriveOptions {
            samples,
            seed: 3,
            temperature: 2.0,
            max_generation_length: Some(8),
            flow_steps: Some(2),
            ..DriveOptions::default()
        };
        model.drive_batch(&clips, &options).unwrap().remove(0)
    };
    let (two, three) = (sampled(2), sampled(3));
    assert_eq!(two.tokens, three.tokens[..2]);
    assert_ne!(three.tokens[0], three.tokens[1]);
    let error = relative_l2(&flat(&two.actions), &flat(&three.actions[..2]));
    assert!(error <= 1e-4, "{error:e}");
}

#[test]
fn features_of_untouched_images_can_be_reused() {
    let golden = Golden::read("base");
    let (model, options) = (golden.model(), greedy(&golden));
    let inputs = model.preprocess(&golden.clips(), &PromptStyle::R1).unwrap();
    let features = model.encode(&inputs.patches, &mut ()).unwrap();
    let images = features.tokens_per_image.len();
    let parts = [features.images(0..4).unwrap(), features.images(4..images).unwrap()];
    let joined = VisionFeatures::concat(&parts).unwrap();
    let plan = |features| {
        let prefilled = model.prefill(&inputs.prompts, features, &mut ()).unwrap();
        let generation = model.generate(&prefilled, &options, &mut ()).unwrap();
        (
            generation.tokens.clone(),
            model.flow(&generation, &options, &mut ()).unwrap(),
        )
    };
    assert_eq!(plan(&features), plan(&joined));
}

#[test]
fn a_random_model_of_any_size_runs_without_a_tokenizer() {
    let golden = Golden::read("base");
    let loaded = golden.model();
    let inputs = loaded.preprocess(&golden.clips(), &PromptStyle::R1).unwrap();
    let model = Alpamayo::<Flex>::random(&golden.config(), None, &Device::default(), &LoadOptions::default()).unwrap();
    assert!(matches!(
        model.preprocess(&golden.clips(), &PromptStyle::R1),
        Err(Error::NoTokenizer { .. })
    ));
    let options = greedy(&golden);
    let features = model.encode(&inputs.patches, &mut ()).unwrap();
    let prefilled = model.prefill(&inputs.prompts, &features, &mut ()).unwrap();
    let generation = model.generate(&prefilled, &options, &mut ()).unwrap();
    let actions = model.flow(&generation, &options, &mut ()).unwrap();
    assert!(flat(&actions).iter().all(|value| value.is_finite()));
}

#[test]
fn inputs_prepared_on_another_thread_lead_to_the_same_plan() {
    let golden = Golden::read("base");
    let (model, options, clips) = (golden.model(), greedy(&golden), golden.clips());
    let inputs = std::thread::scope(|scope| {
        let preprocess = scope.spawn(|| model.preprocess(&clips, &options.prompt).unwrap());
        preprocess.join().unwrap()
    });
    let apart = &model.drive_inputs(&inputs, &clips, &options, &mut ()).unwrap()[0];
    let together = &model.drive_batch(&clips, &options).unwrap()[0];
    assert_eq!((&apart.tokens, &apart.actions), (&together.tokens, &together.actions));
    assert!(apart.timings.preprocess.is_zero() && !together.timings.preprocess.is_zero());
}

/// Wants all, keeps nothing.
struct All;

impl Observer<Flex> for All {
    fn wants_all(&self) -> bool {
        true
    }
}

#[test]
fn rows_that_nothing_reads_are_left_out_without_a_difference() {
    for case in ["base", "batch-ragged-eos"] {
        let golden = Golden::read(case);
        let model = golden.model();
        let inputs = model.preprocess(&golden.clips(), &PromptStyle::R1).unwrap();
        let features = model.encode(&inputs.patches, &mut ()).unwrap();
        let all = model.prefill(&inputs.prompts, &features, &mut All).unwrap();
        let needed = model.prefill(&inputs.prompts, &features, &mut ()).unwrap();
        let values = |tensor: &Tensor<Flex, 2>| tensor.to_data().to_vec::<f32>().unwrap();
        let error = relative_l2(&values(&needed.logits), &values(&all.logits));
        assert!(error <= 1e-6, "{case}: {error:e}");
        for (needed, all) in needed.cache.layers.iter().zip(&all.cache.layers) {
            assert_eq!(needed.prompt.key.to_data(), all.prompt.key.to_data(), "{case}");
            assert_eq!(needed.prompt.value.to_data(), all.prompt.value.to_data(), "{case}");
        }
    }
}
