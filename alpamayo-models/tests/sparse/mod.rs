//! A checkpoint of zeros, and what the system says of this process's memory.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use alpamayo_core::ModelConfig;
use alpamayo_models::import::ExpectedTensor;

/// The configuration of a model of a few thousand parameters.
pub fn small_config() -> ModelConfig {
    ModelConfig::from_json(
        include_str!("../data/small/config.json"),
        include_str!("../data/small/backbone.json"),
    )
    .unwrap()
}

/// Writes a checkpoint of zeros, most of which takes no place on the disk.
pub fn write_zeros(directory: &Path, tensors: &[ExpectedTensor]) {
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

/// Bytes of this process's memory in a field of the system's table; 0 where there is no such table.
pub fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kilobytes.unwrap_or(0) << 10
}
