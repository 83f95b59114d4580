use super::*;
use crate::perturb::{Direction, HistoryKind, ImageKind, LanguageKind, SensorKind};

const CAMERAS: [usize; 4] = [0, 1, 2, 6];
const FRAMES: usize = 4;

/// Four cameras of four frames, each with its own colour and a gradient.
fn clip() -> Clip {
    let frames = (0..CAMERAS.len() * FRAMES).map(|index| {
        let rgb = (0..48 * 32 * 3).map(|byte| (byte % 97 + 9 * index) as u8).collect();
        Frame::new(48, 32, rgb).unwrap()
    });
    let back = |index: u8| f32::from(15 - index);
    let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    Clip {
        name: "synthetic".into(),
        frames: frames.collect(),
        camera_indices: CAMERAS.to_vec(),
        frames_per_camera: FRAMES,
        ego_history_xyz: (0..16)
            .map(|index| [-0.8 * back(index), 0.01 * back(index) * back(index), 0.0])
            .collect(),
        ego_history_rot: vec![identity; 16],
        ..Clip::default()
    }
}

fn spec(perturbations: Vec<Perturbation>) -> PerturbationSpec {
    PerturbationSpec { seed: 5, perturbations }
}

fn perturbation(effect: Effect, severity: f64, target: Target) -> Perturbation {
    Perturbation::new(effect, Severity::new(severity).unwrap(), target).unwrap()
}

fn sensor(kind: SensorKind, severity: f64, cameras: &[usize]) -> Perturbed {
    let target = if cameras.is_empty() {
        Target::default()
    } else {
        Target::cameras(cameras)
    };
    spec(vec![perturbation(Effect::Sensor(kind), severity, target)])
        .apply(&clip())
        .unwrap()
}

fn history(kind: HistoryKind, reaches: Reach) -> Perturbation {
    let direction = Default::default();
    perturbation(
        Effect::History {
            kind,
            direction,
            reaches,
        },
        0.8,
        Target::default(),
    )
}

fn speak(kind: LanguageKind, severity: f64, text: &str) -> Perturbation {
    let text = text.to_owned();
    perturbation(Effect::Language { kind, text }, severity, Target::default())
}

/// Which frame of its camera each frame shows.
fn shown(perturbed: &Perturbed, camera: usize) -> Vec<Option<usize>> {
    let clean = clip();
    perturbed.clean_frames[camera * FRAMES..][..FRAMES]
        .iter()
        .zip(&perturbed.clip.frames[camera * FRAMES..])
        .map(|(source, frame)| {
            source
                .inspect(|&source| assert_eq!(clean.frames[source], *frame))
                .map(|source| source % FRAMES)
        })
        .collect()
}

fn some(frames: [usize; 4]) -> Vec<Option<usize>> {
    frames.map(Some).to_vec()
}

/// One of each, at this severity (switches at 0 or 1).
fn everything(severity: f64) -> Vec<Perturbation> {
    let switch = severity.round();
    let image = ImageKind::ALL
        .into_iter()
        .map(|kind| perturbation(Effect::image(kind), severity, Target::default()));
    let sensor = SensorKind::ALL.into_iter().map(|kind| {
        let target = Target::cameras([1, 6]);
        perturbation(
            Effect::Sensor(kind),
            if kind.is_switch() { switch } else { severity },
            target,
        )
    });
    let history = HistoryKind::ALL.into_iter().map(|kind| {
        let (direction, reaches) = Default::default();
        perturbation(
            Effect::History {
                kind,
                direction,
                reaches,
            },
            severity,
            Target::default(),
        )
    });
    let language = LanguageKind::ALL.into_iter().map(|kind| speak(kind, switch, "stop"));
    image.chain(sensor).chain(history).chain(language).collect()
}

/// What `everything` leaves out of the histories: every other reach, and the other direction.
fn histories(severity: f64) -> impl Iterator<Item = Perturbation> {
    let cases = HistoryKind::ALL.into_iter().flat_map(|kind| {
        let down = kind.has_direction().then_some(Direction::Down);
        let directions = [Some(Direction::Up), down].into_iter().flatten();
        directions.flat_map(move |direction| {
            [Reach::HistoryTokens, Reach::Integrator, Reach::Both].map(|reaches| (kind, direction, reaches))
        })
    });
    let cases = cases.filter(|&(_, direction, reaches)| (direction, reaches) != Default::default());
    cases.map(move |(kind, direction, reaches)| {
        let effect = Effect::History {
            kind,
            direction,
            reaches,
        };
        perturbation(effect, severity, Target::default())
    })
}

#[test]
fn severity_zero_is_the_clean_clip() {
    let perturbed = spec(everything(0.0)).apply(&clip()).unwrap();
    assert_eq!(perturbed.clip, clip());
    assert_eq!(perturbed.integrator_history, None);
    assert!(perturbed.language.is_empty());
    assert!(perturbed.clean_frames.iter().copied().eq((0..16).map(Some)));
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    for one in everything(0.7) {
        let spec = spec(vec![one]);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| spec.apply(&clip()).unwrap())
        };
        let (first, second) = (with(1), with(5));
        assert_eq!(first, second, "{}", spec.canonical());
        let does_nothing = first.clip == clip() && first.language.is_empty();
        assert!(!does_nothing, "{}", spec.canonical());
    }
}

#[test]
fn only_the_target_is_touched() {
    let target = Target {
        cameras: Some(vec![6, 1]),
        frames: Some(vec![3]),
    };
    let perturbed = spec(vec![perturbation(Effect::image(ImageKind::GaussianNoise), 0.4, target)])
        .apply(&clip())
        .unwrap();
    let clean = clip();
    for (index, (frame, source)) in perturbed.clip.frames.iter().zip(&perturbed.clean_frames).enumerate() {
        let touched = [7, 15].contains(&index);
        assert_eq!(*frame != clean.frames[index], touched, "frame {index}");
        assert_eq!(*source, (!touched).then_some(index));
    }
}

#[test]
fn perturbations_are_applied_in_order() {
    let noise = perturbation(Effect::image(ImageKind::GaussianNoise), 0.2, Target::default());
    let blur = perturbation(Effect::image(ImageKind::GaussianBlur), 0.6, Target::default());
    let apply = |list: Vec<Perturbation>, clip: &Clip| spec(list).apply(clip).unwrap().clip;
    let together = apply(vec![blur.clone(), noise.clone()], &clip());
    assert_ne!(together, apply(vec![noise, blur.clone()], &clip()));
    // Blur draws nothing, so the two steps can be taken apart.
    let nothing = perturbation(Effect::image(ImageKind::Fog), 0.0, Target::default());
    let noise = together.frames != apply(vec![blur.clone()], &clip()).frames;
    assert!(noise);
    assert_eq!(apply(vec![nothing, blur.clone()], &clip()), apply(vec![blur], &clip()));
}

#[test]
fn draws_depend_on_seed_and_clip_but_not_on_severity() {
    let dropped = |seed, name: &str, severity| {
        let list = vec![perturbation(
            Effect::Sensor(SensorKind::DroppedFrames),
            severity,
            Target::default(),
        )];
        let clip = Clip {
            name: name.into(),
            ..clip()
        };
        let spec = PerturbationSpec {
            seed,
            perturbations: list,
        };
        spec.apply(&clip).unwrap().clean_frames
    };
    assert_ne!(dropped(1, "a", 0.5), dropped(2, "a", 0.5));
    assert_ne!(dropped(1, "a", 0.5), dropped(1, "b", 0.5));
    // A frame that is shown at a higher severity is shown at a lower one.
    let (low, high) = (dropped(1, "a", 0.3), dropped(1, "a", 0.6));
    for (index, (low, high)) in low.iter().zip(&high).enumerate() {
        assert!(*high != Some(index) || *low == Some(index));
    }
    assert!(dropped(1, "a", 1.0).iter().all(Option::is_none));
}

#[test]
fn black_cameras_fade() {
    let half = sensor(SensorKind::BlackCamera, 0.5, &[1]);
    let clean = clip();
    let halved = |value: &u8| (f64::from(*value) * 0.5).round() as u8;
    assert!(
        half.clip.frames[4]
            .rgb()
            .iter()
            .copied()
            .eq(clean.frames[4].rgb().iter().map(halved))
    );
    assert!(
        sensor(SensorKind::BlackCamera, 1.0, &[1]).clip.frames[7]
            .rgb()
            .iter()
            .all(|&value| value == 0)
    );
    assert_eq!(shown(&half, 0), some([0, 1, 2, 3]));
    assert_eq!(shown(&half, 1), [None; 4]);
}

#[test]
fn removed_cameras_are_gone() {
    let perturbed = sensor(SensorKind::RemovedCamera, 1.0, &[1]);
    assert_eq!(perturbed.clip.camera_indices, [0, 2, 6]);
    let expected: Vec<usize> = (0..4).chain(8..16).collect();
    assert_eq!(
        perturbed.clean_frames,
        expected.iter().copied().map(Some).collect::<Vec<_>>()
    );
    for (frame, source) in perturbed.clip.frames.iter().zip(expected) {
        assert_eq!(*frame, clip().frames[source]);
    }
    let all = perturbation(Effect::Sensor(SensorKind::RemovedCamera), 1.0, Target::cameras(CAMERAS));
    let error = spec(vec![all]).apply(&clip()).unwrap_err().to_string();
    assert!(error.contains("keep at least one"), "{error}");
}

#[test]
fn swapped_cameras_go_round() {
    let perturbed = sensor(SensorKind::SwappedCameras, 1.0, &[0, 2, 6]);
    let cameras: Vec<usize> = perturbed
        .clean_frames
        .iter()
        .map(|source| source.unwrap() / FRAMES)
        .collect();
    assert_eq!(
        cameras.chunks(FRAMES).map(|chunk| chunk[0]).collect::<Vec<_>>(),
        [2, 1, 3, 0]
    );
    assert_eq!(perturbed.clip.camera_indices, CAMERAS);
    assert_eq!(shown(&perturbed, 0), some([0, 1, 2, 3]));
}

#[test]
fn frames_freeze_and_lag() {
    assert_eq!(
        shown(&sensor(SensorKind::FrozenFrames, 0.3, &[1]), 1),
        some([0, 1, 2, 2])
    );
    assert_eq!(
        shown(&sensor(SensorKind::FrozenFrames, 1.0, &[]), 3),
        some([0, 0, 0, 0])
    );
    assert_eq!(shown(&sensor(SensorKind::Latency, 0.4, &[1]), 1), some([0, 0, 1, 2]));
    assert_eq!(shown(&sensor(SensorKind::Latency, 1.0, &[1]), 1), some([0, 0, 0, 0]));
    assert_eq!(shown(&sensor(SensorKind::Latency, 1.0, &[1]), 0), some([0, 1, 2, 3]));
}

#[test]
fn cameras_lag_differently() {
    let lags = |severity| {
        let perturbed = sensor(SensorKind::DesynchronisedCameras, severity, &[]);
        let mut lags: Vec<usize> = (0..4).map(|camera| 3 - shown(&perturbed, camera)[3].unwrap()).collect();
        lags.sort_unstable();
        lags
    };
    assert_eq!(lags(1.0), [0, 1, 2, 3]);
    assert_eq!(lags(0.5), [0, 1, 1, 2]);
    let alone = sensor(SensorKind::DesynchronisedCameras, 1.0, &[6]);
    assert_eq!(shown(&alone, 3), some([0, 0, 0, 0]));
}

#[test]
fn reordered_frames_all_leave_their_places() {
    let perturbed = sensor(SensorKind::ReorderedFrames, 1.0, &[]);
    for camera in 0..4 {
        let order = shown(&perturbed, camera);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, some([0, 1, 2, 3]));
        assert!(
            order.iter().enumerate().all(|(place, shown)| *shown != Some(place)),
            "{order:?}"
        );
    }
}

#[test]
fn the_history_reaches_what_it_should() {
    let clean = clip();
    let perturbed = |reaches| {
        spec(vec![history(HistoryKind::Stationary, reaches)])
            .apply(&clean)
            .unwrap()
    };

    let tokens = perturbed(Reach::HistoryTokens);
    assert_ne!(tokens.clip.ego_history_xyz, clean.ego_history_xyz);
    assert_eq!(tokens.integrator_history.unwrap().xyz, clean.ego_history_xyz);

    let integrator = perturbed(Reach::Integrator);
    assert_eq!(integrator.clip, clean);
    assert_eq!(integrator.integrator_history.unwrap().xyz, tokens.clip.ego_history_xyz);

    let both = perturbed(Reach::Both);
    assert_eq!(both.integrator_history, None);
    assert_eq!(both.clip, tokens.clip);
}

#[test]
fn the_language_is_handed_on() {
    let list = vec![
        speak(LanguageKind::Instruction, 1.0, "go"),
        speak(LanguageKind::ReasoningPrefix, 0.0, "unsaid"),
        speak(LanguageKind::ReplacedReasoning, 1.0, "Stop."),
        speak(LanguageKind::Instruction, 1.0, "wait"),
    ];
    let perturbed = spec(list).apply(&clip()).unwrap();
    let expected = LanguageOverrides {
        instruction: Some("wait".into()),
        reasoning_prefix: None,
        replaced_reasoning: Some("Stop.".into()),
    };
    assert_eq!(perturbed.language, expected);
    assert_eq!(perturbed.clip, clip());
}

#[test]
fn what_the_clip_has_not_is_named() {
    let fog = |target| {
        spec(vec![perturbation(Effect::image(ImageKind::Fog), 0.5, target)])
            .apply(&clip())
            .unwrap_err()
            .to_string()
    };
    let error = fog(Target::cameras([4]));
    assert!(
        error.contains("camera 4") && error.contains("`synthetic`") && error.contains("[0, 1, 2, 6]"),
        "{error}"
    );
    let target = Target {
        cameras: None,
        frames: Some(vec![4]),
    };
    let error = fog(target);
    assert!(error.contains("frame 4") && error.contains("0..=3"), "{error}");
    let gone = [SensorKind::RemovedCamera, SensorKind::BlackCamera]
        .map(|kind| perturbation(Effect::Sensor(kind), 1.0, Target::cameras([1])));
    let error = spec(gone.to_vec()).apply(&clip()).unwrap_err().to_string();
    assert!(error.contains("camera 1"), "{error}");
}

/// Mean absolute change of the pixels over all images.
fn pixel_change(perturbed: &Perturbed) -> f64 {
    let clean = clip();
    let pairs = clean.frames.iter().zip(&perturbed.clip.frames);
    let bytes = pairs.flat_map(|(a, b)| a.rgb().iter().zip(b.rgb()));
    let (sum, count) = bytes.fold((0u64, 0u64), |(sum, count), (a, b)| {
        (sum + u64::from(a.abs_diff(*b)), count + 1)
    });
    sum as f64 / count as f64
}

#[test]
fn sensors_change_more_with_the_severity() {
    for kind in SensorKind::ALL.into_iter().filter(|kind| !kind.is_switch()) {
        let mut before = 0.0;
        for step in 0..=20 {
            let now = pixel_change(&sensor(kind, f64::from(step) / 20.0, &[]));
            assert!(now >= before, "{kind:?} at {step}/20: {now} after {before}");
            before = now;
        }
        assert!(before > 0.0, "{kind:?} does nothing");
    }
}

/// The 64-bit FNV-1a hash of everything in a perturbed clip.
fn checksum(perturbed: &Perturbed) -> u64 {
    let history = |xyz: &[[f32; 3]], rot: &[[[f32; 3]; 3]]| -> Vec<u8> {
        let values = xyz.iter().flatten().chain(rot.iter().flatten().flatten());
        values.flat_map(|value| value.to_le_bytes()).collect()
    };
    let clip = &perturbed.clip;
    let mut bytes: Vec<u8> = clip.camera_indices.iter().map(|&camera| camera as u8).collect();
    clip.frames.iter().for_each(|frame| bytes.extend(frame.rgb()));
    bytes.extend(history(&clip.ego_history_xyz, &clip.ego_history_rot));
    let integrator = perturbed.integrator_history();
    bytes.extend(history(&integrator.xyz, &integrator.rot));
    bytes.extend(serde_json::to_vec(&perturbed.language).unwrap());
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn the_bytes_are_pinned() {
    // The same on every platform and in every later version: published results depend on them. Images are pinned with
    // their corruptions.
    let of = |severity| {
        let list = everything(severity).into_iter();
        let others = list.filter(|one| !matches!(one.effect(), Effect::Image { .. }));
        others.chain(histories(severity))
    };
    let mut found = String::new();
    for (mild, full) in of(0.6).zip(of(1.0)) {
        let name = match full.effect() {
            Effect::History { direction, reaches, .. } => format!("{} {direction:?} {reaches:?}", full.effect().name()),
            effect => effect.name(),
        };
        let [mild, full] = [mild, full].map(|one| checksum(&spec(vec![one]).apply(&clip()).unwrap()));
        found += &format!("{name} {mild:016x} {full:016x}\n");
    }
    assert_eq!(found, include_str!("checksums.txt"), "now:\n{found}");
}
