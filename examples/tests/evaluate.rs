//! An evaluation with the trained miniature: stopped and gone on with, in shards, with clips that fail.

use std::collections::BTreeMap;
use std::path::Path;

use alpamayo_backends::instances::Flex;
use alpamayo_core::Clip;
use alpamayo_core::metrics::min_ade;
use alpamayo_examples::cli::bundled;
use alpamayo_examples::evaluate::record::Times;
use alpamayo_examples::evaluate::{ClipItem, ClipRecord, clips, drive};
use alpamayo_examples::run::{self, Interrupt, Item, Outcome, ResultFile, RunArguments};
use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};

const CLIPS: [&str; 3] = ["barriers", "red_light", "slow_truck"];

fn items() -> Vec<ClipItem> {
    let mut items: Vec<ClipItem> = CLIPS
        .map(|name| ClipItem::folder(name, bundled("clips").join(name)))
        .into();
    items.insert(1, ClipItem::folder("gone", bundled("clips/gone")));
    items
}

fn options() -> DriveOptions {
    DriveOptions {
        samples: 2,
        seed: 5,
        max_generation_length: Some(64),
        ..DriveOptions::default()
    }
}

fn evaluate(model: &Alpamayo<Flex>, path: &Path, items: &[ClipItem], arguments: RunArguments) -> Outcome {
    let mut results = ResultFile::open(path, &"options").unwrap();
    let pending = run::pending(items, &results, &arguments).unwrap();
    drive(model, &options(), &mut results, &pending, &Interrupt::default()).unwrap()
}

/// Records without what differs from run to run.
fn records(path: &Path) -> BTreeMap<String, Result<ClipRecord, String>> {
    let results = ResultFile::<ClipRecord>::open(path, &"options").unwrap();
    let timeless = |record: ClipRecord| ClipRecord {
        times_ms: Times::default(),
        ..record
    };
    let entries = results.records().map(|entry| entry.unwrap());
    entries.map(|(key, outcome)| (key, outcome.map(timeless))).collect()
}

#[test]
fn a_run_in_pieces_is_a_run_at_once_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let model = Alpamayo::<Flex>::load(bundled("checkpoint"), &Default::default(), LoadOptions::default()).unwrap();
    let items = items();
    let outcome = evaluate(&model, &path("whole.jsonl"), &items, RunArguments::default());
    assert_eq!((outcome.done, outcome.failed), (3, 1));
    let whole = records(&path("whole.jsonl"));

    // Torn in the second line, then gone on with.
    let bytes = std::fs::read(path("whole.jsonl")).unwrap();
    std::fs::write(path("torn.jsonl"), &bytes[..bytes.len() / 2]).unwrap();
    let outcome = evaluate(&model, &path("torn.jsonl"), &items, RunArguments::default());
    assert!(outcome.done < 3);
    assert_eq!(records(&path("torn.jsonl")), whole);

    // Two shards, put together.
    let mut together = Vec::new();
    for shard in ["1/2", "2/2"] {
        let arguments = RunArguments {
            shard: shard.parse().unwrap(),
            retry_failed: false,
        };
        evaluate(&model, &path("shard.jsonl"), &items, arguments);
        together.extend(std::fs::read(path("shard.jsonl")).unwrap());
        std::fs::remove_file(path("shard.jsonl")).unwrap();
    }
    std::fs::write(path("together.jsonl"), together).unwrap();
    assert_eq!(records(&path("together.jsonl")), whole);

    let gone = whole["gone"].as_ref().unwrap_err();
    assert!(gone.contains("clip.json"), "{gone}");
    for name in CLIPS {
        check(&model, name, whole[name].as_ref().unwrap());
    }
}

/// A record is what `drive` gives with its seed.
fn check(model: &Alpamayo<Flex>, name: &str, record: &ClipRecord) {
    let clip = Clip::read(bundled("clips").join(name)).unwrap();
    let seed = clips::clip_seed(5, &ClipItem::folder(name, "").key());
    assert_eq!(record.seed, seed);
    let plan = model.drive(&clip, &DriveOptions { seed, ..options() }).unwrap();
    for (sample, (reasoning, trajectory)) in record.samples.iter().zip(plan.reasoning.iter().zip(&plan.trajectories)) {
        assert_eq!((&sample.reasoning, &sample.xyz), (reasoning, &trajectory.xyz));
        assert_eq!(sample.yaw, trajectory.yaw());
    }
    let positions: Vec<_> = plan.trajectories.iter().map(|trajectory| trajectory.xyz()).collect();
    let expected = min_ade(&positions, clip.ego_future_xyz.as_deref().unwrap(), 0.1).unwrap();
    let measures = record.measures.as_ref().unwrap();
    assert_eq!(
        (measures.best_sample, measures.best.ade, measures.best.fde),
        (expected.sample, expected.ade, expected.fde)
    );
    assert_eq!(measures.best.at_horizons, expected.at_horizons);
    assert!(measures.best.ade < measures.constant_velocity.ade);
}
