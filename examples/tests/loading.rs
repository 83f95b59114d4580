//! Loading onto a device through wgpu takes little memory besides the weights, and asks for nothing that the device can't store.
#![cfg(all(feature = "vulkan", target_os = "linux"))]

#[path = "../../alpamayo-models/tests/sparse/mod.rs"]
mod sparse;

use std::sync::Arc;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::instances::{Wgpu, WgpuDevice};
use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_models::import::{Checkpoint, CheckpointSource, expected_tensors};
use alpamayo_models::{Alpamayo, Error, LoadOptions, ParameterSource};
use burn::tensor::backend::Backend;
use sparse::{memory, small_config, write_zeros};

/// Rows and columns of the released embedding and output head: 1.28 GB each.
const VOCABULARY: usize = 155_697;
const HIDDEN: usize = 4096;

#[test]
fn two_large_tables_take_little_more_than_themselves() {
    let mut config = small_config();
    (config.vocab_size, config.text.hidden_size) = (VOCABULARY, HIDDEN);
    let directory = tempfile::tempdir().unwrap();
    write_zeros(directory.path(), &expected_tensors(&config));
    let device = WgpuDevice::default();
    // Driver and compiler are there before anything is measured.
    Wgpu::sync(&device).unwrap();
    let weights = 2 * VOCABULARY * HIDDEN * 2;

    let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
    let before = memory("VmRSS:");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let mut source = CheckpointSource::<Wgpu>::new(checkpoint, &config, WeightFormat::Bf16, &device, None).unwrap();
    let table = source.embedding("decoder.embed_tokens", VOCABULARY, HIDDEN).unwrap();
    let head = source.linear("decoder.lm_head", HIDDEN, &[VOCABULARY], false).unwrap();
    source.finish().unwrap();
    assert_eq!(
        (table.shape(), head.weight.shape()),
        ((VOCABULARY, HIDDEN), (VOCABULARY, HIDDEN))
    );

    // On a software renderer the device's memory is this process's. A table as a whole beside the device's would be 1.28 GB.
    let peak = memory("VmHWM:").saturating_sub(before);
    let besides = peak.saturating_sub(weights);
    println!("{besides} bytes besides {weights} of weights");
    assert!(besides < 768 << 20, "{besides} bytes besides {weights} of weights");
}

#[test]
fn a_cache_that_the_device_cannot_store_is_refused_before_anything_is_loaded() {
    let device = WgpuDevice::default();
    let options = LoadOptions {
        cache_format: Some(CacheFormat::Bf16),
        ..LoadOptions::default()
    };
    let model = Alpamayo::<Wgpu>::random(&small_config(), None, &device, &options);
    match (Wgpu::supports_cache_format(CacheFormat::Bf16, &device), model) {
        (true, model) => drop(model.unwrap()),
        (false, Err(error)) => assert!(
            matches!(
                error,
                Error::Argument {
                    argument: "cache_format",
                    ..
                }
            ),
            "{error}"
        ),
        (false, Ok(_)) => panic!("a cache was accepted that this device can't store"),
    }
}
