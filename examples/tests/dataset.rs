//! An evaluation of clips that lie in the dataset's layout: files that lie become lines, and the rest is driven and drawn.
#![cfg(feature = "dataset")]

use std::path::Path;

use alpamayo_backends::instances::Flex;
use alpamayo_core::dataset::Ffmpeg;
use alpamayo_examples::cli::bundled;
use alpamayo_examples::evaluate::dataset::DatasetArguments;
use alpamayo_examples::evaluate::{ClipRecord, Summary, drive, page};
use alpamayo_examples::figure::FigureInput;
use alpamayo_examples::run::{Interrupt, Item, ResultFile};
use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};

/// The clip whose files are sound; the made-up dataset has four more that are valid by its index, each with files that lie or lack.
const WHOLE: &str = "00000000-0000-4000-8000-00000000000a";

fn arguments() -> DatasetArguments {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../alpamayo-core/tests/data/dataset/root");
    DatasetArguments {
        dataset: Some(root),
        t0: vec![5.1, 4.321987],
        ..DatasetArguments::default()
    }
}

#[test]
fn clips_of_a_dataset_are_evaluated_and_drawn() {
    if let Err(error) = Ffmpeg::find() {
        return eprintln!("skipped: {error}");
    }
    let items = arguments().items().unwrap();
    assert_eq!(items.len(), 10, "five valid clips at two times");
    let of_validation = DatasetArguments {
        split: Some("val".into()),
        ..arguments()
    };
    let keys: Vec<String> = of_validation.items().unwrap().iter().map(Item::key).collect();
    assert_eq!(keys, [format!("{WHOLE}@5100000"), format!("{WHOLE}@4321987")]);

    let folder = tempfile::tempdir().unwrap();
    let model = Alpamayo::<Flex>::load(bundled("checkpoint"), &Default::default(), LoadOptions::default()).unwrap();
    let options = DriveOptions {
        samples: 1,
        max_generation_length: Some(64),
        ..DriveOptions::greedy()
    };
    let mut results = ResultFile::<ClipRecord>::open(&folder.path().join("results.jsonl"), &()).unwrap();
    let pending: Vec<_> = items.iter().collect();
    let outcome = drive(&model, &options, &mut results, &pending, &Interrupt::default()).unwrap();
    assert_eq!((outcome.done, outcome.failed), (2, 8));
    for key in &keys {
        let record = results.record(key).unwrap().unwrap().unwrap();
        assert_eq!((record.source.as_str(), record.name.as_str()), (WHOLE, WHOLE));
        assert!(key.ends_with(&record.t0_us.unwrap().to_string()));
        assert!(record.measures.is_some() && record.samples[0].xyz.len() == 64);
    }
    for entry in results.records() {
        let (key, outcome) = entry.unwrap();
        let id = key.split('@').next().unwrap();
        if let Err(error) = outcome {
            assert!(id != WHOLE && error.contains(id), "{key}: {error}");
        }
    }
    let summary = Summary::new(&results, &items, 1).unwrap();
    assert_eq!((summary.clips, summary.failures.len()), (2, 8));
    let html = page::page(&results, &summary, &items, 1).unwrap().to_html();
    assert!(html.contains(WHOLE) && html.contains("<image "));

    // The calibration that the dataset holds is found by the figure.
    let clip = items.iter().find(|item| item.key() == keys[0]).unwrap().read().unwrap();
    let input = FigureInput::from_clip(&clip);
    assert!(input.cameras.iter().all(|camera| camera.projection.is_some()));
    assert_eq!((input.vehicle.length, input.vehicle.width), (4.9, 1.9));
}
