//! A sweep with the trained miniature: in pieces, what is reused, what the bundled experiments find.

use std::path::Path;
use std::time::Duration;

use alpamayo_backends::instances::Flex;
use alpamayo_core::Clip;
use alpamayo_core::perturb::{Severity, Sweep};
use alpamayo_examples::cli::bundled;
use alpamayo_examples::evaluate::{self, ClipItem};
use alpamayo_examples::perturb::grid::{Task, control_seed};
use alpamayo_examples::perturb::record::{CleanRecord, Drive, PerturbedRecord};
use alpamayo_examples::perturb::{
    GridItem, IntentKind, Record, Rows, Summary, bundled_sweep, drive_grid, find_flips, flip_items, grid,
};
use alpamayo_examples::run::{self, Interrupt, Item, Outcome, ResultFile, RunArguments};
use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};

const GUIDE: &str = include_str!("../../docs/perturbation.md");

const SWEEP: &str = r#"
seed = 7
severities = [0, 1]

[[experiments]]
name = "dark front cameras"
perturbations = [{ name = "black_camera", cameras = [1, 6] }]

[[experiments]]
name = "no front tele camera, in fog"
severities = [0.5]
perturbations = [{ name = "removed_camera", cameras = [6] }, { name = "fog", cameras = [1] }]

[[experiments]]
name = "told to start"
severities = [1]
perturbations = [{ name = "replaced_reasoning", text = "Start moving because the traffic light has turned green." }]
"#;

fn model() -> Alpamayo<Flex> {
    Alpamayo::load(bundled("checkpoint"), &Default::default(), LoadOptions::default()).unwrap()
}

fn clips(names: &[&str]) -> Vec<ClipItem> {
    let item = |name: &&str| ClipItem::folder(*name, bundled("clips").join(name));
    names.iter().map(item).collect()
}

fn options() -> DriveOptions {
    DriveOptions {
        samples: 2,
        seed: 5,
        max_generation_length: Some(64),
        ..DriveOptions::default()
    }
}

fn drive(model: &Alpamayo<Flex>, path: &Path, items: &[GridItem<'_>]) -> Outcome {
    let mut results = ResultFile::open(path, &"options").unwrap();
    let pending = run::pending(items, &results, &RunArguments::default()).unwrap();
    drive_grid(model, &options(), &mut results, &pending, &Interrupt::default()).unwrap()
}

fn records(path: &Path, items: &[GridItem<'_>]) -> Vec<Record> {
    let results = ResultFile::<Record>::open(path, &"options").unwrap();
    let record = |item: &GridItem<'_>| results.record(&item.key()).unwrap().unwrap().unwrap();
    items.iter().map(record).collect()
}

#[test]
fn a_sweep_in_pieces_is_a_sweep_at_once_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (model, sweep) = (model(), Sweep::from_toml(SWEEP, Path::new("sweep.toml")).unwrap());
    let mut clips = clips(&["red_light", "slow_truck"]);
    let items = grid(&sweep, &clips).unwrap();
    let outcome = drive(&model, &path("whole.jsonl"), &items);
    assert_eq!((outcome.done, outcome.failed), (10, 0));
    let whole = std::fs::read(path("whole.jsonl")).unwrap();

    // Stopped within a clip, its last line torn, and gone on with.
    std::fs::write(path("torn.jsonl"), &whole[..whole.len() * 3 / 10]).unwrap();
    let outcome = drive(&model, &path("torn.jsonl"), &items);
    assert!((3..10).contains(&outcome.done), "{outcome:?}");
    assert_eq!(std::fs::read(path("torn.jsonl")).unwrap(), whole);

    // Clip by clip, put together; a clip that is gone fails alone.
    let mut together = Vec::new();
    for clip in &clips {
        drive(&model, &path("shard.jsonl"), &grid(&sweep, [clip]).unwrap());
        together.extend(std::fs::read(path("shard.jsonl")).unwrap());
        std::fs::remove_file(path("shard.jsonl")).unwrap();
    }
    assert_eq!(together, whole);
    for record in records(&path("whole.jsonl"), &items) {
        check(&model, &record);
    }
    clips.push(ClipItem::folder("gone", bundled("clips/gone")));
    let outcome = drive(&model, &path("whole.jsonl"), &grid(&sweep, &clips).unwrap());
    assert_eq!((outcome.done, outcome.failed), (0, 5));
}

/// A record is what a drive of the clip gives that nothing was taken over into.
fn check(model: &Alpamayo<Flex>, record: &Record) {
    match record {
        Record::Clean(record) => {
            let CleanRecord {
                clip,
                drive,
                control,
                change,
                ..
            } = &**record;
            let clip = Clip::read(bundled("clips").join(clip)).unwrap();
            check_drive(model, &clip, drive, Vec::new());
            check_drive(model, &clip, control, Vec::new());
            assert_ne!(drive.seed, control.seed);
            assert!(change.plan.mean.mean_displacement > 0.0 && change.plan.min_ade.is_some());
        }
        Record::Perturbed(record) => check_perturbed(model, record),
    }
}

fn check_perturbed(model: &Alpamayo<Flex>, record: &PerturbedRecord) {
    let perturbed = record
        .spec
        .apply(&Clip::read(bundled("clips").join(&record.clip)).unwrap())
        .unwrap();
    let reused = (record.images, record.reused_images, record.reused_prompt);
    match (record.experiment.as_str(), record.severity.value()) {
        // Severity 0 changes nothing, to the bit, and costs nothing.
        ("dark front cameras", 0.0) => {
            assert_eq!(reused, (16, 16, true));
            let change = &record.change;
            assert!(change.plan.samples.iter().all(|sample| *sample == Default::default()));
            assert_eq!(change.plan.spread[0].to_bits(), change.plan.spread[1].to_bits());
            assert!(change.reasoning.iter().all(|words| !words.has_changed()));
            assert!(
                change
                    .intents
                    .iter()
                    .all(|intents| !intents.stated_flips() && !intents.driven_flips())
            );
        }
        ("dark front cameras", _) => assert_eq!(reused, (16, 8, false)),
        ("no front tele camera, in fog", _) => assert_eq!(reused, (12, 8, false)),
        ("told to start", _) => assert_eq!(reused, (16, 16, true)),
        other => panic!("{other:?}"),
    }
    // Features that were taken over give the drive that features computed anew give.
    let forced = model.forced_reasoning(&perturbed.language).unwrap();
    check_drive(model, &perturbed.clip, &record.drive, forced);
}

fn check_drive(model: &Alpamayo<Flex>, clip: &Clip, drive: &Drive, forced: Vec<u32>) {
    let options = DriveOptions {
        seed: drive.seed,
        forced_tokens: if forced.is_empty() { Vec::new() } else { vec![forced] },
        ..options()
    };
    let plan = model.drive(clip, &options).unwrap();
    assert_eq!(Drive::new(&plan, drive.seed, 0.1).unwrap(), *drive);
}

#[test]
fn clean_and_severity_zero_are_the_same_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.jsonl");
    let (model, sweep) = (model(), Sweep::read(&bundled_sweep("first")).unwrap());
    let clips = clips(&["pedestrian"]);
    let items: Vec<GridItem<'_>> = grid(&sweep, &clips)
        .unwrap()
        .into_iter()
        .filter(|item| match &item.task {
            Task::Clean => true,
            Task::Perturbed(condition) => condition.severity.is_zero(),
        })
        .collect();
    assert_eq!(items.len(), 1 + sweep.experiments.len());
    drive(&model, &path, &items);
    let records = records(&path, &items);
    let Record::Clean(clean) = &records[0] else {
        panic!("the grid begins with the clean clip")
    };
    for record in &records[1..] {
        let Record::Perturbed(record) = record else {
            panic!("one clean drive is enough")
        };
        assert_eq!(record.drive, clean.drive, "{}", record.experiment);
    }
}

#[test]
fn dark_front_cameras_change_the_plan_where_a_light_a_person_or_a_lead_car_decides() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.jsonl");
    let (model, sweep) = (model(), Sweep::read(&bundled_sweep("first")).unwrap());
    let clips = clips(&["red_light", "green_start", "pedestrian", "slow_truck"]);
    let items: Vec<GridItem<'_>> = grid(&sweep, &clips)
        .unwrap()
        .into_iter()
        .filter(|item| match &item.task {
            Task::Clean => true,
            Task::Perturbed(it) => it.experiment == "dark front cameras" && it.severity == Severity::FULL,
        })
        .collect();
    drive(&model, &path, &items);
    let records = records(&path, &items);
    for pair in records.chunks(2) {
        let [Record::Clean(clean), Record::Perturbed(dark)] = pair else {
            panic!("{}", pair.len())
        };
        let moved = dark.change.plan.mean.mean_displacement;
        let noise = clean.change.plan.mean.mean_displacement;
        assert!(
            moved > 2.0 && moved > 3.0 * noise,
            "{}: {moved} m, with another seed {noise} m",
            clean.clip
        );
        assert_ne!(clean.drive.sentence(), dark.drive.sentence(), "{}", clean.clip);
    }
}

/// The numbers of a row of the guide's table: metres that the plan moved, % of the words and of the plans that flip; each with its interval.
fn guide_row(name: &str) -> [[f64; 3]; 3] {
    let row = GUIDE.lines().find(|line| line.starts_with(&format!("| {name} |")));
    let cells = row
        .unwrap_or_else(|| panic!("the guide has no row {name}"))
        .split('|')
        .skip(2);
    let numbers = |cell: &str| -> [f64; 3] {
        let words = cell.split([' ', '[', ']', ',']).filter(|word| !word.is_empty());
        let found: Vec<f64> = words.map(|word| word.parse().unwrap()).collect();
        found.try_into().unwrap()
    };
    let rows: Vec<[f64; 3]> = cells.take(3).map(numbers).collect();
    rows.try_into().unwrap()
}

/// With the options that the guide's command takes, two rows of its table.
#[test]
fn the_guides_table_is_what_its_command_gives() {
    let folder = tempfile::tempdir().unwrap();
    let (model, sweep) = (model(), Sweep::read(&bundled_sweep("first")).unwrap());
    let clips = evaluate::clips::find(&[bundled("clips").to_string_lossy()]).unwrap();
    let mut items = grid(&sweep, &clips).unwrap();
    items.retain(|item| match &item.task {
        Task::Clean => true,
        Task::Perturbed(it) => it.experiment == "dark front cameras" && it.severity == Severity::FULL,
    });
    let guide = DriveOptions {
        samples: 6,
        seed: 42,
        max_generation_length: Some(256),
        ..DriveOptions::default()
    };
    let mut results = ResultFile::open(&folder.path().join("results.jsonl"), &"guide").unwrap();
    let pending: Vec<_> = items.iter().collect();
    drive_grid(&model, &guide, &mut results, &pending, &Interrupt::default()).unwrap();
    let summary = Summary::new(&Rows::read(&results, &items).unwrap()).unwrap();
    assert_eq!((summary.clips, summary.missing, summary.failures.len()), (6, 0, 0));
    for (group, name) in summary
        .groups
        .iter()
        .zip(["*other seeds (noise floor)*", "dark front cameras"])
    {
        let keys = ["mean_displacement", "stated_flip", "driven_flip"];
        for (key, expected) in keys.into_iter().zip(guide_row(name)) {
            let mean = group.mean(key).unwrap();
            let interval = mean.interval;
            let found = [interval.estimate, interval.lower, interval.upper].map(|value| mean.measure.shown(value));
            // On a processor that adds in another order, one of 36 samples may be another one: 3 %.
            let room = if key == "mean_displacement" { 0.3 } else { 3.5 };
            let is_near = found
                .iter()
                .zip(expected)
                .all(|(found, expected)| (found - expected).abs() < room);
            assert!(is_near, "{name}, {key}: {found:?}, in the guide {expected:?}");
        }
    }
}

#[test]
fn a_flip_is_a_flip_of_its_own_drives() {
    let folder = tempfile::tempdir().unwrap();
    let (model, mut sweep) = (model(), Sweep::from_toml(SWEEP, Path::new("sweep.toml")).unwrap());
    sweep.experiments.truncate(1);
    let clips = clips(&["red_light"]);
    let items = flip_items(&sweep, &clips).unwrap();
    let path = folder.path().join("flips.jsonl");
    let mut results = ResultFile::open(&path, &"options").unwrap();
    let pending = run::pending(&items, &results, &RunArguments::default()).unwrap();
    let kind = IntentKind::Stated;
    // Eight drives take longer than this: it stops between two of them, and leaves nothing behind.
    let interrupt = Interrupt::default();
    let stopped = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            interrupt.request();
        });
        find_flips(&model, &options(), kind, &mut results, &pending, &interrupt).unwrap()
    });
    assert_eq!((stopped.done, stopped.failed, stopped.interrupted), (0, 0, true));
    let found = find_flips(&model, &options(), kind, &mut results, &pending, &Interrupt::default()).unwrap();
    assert_eq!((found.done, found.failed), (1, 0));
    let record = results.record(&items[0].key()).unwrap().unwrap().unwrap();
    assert_eq!(record.clean.to_string(), "stop");
    let seed = control_seed(5, &record.clip, 1);
    let control = model.drive(
        &Clip::read(bundled("clips/red_light")).unwrap(),
        &DriveOptions { seed, ..options() },
    );
    assert_eq!(
        Drive::new(&control.unwrap(), seed, 0.1).unwrap().intent(kind),
        record.control
    );
    let flip = record.flip.expect("without its front cameras the light is not seen");
    let clip = Clip::read(bundled("clips/red_light")).unwrap();
    let intent_at = |severity| {
        let spec = sweep.spec(&sweep.experiments[0], severity).unwrap();
        let options = DriveOptions {
            seed: record.seed,
            ..options()
        };
        let plan = model.drive(&spec.apply(&clip).unwrap().clip, &options).unwrap();
        Drive::new(&plan, record.seed, 0.1).unwrap().intent(kind)
    };
    assert_eq!(intent_at(flip.below), record.clean);
    assert_eq!(intent_at(flip.at), flip.intent);
    assert_ne!(flip.intent, record.clean);
}
