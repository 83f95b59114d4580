//! Loading onto a device through wgpu takes little memory besides the weights.
#![cfg(all(feature = "vulkan", target_os = "linux"))]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use alpamayo_backends::instances::{Wgpu, WgpuDevice};
use alpamayo_backends::layers::WeightFormat;
use alpamayo_core::ModelConfig;
use alpamayo_models::ParameterSource;
use alpamayo_models::import::{Checkpoint, CheckpointSource, ExpectedTensor, expected_tensors};
use burn::tensor::backend::Backend;

/// Rows of the embedding and of the output head: 512 MB each.
const VOCABULARY: usize = 8_000_000;

fn config() -> ModelConfig {
    let mut config = ModelConfig::from_json(
        include_str!("../../alpamayo-models/tests/data/small/config.json"),
        include_str!("../../alpamayo-models/tests/data/small/backbone.json"),
    )
    .unwrap();
    config.vocab_size = VOCABULARY;
    config
}

/// Writes a checkpoint of zeros, most of which takes no place on the disk.
fn write_zeros(directory: &Path, tensors: &[ExpectedTensor]) {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += 2 * tensor.elements();
        let entry = serde_json::json!({ "dtype": "BF16", "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = File::create(directory.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

/// Bytes of this process's memory in a field of the system's table.
fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() << 10
}

#[test]
fn two_large_tables_take_little_more_than_themselves() {
    let config = config();
    let directory = tempfile::tempdir().unwrap();
    write_zeros(directory.path(), &expected_tensors(&config));
    let device = WgpuDevice::default();
    // Driver and compiler are there before anything is measured.
    Wgpu::sync(&device).unwrap();
    let hidden = config.text.hidden_size;
    let weights = 2 * VOCABULARY * hidden * 2;

    let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
    let before = memory("VmRSS:");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let mut source = CheckpointSource::<Wgpu>::new(checkpoint, &config, WeightFormat::Bf16, &device, None).unwrap();
    let table = source.embedding("decoder.embed_tokens", VOCABULARY, hidden).unwrap();
    let head = source.linear("decoder.lm_head", hidden, &[VOCABULARY], false).unwrap();
    source.finish().unwrap();
    assert_eq!(
        (table.shape(), head.weight.shape()),
        ((VOCABULARY, hidden), (VOCABULARY, hidden))
    );

    // On a software renderer the device's memory is this process's. A table as a whole beside the device's would be half a gigabyte.
    let peak = memory("VmHWM:").saturating_sub(before);
    let besides = peak.saturating_sub(weights);
    println!("{besides} bytes besides {weights} of weights");
    assert!(besides < 768 << 20, "{besides} bytes besides {weights} of weights");
}
