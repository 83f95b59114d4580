//! Opening a checkpoint returns, whatever its bytes: an index, or a safetensors file.
#![no_main]

use std::sync::LazyLock;

use alpamayo_core::ModelConfig;
use alpamayo_models::import::{Checkpoint, CheckpointSummary, INDEX_FILE, SINGLE_FILE, Workload};
use libfuzzer_sys::fuzz_target;

static CONFIG: LazyLock<ModelConfig> = LazyLock::new(|| {
    let config = include_str!("../../tests/data/small/config.json");
    let backbone = include_str!("../../tests/data/small/backbone.json");
    ModelConfig::from_json(config, backbone).expect("the bundled configuration is sound")
});

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let file = if kind % 4 == 0 { INDEX_FILE } else { SINGLE_FILE };
    std::fs::write(directory.path().join(file), bytes).expect("the temporary directory is writable");
    if let Ok(checkpoint) = Checkpoint::open(directory.path()) {
        // Every tensor's bytes lie in the file.
        for (_, entry) in checkpoint.tensors() {
            assert_eq!(checkpoint.bytes(entry).len(), entry.size());
        }
        let summary = CheckpointSummary::new(&checkpoint, &CONFIG, Workload::one_clip(&CONFIG, 1));
        for problem in &summary.problems {
            assert!(!problem.to_string().is_empty());
        }
    }
});
