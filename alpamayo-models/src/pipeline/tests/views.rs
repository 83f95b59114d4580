//! Clean and perturbed views of the bundled clips: what is reused, what is changed, and what follows.

use alpamayo_backends::instances::Flex;
use alpamayo_core::perturb::measure::SampleChange;
use alpamayo_core::perturb::{
    Effect, HistoryKind, ImageKind, LanguageKind, LanguageOverrides, Perturbation, PerturbationSpec, Perturbed, Reach,
    SensorKind, Severity, Target,
};
use alpamayo_core::{Clip, PromptStyle};

use super::nano::{CLIPS, clip, model};
use crate::error::Error;
use crate::host::download;
use crate::pipeline::{Alpamayo, DriveOptions, Plan, View};

const STYLE: PromptStyle = PromptStyle::R1;

fn options() -> DriveOptions {
    DriveOptions {
        samples: 2,
        seed: 3,
        max_generation_length: Some(64),
        ..DriveOptions::default()
    }
}

fn perturbed(clip: &Clip, effect: Effect, severity: f64, target: Target) -> Perturbed {
    let perturbation = Perturbation::new(effect, Severity::new(severity).unwrap(), target).unwrap();
    let spec = PerturbationSpec {
        seed: 7,
        perturbations: vec![perturbation],
    };
    spec.apply(clip).unwrap()
}

fn black(clip: &Clip, cameras: &[usize]) -> Perturbed {
    let effect = Effect::Sensor(SensorKind::BlackCamera);
    perturbed(clip, effect, 1.0, Target::cameras(cameras))
}

fn history(clip: &Clip, reaches: Reach) -> Perturbed {
    let direction = Default::default();
    let effect = Effect::History {
        kind: HistoryKind::Stationary,
        direction,
        reaches,
    };
    perturbed(clip, effect, 1.0, Target::default())
}

fn words(clip: &Clip, kind: LanguageKind, text: &str) -> Perturbed {
    let text = text.to_owned();
    perturbed(clip, Effect::Language { kind, text }, 1.0, Target::default())
}

/// Everything of a plan but its times.
fn bits(plan: &Plan) -> (Vec<String>, Vec<Vec<u32>>, Vec<u32>) {
    let numbers = plan.actions.iter().flatten().flatten();
    let positions = plan.trajectories.iter().flat_map(|plan| plan.xyz().iter().flatten());
    let bits = numbers.chain(positions).map(|value| value.to_bits());
    (plan.reasoning.clone(), plan.tokens.clone(), bits.collect())
}

fn features(view: &View<Flex>) -> Vec<Vec<f32>> {
    let tensors = view
        .images
        .iter()
        .flat_map(|image| [&image.tokens].into_iter().chain(&image.deepstack));
    tensors
        .map(|tensor| download(tensor.clone(), "features").unwrap())
        .collect()
}

/// The view with what was reused, which must be the view without, and its plan.
fn seen(model: &Alpamayo<Flex>, perturbed: &Perturbed, clean: &View<Flex>) -> (View<Flex>, Plan) {
    let view = model.view_perturbed(perturbed, clean, &STYLE).unwrap();
    let anew = Perturbed {
        clean_frames: vec![None; perturbed.clip.frames.len()],
        ..perturbed.clone()
    };
    let anew = model.view_perturbed(&anew, clean, &STYLE).unwrap();
    assert_eq!(anew.reused_images, 0);
    assert!(!anew.reused_prompt);
    assert_eq!(anew.prompt, view.prompt);
    assert_eq!(features(&anew), features(&view));
    let plan = model.drive_view(&view, &options()).unwrap();
    assert_eq!(bits(&model.drive_view(&anew, &options()).unwrap()), bits(&plan));
    (view, plan)
}

#[test]
fn a_view_drives_as_the_clip_does() {
    let (model, clip) = (model(), clip("red_light"));
    let view = model.view(&clip, &STYLE).unwrap();
    let driven = model.drive(&clip, &options()).unwrap();
    assert_eq!(bits(&model.drive_view(&view, &options()).unwrap()), bits(&driven));
    // The view is as it was, for the next drive.
    let noise = vec![0.25; 2 * 64 * 2];
    let other = DriveOptions {
        noise: Some(noise),
        ..options()
    };
    let (again, with_noise) = (model.drive_view(&view, &options()), model.drive_view(&view, &other));
    assert_eq!(bits(&again.unwrap()), bits(&driven));
    let with_noise = with_noise.unwrap();
    assert_eq!(with_noise.reasoning, driven.reasoning);
    assert_eq!(with_noise.actions[0], with_noise.actions[1]);
}

#[test]
fn severity_zero_changes_nothing_to_the_bit() {
    let model = model();
    for name in CLIPS {
        let clip = clip(name);
        let clean = model.view(&clip, &STYLE).unwrap();
        let fog = perturbed(&clip, Effect::image(ImageKind::Fog), 0.0, Target::default());
        let (view, plan) = seen(&model, &fog, &clean);
        assert_eq!((view.reused_images, view.reused_prompt), (16, true));
        assert_eq!(bits(&plan), bits(&model.drive_view(&clean, &options()).unwrap()));
    }
}

#[test]
fn only_touched_images_are_seen_anew() {
    let (model, clip) = (model(), clip("slow_truck"));
    let clean = model.view(&clip, &STYLE).unwrap();
    let before = bits(&model.drive_view(&clean, &options()).unwrap());
    let target = Target {
        cameras: Some(vec![1, 6]),
        frames: Some(vec![3]),
    };
    let noise = perturbed(&clip, Effect::image(ImageKind::GaussianNoise), 1.0, target);
    let swap = perturbed(
        &clip,
        Effect::Sensor(SensorKind::SwappedCameras),
        1.0,
        Target::cameras([0, 1]),
    );
    for (perturbed, reused) in [(black(&clip, &[6]), 12), (noise, 14), (swap, 16)] {
        let (view, plan) = seen(&model, &perturbed, &clean);
        assert_eq!((view.reused_images, view.reused_prompt), (reused, false));
        assert_ne!(bits(&plan), before);
    }
}

#[test]
fn a_removed_camera_is_not_in_the_prompt() {
    let (model, clip) = (model(), clip("red_light"));
    let clean = model.view(&clip, &STYLE).unwrap();
    let removed = Effect::Sensor(SensorKind::RemovedCamera);
    let (view, plan) = seen(&model, &perturbed(&clip, removed, 1.0, Target::cameras([1])), &clean);
    assert_eq!((view.reused_images, view.images.len()), (12, 12));
    // Four images with a token before and one after each.
    let gone: usize = clean.images[4..8]
        .iter()
        .map(|image| image.tokens_per_image[0] + 2)
        .sum();
    assert_eq!(view.prompt.len() + gone, clean.prompt.len());
    assert!(plan.stopped.iter().all(|stopped| *stopped));
}

#[test]
fn a_history_reaches_what_it_should() {
    let (model, clip) = (model(), clip("right_curve"));
    let clean = model.view(&clip, &STYLE).unwrap();
    let before = model.drive_view(&clean, &options()).unwrap();

    let (view, plan) = seen(&model, &history(&clip, Reach::Integrator), &clean);
    assert!(view.reused_prompt);
    assert_eq!((&plan.tokens, &plan.actions), (&before.tokens, &before.actions));
    // 18.6 m/s less over 6.4 s.
    let change = SampleChange::between(&before.trajectories, &plan.trajectories, None, 0.1).unwrap();
    assert!((change.mean.mean_speed + 18.6).abs() < 0.5, "{:?}", change.mean);

    let (view, plan) = seen(&model, &history(&clip, Reach::HistoryTokens), &clean);
    assert_eq!((view.reused_images, view.reused_prompt), (16, false));
    assert_eq!(view.integrator_history, clean.integrator_history);
    assert_ne!(plan.actions, before.actions);

    let (view, both) = seen(&model, &history(&clip, Reach::Both), &clean);
    assert_ne!(view.integrator_history, clean.integrator_history);
    assert_eq!(both.actions, plan.actions);
    assert_ne!(both.trajectories, plan.trajectories);
}

#[test]
fn words_are_put_into_the_prompt_and_into_the_mouth() {
    let (model, clip) = (model(), clip("red_light"));
    let clean = model.view(&clip, &STYLE).unwrap();
    let before = model.drive_view(&clean, &options()).unwrap();

    let (view, _) = seen(
        &model,
        &words(&clip, LanguageKind::Instruction, "stop at once."),
        &clean,
    );
    assert_eq!((view.reused_images, view.reused_prompt), (16, false));
    let text = model.tokenizer().unwrap().decode(&view.prompt.ids).unwrap();
    assert!(text.contains("<|traj_history_end|>stop at once.<|im_end|>"));

    let (view, plan) = seen(&model, &words(&clip, LanguageKind::ReasoningPrefix, "Keep "), &clean);
    assert!(view.reused_prompt);
    assert!(plan.reasoning.iter().all(|sentence| sentence.starts_with("Keep ")));
    assert!(plan.stopped.iter().all(|stopped| *stopped));

    let sentence = "Start moving because the traffic light has turned green.";
    let replaced = words(&clip, LanguageKind::ReplacedReasoning, sentence);
    let (view, plan) = seen(&model, &replaced, &clean);
    assert!(view.reused_prompt);
    assert_eq!(plan.reasoning, [sentence; 2]);
    assert_ne!(plan.actions, before.actions);

    // Its own words are its own plan.
    let own = words(&clip, LanguageKind::ReplacedReasoning, &before.reasoning[0]);
    let (_, plan) = seen(&model, &own, &clean);
    assert_eq!(plan.tokens, before.tokens);
    let change = SampleChange::between(&before.trajectories, &plan.trajectories, None, 0.1).unwrap();
    assert!(change.mean.mean_displacement < 1e-3, "{:?}", change.mean);
}

#[test]
fn words_that_cannot_be_said_are_errors() {
    let (model, clip) = (model(), clip("red_light"));
    let clean = model.view(&clip, &STYLE).unwrap();
    let error = |perturbed: &Perturbed, style: &PromptStyle| {
        model.view_perturbed(perturbed, &clean, style).unwrap_err().to_string()
    };
    for kind in LanguageKind::ALL {
        let error = error(&words(&clip, kind, "a<|cot_end|>"), &STYLE);
        assert!(error.contains("contains the special token `<|cot_end|>`"), "{error}");
    }
    let labelled = PromptStyle::Labelled { navigation: None };
    let instructed = words(&clip, LanguageKind::Instruction, "stop");
    assert!(error(&instructed, &labelled).contains("needs Alpamayo-R1's prompt"));
    let both = Perturbed {
        language: LanguageOverrides {
            reasoning_prefix: Some("a".into()),
            replaced_reasoning: Some("b".into()),
            ..LanguageOverrides::default()
        },
        ..instructed
    };
    assert!(error(&both, &STYLE).contains("give one of the two"));
    let view = model
        .view_perturbed(&words(&clip, LanguageKind::ReasoningPrefix, "Keep"), &clean, &STYLE)
        .unwrap();
    let forced = DriveOptions {
        forced_tokens: vec![vec![1]],
        ..options()
    };
    let twice = model.drive_view(&view, &forced);
    assert!(matches!(twice, Err(Error::Argument { argument, .. }) if argument == "forced_tokens"));
}

#[test]
fn without_its_front_cameras_the_model_plans_otherwise() {
    let model = model();
    // Clips where a light, a person or a lead car decides. The miniature reads them off the tele camera: without the wide one
    // alone it drives on as before.
    for name in ["red_light", "green_start", "pedestrian", "slow_truck"] {
        let clip = clip(name);
        let clean = model.view(&clip, &STYLE).unwrap();
        let view = model.view_perturbed(&black(&clip, &[1, 6]), &clean, &STYLE).unwrap();
        let drive = |view: &View<Flex>, seed| model.drive_view(view, &DriveOptions { seed, ..options() }).unwrap();
        let (before, after, other_seed) = (drive(&clean, 3), drive(&view, 3), drive(&clean, 4));
        let moved = |plan: &Plan| {
            let change = SampleChange::between(&before.trajectories, &plan.trajectories, None, 0.1).unwrap();
            change.mean.mean_displacement
        };
        let (effect, control) = (moved(&after), moved(&other_seed));
        println!(
            "{name}: {effect:.2} m, other seed {control:.2} m; {:?} → {:?}",
            before.reasoning[0], after.reasoning[0]
        );
        assert_ne!(before.reasoning, after.reasoning, "{name}");
        assert!(
            effect > 2.0 && effect > 3.0 * control,
            "{name}: {effect} m, with another seed {control} m"
        );
    }
}
