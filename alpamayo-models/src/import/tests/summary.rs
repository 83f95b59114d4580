//! The summary of a checkpoint.

use std::collections::HashMap;

use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use tempfile::tempdir;

use super::super::{Checkpoint, CheckpointSummary, Part, TensorProblem, Workload, check_memory, memory_needs};
use super::{released_config, small_config, small_tensors, write_shards};
use crate::error::Error;
use crate::token_table::TablePlacement;

#[test]
fn counts_what_is_there() {
    let directory = tempdir().unwrap();
    let mut tensors = small_tensors(Dtype::BF16);
    tensors.retain(|tensor| !tensor.name.starts_with("action_space") && tensor.name != "expert.norm.weight");
    write_shards(directory.path(), &tensors);
    let config = small_config();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let summary = CheckpointSummary::new(&checkpoint, &config, Workload::one_clip(&config, 1));

    assert_eq!(summary.files.len(), 2);
    assert_eq!(summary.total.tensors, tensors.len());
    assert_eq!(
        summary.total.bytes,
        tensors.iter().map(|tensor| tensor.bytes.len() as u64).sum::<u64>()
    );
    assert_eq!(summary.total.parameters * 2, summary.total.bytes);
    assert_eq!(summary.by_type.keys().collect::<Vec<_>>(), ["BF16"]);
    assert_eq!(
        summary.parts.iter().map(|part| part.found.tensors).sum::<usize>(),
        tensors.len()
    );
    let expert = summary.parts.iter().find(|part| part.part == Part::Expert).unwrap();
    assert_eq!(expert.expected_tensors, expert.found.tensors + 1);
    assert_eq!(summary.rebuilt_buffers.len(), 4);
    assert!(
        matches!(summary.problems.as_slice(), [TensorProblem::Missing { name, .. }] if name == "expert.norm.weight")
    );

    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["problems"][0]["problem"], "missing");
    assert_eq!(json["parts"][2]["part"], "lm_head");
}

#[test]
fn memory_of_the_released_size() {
    let config = released_config();
    let workload = Workload {
        clips: 1,
        samples: 6,
        prompt_tokens: 3_006,
        generated_tokens: 256,
    };
    let needs = memory_needs(&config, &workload);
    let need = |backend: &str, weights: &str| {
        needs
            .iter()
            .find(|need| need.backend == backend && need.weights == weights)
            .unwrap()
    };
    let cuda = need("cuda", "bf16");
    // 11,078,526,194 parameters of two bytes, vectors and buffers of four.
    assert!(
        (22_157_052_388..22_162_000_000).contains(&cuda.weight_bytes),
        "{}",
        cuda.weight_bytes
    );
    // 36 layers · 2 · 8 heads · 128 features · 2 bytes · (3,006 + 6 · 256) tokens
    assert_eq!(cuda.cache_bytes, 36 * 2 * 8 * 128 * 2 * (3_006 + 6 * 256));
    assert_eq!(need("vulkan", "bf16").cache_bytes, 2 * cuda.cache_bytes);
    // Embedding and output head, 155,697 x 4,096.
    assert_eq!(cuda.largest_bytes, 155_697 * 4096 * 2);
    assert_eq!(need("vulkan", "f32").largest_bytes, 155_697 * 4096 * 4);
    assert!(Workload::one_clip(&config, 6).prompt_tokens >= 3_006);
}

#[test]
fn numbers_that_no_memory_holds_are_counted_as_the_largest() {
    let directory = tempdir().unwrap();
    let bytes = [0; 16];
    let view = || TensorView::new(Dtype::I32, vec![2, 2], &bytes).unwrap();
    let most = format!("int8 {} 2", usize::MAX);
    let metadata = HashMap::from(["a", "b"].map(|name| (name.to_owned(), most.clone())));
    let file = serialize([("a", view()), ("b", view())], Some(metadata)).unwrap();
    std::fs::write(directory.path().join("model.safetensors"), file).unwrap();
    let config = small_config();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let workload = Workload {
        clips: usize::MAX,
        samples: 2,
        prompt_tokens: usize::MAX,
        generated_tokens: usize::MAX,
    };
    let summary = CheckpointSummary::new(&checkpoint, &config, workload);
    assert_eq!(summary.total.parameters, u64::MAX);
    assert_eq!(workload.cache_bytes(&config, CacheFormat::F32), u64::MAX);
    assert!(summary.memory.iter().all(|need| need.total_bytes() == u64::MAX));
}

#[test]
fn a_device_with_too_little_memory_is_told_what_would_fit() {
    let config = released_config();
    let check = |gigabytes: u64, weights, cache| {
        check_memory(
            &config,
            (weights, cache),
            &|weights| TablePlacement::of(weights, Some(true)),
            "cuda:0",
            gigabytes * 1_000_000_000,
        )
    };
    for (gigabytes, weights, cache) in [
        (80, WeightFormat::F32, CacheFormat::F32),
        (24, WeightFormat::Bf16, CacheFormat::Bf16),
        (16, WeightFormat::Int8, CacheFormat::Bf16),
    ] {
        check(gigabytes, weights, cache).unwrap();
    }
    let error = check(40, WeightFormat::F32, CacheFormat::F32).unwrap_err().to_string();
    assert!(
        error.contains("takes 45.") && error.contains("cuda:0 has 40.0 GB"),
        "{error}"
    );
    assert!(error.contains("choose weights in bf16 (23."), "{error}");
    let error = check(16, WeightFormat::Bf16, CacheFormat::Bf16).unwrap_err();
    assert!(
        matches!(
            error,
            Error::DeviceMemory {
                available: 16_000_000_000,
                ..
            }
        ),
        "{error}"
    );
    let error = error.to_string();
    assert!(
        error.contains("choose weights in int8 (1") && !error.contains("f32"),
        "{error}"
    );
    let error = check(4, WeightFormat::Int4, CacheFormat::Bf16).unwrap_err().to_string();
    assert!(error.ends_with("choose a device with more"), "{error}");
}
