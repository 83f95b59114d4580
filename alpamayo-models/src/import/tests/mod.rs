//! Tests of the import on small checkpoints written for them.

mod bad_input;
mod corruption;
mod import;
mod names;
mod quantize;
mod summary;

use std::path::Path;

use alpamayo_core::ModelConfig;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use super::expected_tensors;

/// A tensor to be written.
#[derive(Debug, Clone)]
pub struct Stored {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// The configuration of a model of a few thousand parameters.
pub fn small_config() -> ModelConfig {
    let config = include_str!("../../../tests/data/small/config.json");
    let backbone = include_str!("../../../tests/data/small/backbone.json");
    ModelConfig::from_json(config, backbone).expect("the bundled configuration is sound")
}

/// The configuration of the released model.
pub fn released_config() -> ModelConfig {
    let config = include_str!("../../../../alpamayo-core/tests/data/released/alpamayo-r1-10b.config.json");
    let backbone = include_str!("../../../../alpamayo-core/tests/data/released/qwen3-vl-8b.config.json");
    ModelConfig::from_json(config, backbone).expect("the bundled configuration is sound")
}

/// The value at `position` of the `number`th tensor: small, different everywhere, exact in bf16 and in f16.
pub fn value(number: usize, position: usize) -> f32 {
    ((number * 31 + position * 7) % 255) as f32 / 128.0 - 1.0
}

/// All tensors of the small model with known values.
pub fn small_tensors(dtype: Dtype) -> Vec<Stored> {
    expected_tensors(&small_config())
        .into_iter()
        .enumerate()
        .map(|(number, tensor)| {
            let values = (0..tensor.elements()).map(|position| value(number, position));
            Stored {
                name: tensor.name,
                dtype,
                shape: tensor.shape,
                bytes: encode(values, dtype),
            }
        })
        .collect()
}

/// Values as a checkpoint holds them.
pub fn encode(values: impl Iterator<Item = f32>, dtype: Dtype) -> Vec<u8> {
    values
        .flat_map(|value| match dtype {
            Dtype::BF16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
            Dtype::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        })
        .collect()
}

/// A safetensors file as bytes.
pub fn safetensors(tensors: &[Stored]) -> Vec<u8> {
    let views = tensors.iter().map(|tensor| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).expect("bytes fill the shape");
        (tensor.name.as_str(), view)
    });
    serialize(views, None).expect("tensors can be written")
}

/// Writes tensors into one file.
pub fn write_single(directory: &Path, tensors: &[Stored]) {
    std::fs::write(directory.join("model.safetensors"), safetensors(tensors)).expect("temporary directory is writable");
}

/// Writes tensors into two shards with an index, the first half in the first.
pub fn write_shards(directory: &Path, tensors: &[Stored]) -> serde_json::Value {
    let mut weight_map = serde_json::Map::new();
    for (number, half) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let file = format!("model-{:05}-of-00002.safetensors", number + 1);
        std::fs::write(directory.join(&file), safetensors(half)).expect("temporary directory is writable");
        weight_map.extend(half.iter().map(|tensor| (tensor.name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": weight_map });
    write_index(directory, &index.to_string());
    index
}

/// Writes an index.
pub fn write_index(directory: &Path, text: &str) {
    std::fs::write(directory.join("model.safetensors.index.json"), text).expect("temporary directory is writable");
}
