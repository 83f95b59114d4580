//! Every kernel that the released model launches, as Metal's source for an M1 and as WGSL: compiled, validated, and within the
//! limits of the GPU.

use std::path::PathBuf;

use alpamayo_backends::layers::WeightFormat;
use alpamayo_benches::paper::{Cuda, Kernel, Metal, Paper, PaperDevice, Target, Wgsl};
use alpamayo_core::{Frame, ImageProcessor, ModelConfig, MultimodalPositions};
use alpamayo_models::pipeline::Prompt;
use alpamayo_models::{Alpamayo, DriveOptions, LoadOptions};
use naga::back::msl;
use naga::valid::{Capabilities, ValidationFlags, Validator};

fn released_config() -> ModelConfig {
    let config = include_str!("../../examples/data/r1-10b/config.json");
    let backbone = include_str!("../../examples/data/r1-10b/backbone.json");
    ModelConfig::from_json(config, backbone).unwrap()
}

/// Runs all stages at the released size, with weights of random values in a format: sixteen frames of 1080 x 1920, a prompt of 3,006
/// tokens, `samples` rows, three tokens, two flow steps.
fn run<T: Target>(weights: WeightFormat, samples: usize) {
    let config = released_config();
    let options = LoadOptions {
        weight_format: Some(weights),
        ..LoadOptions::default()
    };
    let model = Alpamayo::<Paper<T>>::random(&config, None, &PaperDevice::default(), &options).unwrap();
    let frames: Vec<Frame> = (0..16)
        .map(|_| Frame::new(1920, 1080, vec![0; 1920 * 1080 * 3]).unwrap())
        .collect();
    let patches = ImageProcessor::new(&config).process(&frames).unwrap();
    let pad = u32::MAX;
    let mut ids: Vec<u32> = vec![0; 18];
    for tokens in patches.tokens_per_image() {
        ids.push(1);
        ids.extend(std::iter::repeat_n(pad, tokens));
        ids.push(2);
    }
    ids.extend(vec![3; 76]);
    assert_eq!(ids.len(), 3006);
    let merge = config.vision.spatial_merge_size;
    let positions = MultimodalPositions::new(&ids, pad, &patches.grid_thw, merge).unwrap();
    let prompt = Prompt::new(ids, pad, positions);
    let options = DriveOptions {
        samples,
        max_generation_length: Some(3),
        flow_steps: Some(2),
        ..DriveOptions::default()
    };
    let features = model.encode(&patches, &mut ()).unwrap();
    let prefilled = model.prefill(&[prompt], &features, &mut ()).unwrap();
    let generation = model.generate(&prefilled, &options, &mut ()).unwrap();
    model.flow(&generation, &options, &mut ()).unwrap();
}

fn run_all<T: Target>() -> Vec<Kernel> {
    for weights in [WeightFormat::Bf16, WeightFormat::Int8, WeightFormat::Int4] {
        for samples in [1, 6] {
            run::<T>(weights, samples);
        }
    }
    let kernels: Vec<Kernel> = T::kernels().values().cloned().collect();
    let limits = T::properties();
    let hardware = limits.hardware;
    for kernel in &kernels {
        println!(
            "{:<28} {:>7} launches, {:?} units, {:>5} B shared, {} buffers up to {:>10} B, up to {:?} workgroups",
            kernel.name,
            kernel.launches,
            kernel.units,
            kernel.shared_bytes,
            kernel.buffers,
            kernel.largest_buffer,
            kernel.workgroups
        );
        assert!(kernel.source.is_ok(), "{}: {:?}", kernel.name, kernel.source);
        assert!(
            kernel.shared_bytes <= hardware.max_shared_memory_size,
            "{}",
            kernel.name
        );
        assert!(
            kernel.units.iter().product::<u32>() <= hardware.max_units_per_cube,
            "{}",
            kernel.name
        );
        assert!(kernel.buffers <= hardware.max_bindings as usize, "{}", kernel.name);
        assert!(kernel.largest_buffer <= limits.memory.max_page_size, "{}", kernel.name);
        assert!(
            kernel.workgroups.iter().all(|&count| count <= 65_535),
            "{}",
            kernel.name
        );
    }
    // The large ones are there.
    for part in [
        "matvec",
        // By the matrix-vector kernel or, where tensor cores take integers, by theirs.
        "quantized_",
        "matmul",
        "widen_rows",
        "norm_rows",
        "lookup",
        "random_words",
    ] {
        assert!(
            kernels.iter().any(|kernel| kernel.name.contains(part)),
            "{part} was not launched"
        );
    }
    kernels
}

/// Where the sources are left to be looked at.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn every_kernel_of_the_released_model_is_metal_within_an_m1s_limits() {
    let folder = folder("metal");
    for (number, kernel) in run_all::<Metal>().iter().enumerate() {
        let source = kernel.source.as_ref().unwrap();
        assert!(
            source.contains("[[kernel]]") && source.contains("metal_stdlib"),
            "{source}"
        );
        std::fs::write(folder.join(format!("{number:03}_{}.metal", kernel.name)), source).unwrap();
    }
}

#[test]
fn every_kernel_of_the_released_model_is_valid_wgsl_that_naga_turns_into_metal() {
    let folder = folder("wgsl");
    for (number, kernel) in run_all::<Wgsl>().iter().enumerate() {
        let source = kernel.source.as_ref().unwrap();
        std::fs::write(folder.join(format!("{number:03}_{}.wgsl", kernel.name)), source).unwrap();
        let module = naga::front::wgsl::parse_str(source)
            .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(source)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}: {error:?}", kernel.name));
        let options = msl::Options {
            fake_missing_bindings: true,
            ..msl::Options::default()
        };
        let (metal, _) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|error| panic!("{}: {error}", kernel.name));
        assert!(metal.contains("kernel void"), "{metal}");
    }
}

/// CUDA's compiler is NVIDIA's and isn't here; what is shown is that every kernel has a source, those on tensor cores too.
#[test]
fn every_kernel_of_the_released_model_is_cuda_within_an_h100s_limits() {
    let folder = folder("cuda");
    let kernels = run_all::<Cuda>();
    for (number, kernel) in kernels.iter().enumerate() {
        let source = kernel.source.as_ref().unwrap();
        assert!(source.contains("__global__"), "{source}");
        std::fs::write(folder.join(format!("{number:03}_{}.cu", kernel.name)), source).unwrap();
    }
    for part in ["streamed", "quantized_streamed", "quantized_integer"] {
        assert!(
            kernels.iter().any(|kernel| kernel.name.starts_with(part)),
            "{part} was not launched"
        );
    }
}
