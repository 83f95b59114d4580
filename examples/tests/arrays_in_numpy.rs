//! What NumPy makes of the arrays of an evaluation.
//!
//! Runs where Python has NumPy (`PYTHON` names another interpreter than `python3`):
//! `cargo test -p alpamayo-examples --test arrays_in_numpy -- --ignored`

use std::process::Command;

use alpamayo_backends::instances::Flex;
use alpamayo_examples::cli::bundled;
use alpamayo_examples::evaluate::{ClipItem, ClipRecord, drive, export};
use alpamayo_examples::run::{Interrupt, ResultFile};
use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};

const SCRIPT: &str = r#"
import json, sys
import numpy as np
arrays = np.load(sys.argv[1])
assert arrays["key"].tolist() == ["red_light", "right_curve"], arrays["key"]
assert arrays["xyz"].shape == (2, 2, 64, 3) and arrays["xyz"].dtype == np.float32
assert arrays["yaw"].shape == (2, 2, 64) and arrays["stopped"].dtype == bool
assert json.loads(str(arrays["options"])) == {"samples": 2}
assert arrays["failed_key"].tolist() == ["gone"] and "clip.json" in str(arrays["failed_error"][0])
# minADE from the arrays alone is what the file says.
distance = np.linalg.norm(arrays["xyz"][..., :2].astype(float) - arrays["truth_xyz"][:, None, :, :2], axis=-1).mean(-1)
assert (distance.argmin(1) == arrays["best_sample"]).all()
assert np.allclose(distance.min(1), arrays["min_ade_6.4s"], atol=1e-6), (distance, arrays["min_ade_6.4s"])
print(json.dumps([str(text) for text in arrays["reasoning"].ravel()]))
"#;

#[test]
#[ignore = "needs Python with NumPy"]
fn numpy_reads_the_arrays_of_an_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["red_light", "gone", "right_curve"];
    let items = names.map(|name| ClipItem::folder(name, bundled("clips").join(name)));
    let model = Alpamayo::<Flex>::load(bundled("checkpoint"), &Default::default(), LoadOptions::default()).unwrap();
    let options = DriveOptions {
        samples: 2,
        max_generation_length: Some(64),
        ..DriveOptions::default()
    };
    let recorded = serde_json::json!({"samples": 2});
    let mut results = ResultFile::<ClipRecord>::open(&folder.path().join("results.jsonl"), &recorded).unwrap();
    let pending: Vec<_> = items.iter().collect();
    drive(&model, &options, &mut results, &pending, &Interrupt::default()).unwrap();
    let path = folder.path().join("results.npz");
    export::write(&results, &items, 2, &path).unwrap();

    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).args(["-c", SCRIPT]).arg(&path).output();
    let output = output.unwrap_or_else(|error| panic!("{python}: {error}; install Python or set PYTHON to its path"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    let records = results.records().filter_map(|entry| entry.unwrap().1.ok());
    let expected: Vec<String> = records
        .flat_map(|record| record.samples.into_iter().map(|sample| sample.reasoning))
        .collect();
    assert_eq!(found, expected);
}
