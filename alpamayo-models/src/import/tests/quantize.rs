//! Checkpoints in few bits.

use std::path::Path;
use std::sync::Arc;

use alpamayo_backends::instances::Flex;
use alpamayo_backends::layers::{Quantization, Weight, WeightFormat};
use safetensors::Dtype;
use tempfile::tempdir;

use super::super::{
    Checkpoint, CheckpointSource, CheckpointSummary, SINGLE_FILE, TensorProblem, Workload, memory_needs, quantize,
    weight_bytes,
};
use super::{released_config, safetensors, small_config, small_tensors, write_single};
use crate::network::Network;
use crate::token_table::{TablePlacement, TokenTable};

fn write_quantized(from: &Path, to: &Path, scheme: Quantization) {
    let checkpoint = Checkpoint::open(from).unwrap();
    quantize(&checkpoint, &small_config(), scheme, &to.join(SINGLE_FILE), &mut |_| {}).unwrap();
}

fn network(directory: &Path, format: WeightFormat) -> Network<Flex> {
    let checkpoint = Arc::new(Checkpoint::open(directory).unwrap());
    let device = Default::default();
    let mut source = CheckpointSource::<Flex>::new(checkpoint, &small_config(), format, &device, None).unwrap();
    let network = Network::new(&small_config(), &mut source).unwrap();
    source.finish().unwrap();
    network
}

/// The bits of some weights of every part, as stored.
fn stored(network: &Network<Flex>) -> Vec<Vec<i32>> {
    let layer = &network.decoder.layers[0];
    let TokenTable::Device(table) = &network.decoder.embed_tokens else {
        panic!("the table is on the device")
    };
    let weights = [
        &network.vision.patch_embed.projection.weight,
        &network.vision.blocks[0].qkv.weight,
        &layer.qkv.weight,
        &layer.gate_up.weight,
        &network.decoder.lm_head.weight,
        table,
        &network.expert.layers[0].down_proj.weight,
    ];
    let words = |weight: &Weight<Flex>| match weight {
        Weight::Quantized(weight) => weight.words.val().into_data().to_vec().unwrap(),
        Weight::Bf16(weight) => weight.words.val().into_data().to_vec().unwrap(),
        Weight::Float(_) | Weight::Split(_) => panic!("everything is stored as words"),
    };
    weights.map(words).into()
}

#[test]
fn a_quantised_file_is_what_quantising_at_load_gives() {
    let (original, written) = (tempdir().unwrap(), tempdir().unwrap());
    write_single(original.path(), &small_tensors(Dtype::BF16));
    for scheme in [Quantization::Int8, Quantization::Int4] {
        write_quantized(original.path(), written.path(), scheme);
        let checkpoint = Checkpoint::open(written.path()).unwrap();
        assert_eq!(checkpoint.quantization(), Some(scheme));
        let at_load = network(original.path(), scheme.into());
        let from_file = network(written.path(), scheme.into());
        assert_eq!(stored(&from_file), stored(&at_load), "{scheme:?}");
        assert!(matches!(at_load.decoder.layers[0].qkv.weight, Weight::Quantized(ref w) if w.quantization == scheme));
    }
}

#[test]
fn a_quantised_file_can_be_widened_at_load() {
    let (original, written) = (tempdir().unwrap(), tempdir().unwrap());
    write_single(original.path(), &small_tensors(Dtype::BF16));
    write_quantized(original.path(), written.path(), Quantization::Int8);
    let widened = network(written.path(), WeightFormat::F32);
    let kept = network(written.path(), WeightFormat::Int8);
    let values = |network: &Network<Flex>| {
        alpamayo_backends::definition::float_weight(&network.decoder.layers[1].down_proj.weight).into_data()
    };
    assert!(matches!(widened.decoder.layers[1].down_proj.weight, Weight::Float(_)));
    assert_eq!(values(&widened), values(&kept));
}

#[test]
fn a_file_in_another_layout_is_refused() {
    let (original, written) = (tempdir().unwrap(), tempdir().unwrap());
    write_single(original.path(), &small_tensors(Dtype::BF16));
    write_quantized(original.path(), written.path(), Quantization::Int8);
    let path = written.path().join(SINGLE_FILE);
    let bytes = std::fs::read(&path).unwrap();
    // The number is the last of a description; files of the first layout have none.
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    assert!(header.contains(" 2\""), "{header}");
    for (number, named) in [("  \"", "layout 1"), (" 3\"", "layout 3")] {
        let mut bytes = bytes.clone();
        let changed = header.replace(" 2\"", number).replace("  \"", "\"  ");
        bytes[8..8 + length].copy_from_slice(changed.as_bytes());
        std::fs::write(&path, bytes).unwrap();
        let error = Checkpoint::open(written.path()).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn quantising_twice_is_refused() {
    let (original, written, again) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    write_single(original.path(), &small_tensors(Dtype::BF16));
    write_quantized(original.path(), written.path(), Quantization::Int8);
    let checkpoint = Checkpoint::open(written.path()).unwrap();
    let path = again.path().join(SINGLE_FILE);
    let error = quantize(&checkpoint, &small_config(), Quantization::Int4, &path, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("int8"), "{error}");
    assert!(!path.exists());
}

#[test]
fn the_summary_counts_values_not_words() {
    let (original, written) = (tempdir().unwrap(), tempdir().unwrap());
    write_single(original.path(), &small_tensors(Dtype::BF16));
    write_quantized(original.path(), written.path(), Quantization::Int4);
    let summary = |directory: &Path| {
        let config = small_config();
        CheckpointSummary::new(
            &Checkpoint::open(directory).unwrap(),
            &config,
            Workload::one_clip(&config, 1),
        )
    };
    let (before, after) = (summary(original.path()), summary(written.path()));
    assert!(after.problems.is_empty(), "{:?}", after.problems);
    assert_eq!(after.total.parameters, before.total.parameters);
    for (before, after) in before.parts.iter().zip(&after.parts) {
        assert_eq!(after.found.parameters, before.found.parameters);
    }
}

#[test]
fn words_of_another_width_are_named() {
    let directory = tempdir().unwrap();
    let mut tensors = small_tensors(Dtype::BF16);
    let name = "vlm.model.language_model.layers.0.mlp.down_proj.weight";
    let tensor = tensors.iter_mut().find(|tensor| tensor.name == name).unwrap();
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let words = Quantization::Int8.row_words(columns + 128);
    tensor.dtype = Dtype::I32;
    tensor.shape = vec![rows, words];
    tensor.bytes = vec![0; 4 * rows * words];
    let metadata = Some([(name.to_owned(), format!("int8 {} 2", columns + 128))].into());
    let views = tensors.iter().map(|tensor| {
        let view = safetensors::tensor::TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap();
        (tensor.name.as_str(), view)
    });
    let bytes = safetensors::serialize(views, metadata).unwrap();
    std::fs::write(directory.path().join(SINGLE_FILE), bytes).unwrap();
    let problems = super::super::problems(&Checkpoint::open(directory.path()).unwrap(), &small_config());
    assert!(
        matches!(problems.as_slice(), [TensorProblem::Shape { name: found, .. }] if found == name),
        "{problems:?}"
    );
    // Without the metadata the words mean nothing.
    std::fs::write(directory.path().join(SINGLE_FILE), safetensors(&tensors)).unwrap();
    let problems = super::super::problems(&Checkpoint::open(directory.path()).unwrap(), &small_config());
    assert!(
        problems
            .iter()
            .any(|problem| matches!(problem, TensorProblem::UnsupportedType { name: found, .. } if found == name)),
        "{problems:?}"
    );
}

#[test]
fn the_released_size_fits_small_devices() {
    let config = released_config();
    let bytes = |format| weight_bytes(&config, format, TablePlacement::Device);
    let (eight, four) = (bytes(WeightFormat::Int8), bytes(WeightFormat::Int4));
    assert!(eight <= 13_000_000_000, "{eight}");
    assert!(four <= 8_500_000_000, "{four}");
    // And no less than the bits that are promised: 8.5 and 4.5 per weight, 16 per embedding.
    let embedding = 2 * 155_697 * 4096;
    assert!(eight > embedding + 10_400_000_000 * 17 / 16, "{eight}");
    assert!(four > embedding + 9_000_000_000 * 9 / 16, "{four}");
    let needs = memory_needs(&config, &Workload::one_clip(&config, 1));
    // Vulkan's and WebGPU's devices may share the host's memory, where a table on the host saves nothing.
    for (backend, on_host) in [("cuda", embedding), ("metal", 0), ("vulkan", 0), ("wgpu", 0)] {
        let need = |weights| {
            needs
                .iter()
                .find(|need| need.backend == backend && need.weights == weights)
        };
        assert_eq!(need("int8").unwrap().weight_bytes, eight - on_host);
        assert_eq!(need("int4").unwrap().weight_bytes, four - on_host);
    }
}
