//! Records, summaries, arrays and pages of drives that are made up, on the bundled clips.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alpamayo_core::metrics::{HORIZONS, constant_velocity};
use alpamayo_core::{Clip, Trajectory, UnicycleActionSpace, UnicycleConfig};
use alpamayo_models::pipeline::{Plan, Timings};
use npyz::{Deserialize, NpyFile};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::measures::Measures;
use super::record::Driven;
use super::*;
use crate::cli::bundled;
use crate::error::Error;
use crate::run::{Item, ResultFile};

fn space() -> UnicycleActionSpace<f32> {
    UnicycleActionSpace::new(&UnicycleConfig::default())
}

fn clip(name: &str) -> Clip {
    Clip::read(bundled("clips").join(name)).unwrap()
}

fn truth(clip: &Clip) -> Trajectory {
    Trajectory {
        xyz: clip.ego_future_xyz.clone().unwrap(),
        rot: clip.ego_future_rot.clone().unwrap(),
    }
}

/// The clip's future, moved ahead and to the left along its own headings by as much at every step.
fn moved(clip: &Clip, ahead: f32, left: f32) -> Trajectory {
    let mut trajectory = truth(clip);
    for (xyz, rot) in trajectory.xyz.iter_mut().zip(&trajectory.rot) {
        let [x, y] = [rot[0][0], rot[1][0]];
        xyz[0] += ahead * x - left * y;
        xyz[1] += ahead * y + left * x;
    }
    trajectory
}

/// What a model would say that plans so.
fn record(clip: &Clip, trajectories: Vec<Trajectory>) -> ClipRecord {
    let samples = trajectories.len();
    let plan = Plan {
        reasoning: (0..samples).map(|sample| format!("Reason \"{sample}\" – ü.")).collect(),
        trajectories,
        actions: vec![Vec::new(); samples],
        tokens: vec![Vec::new(); samples],
        stopped: (0..samples).map(|sample| sample % 2 == 0).collect(),
        warnings: Vec::new(),
        timings: Timings {
            encode: Duration::from_millis(20),
            ..Timings::default()
        },
    };
    let driven = Driven {
        clip,
        source: "folder".into(),
        options: &alpamayo_models::DriveOptions {
            seed: (1 << 53) - 1,
            ..Default::default()
        },
        plan: &plan,
        before: [Duration::from_millis(5), Duration::from_millis(7)],
    };
    ClipRecord::new(&driven, &space()).unwrap()
}

const OFFSETS: [(&str, f32); 3] = [("red_light", 2.0), ("barriers", 0.5), ("right_curve", 1.0)];

/// Three clips, one failure, one clip whose future is not known; two samples each.
fn run() -> (TempDir, ResultFile<ClipRecord>) {
    let folder = tempfile::tempdir().unwrap();
    let mut results = ResultFile::open(&folder.path().join("results.jsonl"), &json!({"samples": 2})).unwrap();
    for (name, offset) in OFFSETS {
        let clip = clip(name);
        let samples = vec![moved(&clip, 0.0, -3.0), moved(&clip, offset, 0.0)];
        results.append(name, Ok(&record(&clip, samples))).unwrap();
    }
    results.append("lost", Err("no clip.json")).unwrap();
    let mut unknown = clip("pedestrian");
    let samples = vec![truth(&unknown), truth(&unknown)];
    (unknown.ego_future_xyz, unknown.ego_future_rot) = (None, None);
    results.append("unknown", Ok(&record(&unknown, samples))).unwrap();
    (folder, results)
}

/// The clips of that run and one more, which is still to be done.
fn items() -> Vec<ClipItem> {
    let bundled_clips = OFFSETS.map(|(name, _)| ClipItem::folder(name, bundled("clips").join(name)));
    let mut items = Vec::from(bundled_clips);
    items.extend(["lost", "unknown", "to_be_done"].map(|name| ClipItem::folder(name, "nowhere")));
    items
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn errors_are_those_by_which_a_plan_was_moved(ahead in -4.0f32..4.0, left in -4.0f32..4.0) {
        let clip = clip("right_curve");
        let samples = [moved(&clip, 5.0, 5.0), moved(&clip, ahead, left)];
        let found = Measures::new(&clip, &samples, &truth(&clip), &space()).unwrap();
        let (ahead, left) = (f64::from(ahead), f64::from(left));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-4;
        prop_assert_eq!(found.best_sample, 1);
        for value in [found.best.ade, found.best.fde, found.best.corner_distance, found.ade[1]] {
            prop_assert!(near(value, ahead.hypot(left)), "{value}");
        }
        prop_assert!(near(found.best.longitudinal, ahead.abs()) && near(found.best.lateral, left.abs()));
        prop_assert!(near(found.best.final_longitudinal, ahead) && near(found.best.final_lateral, left));
        prop_assert!(near(found.ade[0], 50f64.sqrt()) && near(found.fde[0], 50f64.sqrt()));
        for seconds in HORIZONS {
            prop_assert!(near(found.best.ade_at(seconds).unwrap(), ahead.hypot(left)));
        }
    }
}

#[test]
fn the_baseline_is_constant_velocity() {
    let clip = clip("red_light");
    let found = record(&clip, vec![truth(&clip)]).measures.unwrap();
    let straight = constant_velocity(&space(), &clip.ego_history_xyz, &clip.ego_history_rot).unwrap();
    let expected = Measures::new(&clip, &[straight], &truth(&clip), &space()).unwrap();
    assert_eq!(found.constant_velocity, expected.best);
    assert_eq!(found.best.ade, 0.0);
    // The car stops: the baseline does not.
    assert!(found.constant_velocity.final_longitudinal > 5.0);
}

#[test]
fn records_come_back_from_their_lines_to_the_bit() {
    let clip = clip("right_curve");
    let record = record(&clip, vec![moved(&clip, 1.0, 0.1), truth(&clip)]);
    let line = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<ClipRecord>(&line).unwrap(), record);
    for (before, after) in truth(&clip).rot.iter().zip(record.samples[1].trajectory().rot) {
        let worst = before
            .as_flattened()
            .iter()
            .zip(after.as_flattened())
            .map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f32::max) < 1e-6);
    }
    assert_eq!(record.reasoning(), "Reason \"1\" – ü.");
}

#[test]
fn positions_alone_are_enough_of_a_future() {
    let mut clip = clip("right_curve");
    let truth = truth(&clip);
    clip.ego_future_rot = None;
    let measures = record(&clip, vec![truth]).measures.unwrap();
    assert_eq!(measures.best.ade, 0.0);
    // Headings are then those of the displacements.
    assert!(
        measures.best.corner_distance < 0.05,
        "{}",
        measures.best.corner_distance
    );
}

#[test]
fn a_summary_has_the_means_of_the_clips() {
    let (_folder, results) = run();
    let summary = Summary::new(&results, &items(), 2).unwrap();
    assert_eq!((summary.clips, summary.clips_with_truth), (4, 3));
    assert_eq!(summary.failures, [("lost".to_owned(), "no clip.json".to_owned())]);
    let estimate = |key: &str| summary.metric(key).unwrap().model.estimate;
    for seconds in HORIZONS {
        assert!((estimate(&format!("min_ade_{seconds}s")) - 3.5 / 3.0).abs() < 1e-5);
    }
    assert!((estimate("ade") - (3.5 / 3.0 + 3.0) / 2.0).abs() < 1e-5);
    assert!((estimate("best_longitudinal") - 3.5 / 3.0).abs() < 1e-5 && estimate("best_lateral") < 1e-5);
    assert_eq!(estimate("stopped_share"), 0.5);
    let metric = summary.metric("min_ade_6.4s").unwrap();
    assert!((metric.model.lower - 0.5).abs() < 1e-5 && (metric.model.upper - 2.0).abs() < 1e-5);
    assert_eq!(metric.clips, 3);
    assert!(metric.constant_velocity.is_some());
    assert_eq!(summary.metric("spread_ade").unwrap().clips, 4);
    assert_eq!(summary.times_ms.len(), 8);

    let text = summary.to_string();
    for line in [
        "4 clips, 3 of them with a known future, 2 samples each; 1 failed",
        "minADE of 2 at 6.4 s               1.167 [0.500, 2.000] m         ",
        "reasonings that came to an end     50.0 [50.0, 50.0] %\n",
        "encode                                   20.0       20.0       20.0\n",
        "failed: lost: no clip.json\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["options"]["samples"], 2);
    assert_eq!(json["metrics"][4]["key"], "min_ade_6.4s");
}

#[test]
fn what_is_no_longer_asked_for_is_left_out() {
    let (folder, results) = run();
    let items = &items()[1..2];
    let summary = Summary::new(&results, items, 2).unwrap();
    assert_eq!((summary.clips, summary.failures.len()), (1, 0));
    assert!((summary.metric("min_ade_6.4s").unwrap().model.estimate - 0.5).abs() < 1e-5);
    let page = page::page(&results, &summary, items, 3).unwrap();
    assert_eq!(page.sections.len(), 1);
    let html = page.to_html();
    assert!(html.contains("barriers") && !html.contains("red_light") && !html.contains("lost"));
    let path = folder.path().join("results.npz");
    export::write(&results, items, 2, &path).unwrap();
    assert_eq!(array::<String>(&path, "key"), (vec![1], vec!["barriers".to_owned()]));
    assert_eq!(array::<f32>(&path, "xyz").0, [1, 2, 64, 3]);
    assert_eq!(array::<String>(&path, "failed_key").0, [0]);
}

#[test]
fn nothing_is_summarised_as_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let results = ResultFile::open(&folder.path().join("results.jsonl"), &()).unwrap();
    let summary = Summary::new(&results, &items(), 6).unwrap();
    assert_eq!(
        summary.to_string(),
        "0 clips, 0 of them with a known future, 6 samples each; 0 failed\n"
    );
    let page = page::page(&results, &summary, &items(), 3).unwrap();
    assert!(page.charts.is_empty() && page.sections.is_empty());
    export::write(&results, &items(), 6, &folder.path().join("empty.npz")).unwrap();
}

/// An array of an `.npz` file: its shape and its values.
fn array<T: Deserialize>(path: &Path, name: &str) -> (Vec<u64>, Vec<T>) {
    let mut archive = zip::ZipArchive::new(BufReader::new(File::open(path).unwrap())).unwrap();
    let mut bytes = Vec::new();
    let mut member = archive.by_name(&format!("{name}.npy")).unwrap();
    member.read_to_end(&mut bytes).unwrap();
    let file = NpyFile::new(&bytes[..]).unwrap();
    (file.shape().to_vec(), file.into_vec().unwrap())
}

#[test]
fn arrays_hold_what_the_lines_hold() {
    let (folder, results) = run();
    let path = folder.path().join("results.npz");
    export::write(&results, &items(), 2, &path).unwrap();
    let records: Vec<(String, ClipRecord)> = results
        .records()
        .map(Result::unwrap)
        .filter_map(|(key, outcome)| Some((key, outcome.ok()?)))
        .collect();

    let keys = array::<String>(&path, "key");
    assert_eq!(keys, (vec![4], records.iter().map(|(key, _)| key.clone()).collect()));
    let samples = || records.iter().flat_map(|(_, record)| &record.samples);
    let xyz: Vec<f32> = samples()
        .flat_map(|sample| sample.xyz.as_flattened())
        .copied()
        .collect();
    assert_eq!(array::<f32>(&path, "xyz"), (vec![4, 2, 64, 3], xyz));
    let yaw: Vec<f32> = samples().flat_map(|sample| &sample.yaw).copied().collect();
    assert_eq!(array::<f32>(&path, "yaw"), (vec![4, 2, 64], yaw));
    let reasoning: Vec<String> = samples().map(|sample| sample.reasoning.clone()).collect();
    assert_eq!(array::<String>(&path, "reasoning"), (vec![4, 2], reasoning));
    let (shape, truth) = array::<f32>(&path, "truth_xyz");
    assert_eq!(shape, [4, 64, 3]);
    assert_eq!(truth[..192], *records[0].1.truth.as_ref().unwrap().as_flattened());
    assert!(truth[576..].iter().all(|value| value.is_nan()));
    assert_eq!(array::<i64>(&path, "best_sample").1, [1, 1, 1, -1]);
    assert_eq!(array::<i64>(&path, "seed").1, [(1 << 53) - 1; 4]);
    assert_eq!(array::<bool>(&path, "stopped").1, [true, false].repeat(4));
    for metric in metrics::all(2) {
        let (_, values) = array::<f64>(&path, &metric.key);
        for (value, (_, record)) in values.iter().zip(&records) {
            assert_eq!(
                value.to_bits(),
                metric.value(record).unwrap_or(f64::NAN).to_bits(),
                "{}",
                metric.key
            );
        }
    }
    assert_eq!(array::<f64>(&path, "times_ms").0, [4, 7]);
    assert_eq!(array::<String>(&path, "failed_error").1, ["no clip.json"]);
    assert_eq!(
        array::<String>(&path, "options"),
        (vec![], vec!["{\"samples\":2}".to_owned()])
    );
}

#[test]
fn a_page_begins_with_the_worst() {
    let (_folder, results) = run();
    let summary = Summary::new(&results, &items(), 2).unwrap();
    let page = page::page(&results, &summary, &items(), 1).unwrap();
    let titles =
        |section: &crate::report::Section| section.cases.iter().map(|case| case.title.clone()).collect::<Vec<_>>();
    assert_eq!(
        page.sections.iter().map(titles).collect::<Vec<_>>(),
        [["red_light"], ["barriers"]]
    );
    let html = page.to_html();
    assert_eq!(page.charts.len(), 6);
    let position = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text} is not on the page"));
    // Failures, then from the worst on, then what cannot be judged.
    assert!(position("<td>lost</td>") < position("href=\"#red_light\""));
    assert!(position("href=\"#red_light\"") < position("<td>right_curve</td>"));
    assert!(position("<td>right_curve</td>") < position("href=\"#barriers\""));
    assert!(position("href=\"#barriers\"") < position("<td>unknown</td>"));
    position("failed: no clip.json");
    position("id=\"red_light\"");
    // Clips that are gone are not drawn, and leave nothing that leads nowhere.
    let gone: Vec<ClipItem> = items()
        .iter()
        .map(|item| ClipItem::folder(item.key(), "nowhere"))
        .collect();
    let gone = page::page(&results, &summary, &gone, 1).unwrap();
    assert!(gone.sections.is_empty() && !gone.to_html().contains("href=\"#"));
}

fn keys(patterns: &[String]) -> HashMap<String, String> {
    let items = clips::find(patterns).unwrap();
    items.iter().map(|item| (item.key(), item.source())).collect()
}

#[test]
fn clips_are_found_below_folders_and_by_globs() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for path in ["drives/a/1", "drives/a/2", "drives/b/1", "drives/b/notes"] {
        std::fs::create_dir_all(root.join(path)).unwrap();
        if !path.ends_with("notes") {
            std::fs::write(root.join(path).join("clip.json"), "{}").unwrap();
        }
    }
    let path = |name: &str| root.join(name).to_string_lossy().into_owned();
    let names = |pattern: &str| {
        let mut names: Vec<String> = keys(&[path(pattern)]).into_keys().collect();
        names.sort();
        names
    };
    assert_eq!(names("drives"), ["a/1", "a/2", "b/1"]);
    assert_eq!(names("drives/a"), ["1", "2"]);
    assert_eq!(names("drives/a/1"), ["1"]);
    assert_eq!(names("drives/*/1"), ["a/1", "b/1"]);
    assert_eq!(names("drives/[ab]"), ["a/1", "a/2", "b/1"]);
    assert_eq!(keys(&[path("drives/*/2")])["a/2"], path("drives/a/2"));
    assert_eq!(keys(&[]).len(), 0);
    for nothing in ["drives/b/notes", "drives/c", "drives/*/3", "drives/***"] {
        let error = clips::find(&[path(nothing)]).unwrap_err();
        assert!(
            matches!(&error, Error::NoClips { pattern, .. } if *pattern == path(nothing)),
            "{error}"
        );
    }
    let error = ClipItem::folder("x", PathBuf::from("/nowhere")).read().unwrap_err();
    assert!(error.to_string().contains("/nowhere"));
}

#[test]
fn seeds_are_the_same_for_ever_and_differ_from_clip_to_clip() {
    assert_eq!(
        [clips::clip_seed(42, "red_light"), clips::clip_seed(42, "a/1")],
        PINNED_SEEDS
    );
    let keys: Vec<String> = (0..10_000).map(|i| format!("clip_{i}")).collect();
    let seeds: std::collections::HashSet<u64> = keys
        .iter()
        .flat_map(|key| [clips::clip_seed(42, key), clips::clip_seed(43, key)])
        .collect();
    assert_eq!(seeds.len(), 20_000);
    assert!(seeds.iter().all(|seed| *seed < 1 << 53));
    let odd = seeds.iter().filter(|seed| *seed % 2 == 1).count();
    assert!((9_500..10_500).contains(&odd), "{odd}");
}

const PINNED_SEEDS: [u64; 2] = [4_394_005_157_276_557, 4_858_528_520_319_432];
