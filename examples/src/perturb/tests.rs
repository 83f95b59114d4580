//! Keys, means and tables of made-up drives.

mod page;

use std::collections::HashSet;
use std::path::Path;

use alpamayo_core::Trajectory;
use alpamayo_core::perturb::Sweep;
use alpamayo_models::Plan;
use alpamayo_models::pipeline::Timings;
use tempfile::TempDir;

use super::flip::{Flip, Probe};
use super::grid::{Task, control_seed, drive_seed};
use super::record::{Change, CleanRecord, Drive, PerturbedRecord};
use super::summary::NOISE_FLOOR;
use super::*;
use crate::cli::bundled;
use crate::evaluate::ClipItem;
use crate::run::{Item, ResultFile};

const SWEEP: &str = r#"
repetitions = 2
severities = [0.5, 1]

[[experiments]]
name = "fog, \"thick\""
perturbations = [{ name = "fog" }]

[[experiments]]
name = "no tele"
perturbations = [{ name = "removed_camera", cameras = [6] }]
"#;
const FOG: &str = "fog, \"thick\"";
const CLIPS: [&str; 3] = ["red_light", "right_curve", "barriers"];
const STOP: &str = "Stop for the red light.";
const KEEP: &str = "Keep driving, the road is clear.";

fn sweep(text: &str) -> Sweep {
    Sweep::from_toml(text, Path::new("sweep.toml")).unwrap()
}

fn clips() -> Vec<ClipItem> {
    CLIPS
        .map(|name| ClipItem::folder(name, bundled("clips").join(name)))
        .into()
}

/// Two samples that drive straight on at 10 m/s, and so much faster that they are ahead by so many metres on average.
fn drive(seed: u64, ahead: f64, reasoning: &str) -> Drive {
    // Steps 1 … 64 are 32.5 on average.
    let length = 1.0 + ahead / 32.5;
    let xyz: Vec<[f32; 3]> = (1..=64)
        .map(|step| [(f64::from(step) * length) as f32, 0.0, 0.0])
        .collect();
    let plan = Plan {
        reasoning: vec![reasoning.to_owned(); 2],
        trajectories: vec![Trajectory::from_yaws(xyz, [0.0; 64]); 2],
        actions: vec![Vec::new(); 2],
        tokens: vec![reasoning.bytes().map(u32::from).collect(); 2],
        stopped: vec![true; 2],
        warnings: Vec::new(),
        timings: Timings::default(),
    };
    Drive::new(&plan, seed, 0.1).unwrap()
}

/// Another seed moves a clip by 0.1 m, 0.2 m, 0.3 m; fog by severity x (1 m, 2 m, 3 m), twice as far the second time, and at 1 it
/// changes what is said; the removed camera changes nothing.
fn record(item: &GridItem<'_>) -> Record {
    let clip = item.clip.key();
    let number = 1.0 + CLIPS.iter().position(|name| *name == clip).unwrap() as f64;
    let seed = drive_seed(42, &clip, item.repetition);
    let clean = drive(seed, 0.0, STOP);
    let change = |other: &Drive| Change::between(&clean, other, None, 0.1).unwrap();
    match &item.task {
        Task::Clean => {
            let control = drive(control_seed(42, &clip, item.repetition), number / 10.0, STOP);
            Record::Clean(Box::new(CleanRecord {
                repetition: item.repetition,
                change: change(&control),
                drive: clean,
                control,
                clip,
            }))
        }
        Task::Perturbed(condition) => {
            let severity = condition.severity.value();
            let is_fog = condition.experiment == FOG;
            let ahead = if is_fog {
                severity * number * f64::from(item.repetition)
            } else {
                0.0
            };
            let words = if is_fog && severity == 1.0 { KEEP } else { STOP };
            let drive = drive(seed, ahead, words);
            Record::Perturbed(Box::new(PerturbedRecord {
                repetition: item.repetition,
                experiment: condition.experiment.clone(),
                severity: condition.severity,
                spec: condition.spec.clone(),
                change: change(&drive),
                drive,
                images: if is_fog { 16 } else { 12 },
                reused_images: if is_fog { 0 } else { 12 },
                reused_prompt: false,
                clip,
            }))
        }
    }
}

/// All of the grid but its last item, which failed.
fn run(items: &[GridItem<'_>]) -> (TempDir, ResultFile<Record>) {
    let folder = tempfile::tempdir().unwrap();
    let mut results = ResultFile::open(&folder.path().join("results.jsonl"), &"options").unwrap();
    for item in &items[..items.len() - 1] {
        results.append(&item.key(), Ok(&record(item))).unwrap();
    }
    results.append(&items[items.len() - 1].key(), Err("it broke")).unwrap();
    (folder, results)
}

#[test]
fn the_grid_is_everything_once_and_clip_by_clip() {
    let (sweep, clips) = (sweep(SWEEP), clips());
    let items = grid(&sweep, &clips).unwrap();
    // Clean, fog at two severities, the switch at one; each twice.
    assert_eq!(items.len(), 3 * 4 * 2);
    let keys: HashSet<String> = items.iter().map(Item::key).collect();
    assert_eq!(keys.len(), items.len());
    assert!(items[..8].iter().all(|item| item.clip.key() == "red_light"));
    assert_eq!(items[0].key(), "red_light | clean | 1");
    assert!(items[2].key().starts_with("red_light | fog, \"thick\" 0.5 | 1 | "));
}

#[test]
fn what_is_applied_is_in_the_key_and_nothing_else_is() {
    let clips = clips();
    let keys = |text: &str| -> Vec<String> { grid(&sweep(text), &clips).unwrap().iter().map(Item::key).collect() };
    let before = keys(SWEEP);
    // More of everything leaves what there is.
    let more = SWEEP
        .replace("repetitions = 2", "repetitions = 3")
        .replace("[0.5, 1]", "[0.1, 0.5, 1]");
    let more: HashSet<String> = keys(&more).into_iter().collect();
    assert!(before.iter().all(|key| more.contains(key)));
    // Something else under the same name does not.
    for other in [
        SWEEP.replace("{ name = \"fog\" }", "{ name = \"fog\", cameras = [1] }"),
        format!("seed = 1\n{SWEEP}"),
    ] {
        let same = keys(&other)
            .into_iter()
            .zip(&before)
            .filter(|(key, before)| key == *before);
        assert!(same.clone().count() < before.len());
        assert!(same.into_iter().all(|(key, _)| !key.contains("fog")));
    }
}

#[test]
fn seeds_differ_and_the_first_is_that_of_an_evaluation() {
    assert_eq!(drive_seed(42, "a/1", 1), crate::evaluate::clips::clip_seed(42, "a/1"));
    let seeds = (1..=3).flat_map(|repetition| {
        let of = move |clip: &'static str| [drive_seed(42, clip, repetition), control_seed(42, clip, repetition)];
        of("a").into_iter().chain(of("b"))
    });
    assert_eq!(seeds.collect::<HashSet<_>>().len(), 12);
}

#[test]
fn records_come_back_from_their_lines() {
    let (sweep, clips) = (sweep(SWEEP), clips());
    for item in &grid(&sweep, &clips).unwrap()[..8] {
        let record = record(item);
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
        let names_its_spec = line.contains(r#""spec":{"seed":0,"perturbations":[{"name":"#);
        assert_eq!(names_its_spec, matches!(record, Record::Perturbed(_)));
    }
}

#[test]
fn a_summary_has_the_means_of_the_clips_beside_the_noise_floor() {
    let (sweep, clips) = (sweep(SWEEP), clips());
    let items = grid(&sweep, &clips).unwrap();
    let (_folder, results) = run(&items);
    let rows = Rows::read(&results, &items).unwrap();
    let summary = Summary::new(&rows).unwrap();
    assert_eq!((summary.clips, summary.missing, summary.failures.len()), (3, 0, 1));
    // Six drives with fog at each of two severities, five without a camera.
    assert_eq!(summary.images, [12 * 16 + 5 * 12, 5 * 12]);
    assert_eq!(summary.experiments(), [FOG, "no tele"]);

    let mean = |group: &summary::Group, key: &str| group.mean(key).unwrap().interval.estimate;
    let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
    let noise = summary.noise_floor().unwrap();
    assert_eq!((noise.pairs, noise.clips), (6, 3));
    assert!(near(mean(noise, "mean_displacement"), 0.2) && near(mean(noise, "stated_flip"), 0.0));

    let fog: Vec<_> = summary.of(FOG).collect();
    assert_eq!(
        fog.iter().map(|(severity, _)| *severity).collect::<Vec<_>>(),
        [0.5, 1.0]
    );
    // 1.5 x (1 + 2 + 3) / 3 at full severity.
    assert!(near(mean(fog[0].1, "mean_displacement"), 1.5) && near(mean(fog[1].1, "mean_displacement"), 3.0));
    assert!(near(mean(fog[1].1, "final_longitudinal"), 3.0 * 64.0 / 32.5) && near(mean(fog[1].1, "mean_lateral"), 0.0));
    assert_eq!(
        (mean(fog[0].1, "stated_flip"), mean(fog[1].1, "stated_flip")),
        (0.0, 1.0)
    );
    assert_eq!(mean(fog[1].1, "agreement_change"), 1.0);
    let interval = fog[1].1.mean("mean_displacement").unwrap().interval;
    assert!(near(interval.lower, 1.5) && near(interval.upper, 4.5), "{interval:?}");
    let against = fog[1].1.mean("mean_displacement").unwrap().against_noise.unwrap();
    assert!(near(against.difference, 2.8));
    // Three clips, all above: two of 2³ signs.
    assert_eq!(
        (against.clips, against.p_signed_rank, against.p_permutation),
        (3, 0.25, 0.25)
    );
    assert!(noise.means.iter().all(|mean| mean.against_noise.is_none()));
    // Without a truth there is no minADE.
    assert!(noise.mean("min_ade_change").is_none());

    let text = summary.to_string();
    for words in [
        "3 clips, 23 pairs of drives; 1 failed, 0 still to be done; of 252 images of perturbed clips 60 were not looked at again",
        "other seeds (noise floor)        –  0.20 [0.10, 0.30]",
        "fog, \"thick\"                     1  3.00 [1.50, 4.50]     5.91 [2.95, 8.86]     100 [100, 100]",
        "it broke",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

fn flips() -> Vec<FlipRecord> {
    let sweep = sweep(SWEEP);
    let clean = drive(1, 0.0, STOP).intent(IntentKind::Stated);
    let intent = drive(1, 0.0, KEEP).intent(IntentKind::Stated);
    let severity = |value| alpamayo_core::perturb::Severity::new(value).unwrap();
    let record = |clip: &str, at: Option<f64>| FlipRecord {
        clip: clip.to_owned(),
        repetition: 1,
        seed: 5,
        experiment: FOG.to_owned(),
        spec: sweep.spec(&sweep.experiments[0], severity(1.0)).unwrap(),
        clean,
        control: if clip == "barriers" { intent } else { clean },
        probes: vec![Probe {
            severity: severity(1.0),
            intent,
        }],
        flip: at.map(|at| Flip {
            below: severity(at - 0.25),
            at: severity(at),
            intent,
        }),
    };
    vec![
        record("red_light", Some(0.25)),
        record("right_curve", None),
        record("barriers", Some(0.75)),
    ]
}

#[test]
fn flips_are_looked_for_where_there_is_something_between_off_and_on() {
    let (sweep, clips) = (sweep(SWEEP), clips());
    let items = flip_items(&sweep, &clips).unwrap();
    assert_eq!(items.len(), 3 * 2);
    assert!(items.iter().all(|item| item.condition.experiment == FOG));
    let keys: HashSet<String> = items.iter().map(Item::key).collect();
    assert_eq!(keys.len(), 6);
}

#[test]
fn flips_rise_to_the_share_of_clips_that_flip() {
    // A clip counts once, however many experiments its flips are looked for in.
    let mut found = flips();
    found.extend(flips().into_iter().take(2).map(|record| FlipRecord {
        experiment: "rain".to_owned(),
        ..record
    }));
    let curves = curves::flip_curves(&found, IntentKind::Stated);
    assert_eq!(curves[0].name, "flips_stated");
    let third = 100.0 / 3.0;
    let (level, name) = &curves[0].chart.levels[0];
    assert!((level - third).abs() < 1e-9 && name == "other seeds", "{level} {name}");
    let expected = [
        [0.0, 0.0],
        [0.25, 0.0],
        [0.25, third],
        [0.75, third],
        [0.75, 2.0 * third],
        [1.0, 2.0 * third],
    ];
    for (point, expected) in curves[0].chart.lines[0].points.iter().zip(expected) {
        assert!((point[0] - expected[0]).abs() < 1e-12 && (point[1] - expected[1]).abs() < 1e-9);
    }
}

#[test]
fn tables_hold_what_the_lines_hold() {
    let (sweep, clips) = (sweep(SWEEP), clips());
    let items = grid(&sweep, &clips).unwrap();
    let (folder, results) = run(&items);
    let rows = Rows::read(&results, &items).unwrap();
    let read = |name: &str| -> Vec<csv::StringRecord> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_path(folder.path().join(name))
            .unwrap();
        reader.records().map(Result::unwrap).collect()
    };
    tables::write_pairs(&rows, &folder.path().join("pairs.csv")).unwrap();
    let pairs = read("pairs.csv");
    assert_eq!(pairs.len(), 1 + 23);
    let column = |name: &str| pairs[0].iter().position(|head| head == name).unwrap();
    for (line, row) in pairs[1..].iter().zip(&rows.rows) {
        assert_eq!(&line[0], row.clip);
        assert_eq!(&line[1], row.condition.as_ref().map_or(NOISE_FLOOR, |(name, _)| name));
        let moved: f64 = line[column("mean_displacement")].parse().unwrap();
        assert_eq!(Some(moved), row.value("mean_displacement"));
        assert_eq!(&line[column("min_ade_change")], "");
        assert_eq!(&line[column("reasoning_clean")], STOP);
        assert_eq!(&line[column("stated_clean")], "stop");
    }

    let summary = Summary::new(&rows).unwrap();
    tables::write_summary(&summary, &folder.path().join("summary.csv")).unwrap();
    let lines = read("summary.csv");
    let find = |experiment: &str, severity: &str| {
        let is_it =
            |line: &&csv::StringRecord| (&line[0], &line[1], &line[2]) == (experiment, severity, "mean_displacement");
        lines
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{experiment} at {severity}"))
    };
    let number = |text: &str| text.parse::<f64>().unwrap();
    let fog = find(FOG, "1");
    assert!((number(&fog[6]) - 3.0).abs() < 1e-5 && (number(&fog[9]) - 0.2).abs() < 1e-6);
    assert_eq!((&fog[11], &fog[12]), ("0.25", "0.25"));
    assert_eq!(&find(NOISE_FLOOR, "")[11], "");

    tables::write_flips(&flips(), IntentKind::Stated, &folder.path().join("flips.csv")).unwrap();
    let lines = read("flips.csv");
    assert_eq!(
        lines[0].iter().skip(5).take(3).collect::<Vec<_>>(),
        ["clean", "other_seed", "flips_by_seed"]
    );
    assert_eq!(
        lines[1].iter().skip(5).take(6).collect::<Vec<_>>(),
        ["stop", "stop", "0", "0", "0.25", "keep"]
    );
    assert_eq!(&lines[2][9], "");
    assert_eq!([&lines[3][6], &lines[3][7]], ["keep", "1"]);
}

#[test]
fn the_bundled_sweep_is_read_and_written() {
    let sweep = Sweep::read(&bundled_sweep("first")).unwrap();
    let again = serde_json::from_str::<Sweep>(&serde_json::to_string(&sweep).unwrap()).unwrap();
    assert_eq!(again, sweep);
    let names: Vec<&str> = sweep.experiments.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names[0], "dark front cameras");
    assert_eq!(sweep.severities_of(&sweep.experiments[0])[0].value(), 0.0);
}
