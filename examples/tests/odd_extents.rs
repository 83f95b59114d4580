//! Extents that the bundled models don't have, on every device that this build and this machine have, against Flex: heads whose
//! size is no multiple of eight, no deepstack or one late, one camera or seven, batches of several samples.
#![cfg(any(
    feature = "candle",
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda"
))]

use std::path::Path;
use std::sync::Arc;

use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_backends::{BackendKind, Device, DeviceVisitor, ModelBackend};
use alpamayo_core::{ModelConfig, MultimodalPositions, Patches};
use alpamayo_models::import::{Checkpoint, CheckpointSource, ExpectedTensor, expected_tensors};
use alpamayo_models::pipeline::Prompt;
use alpamayo_models::{Alpamayo, DriveOptions, Event, LoadOptions, Network, Observer};
use burn::tensor::{Tensor, backend::Backend};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

/// Of what the network computes, and of what lies behind sines of large angles.
const TOLERANCE: f64 = 1e-5;
const SINE_TOLERANCE: f64 = 3e-5;
/// `<|image_pad|>` in the small configuration.
const IMAGE_PAD: u32 = 460;
/// Patches of an image: time steps, rows, columns.
const GRID: [usize; 3] = [1, 4, 6];
const CLIPS: usize = 2;
const SAMPLES: usize = 2;

fn config(deepstack: &[usize]) -> ModelConfig {
    let mut config = ModelConfig::from_json(
        include_str!("../../alpamayo-models/tests/data/small/config.json"),
        include_str!("../../alpamayo-models/tests/data/small/backbone.json"),
    )
    .unwrap();
    let vision = &mut config.vision;
    (vision.hidden_size, vision.num_heads, vision.depth) = (48, 4, 4);
    vision.deepstack_visual_indexes = deepstack.to_vec();
    for decoder in [&mut config.text, &mut config.expert] {
        (decoder.head_dim, decoder.mrope_section) = (20, [4, 3, 3]);
        (decoder.num_attention_heads, decoder.num_key_value_heads) = (4, 2);
    }
    config
}

/// Values that look random, uniform in ±1, the same for the same seed.
fn uniform(seed: usize, count: usize) -> Vec<f32> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Weights that keep activations at their size, norms around one.
fn values(seed: usize, tensor: &ExpectedTensor) -> Vec<f32> {
    let (centre, scale) = match tensor.shape.as_slice() {
        [_] if tensor.name.ends_with(".weight") => (1.0, 0.2),
        [_, inputs @ ..] if !inputs.is_empty() => (0.0, (3.0 / inputs.iter().product::<usize>() as f32).sqrt()),
        _ => (0.0, 0.2),
    };
    let values = uniform(seed + 1, tensor.elements());
    values.into_iter().map(|value| centre + scale * value).collect()
}

fn write_checkpoint(config: &ModelConfig, directory: &Path) {
    let tensors: Vec<_> = expected_tensors(config)
        .into_iter()
        .filter(|tensor| !tensor.optional)
        .collect();
    let bytes: Vec<Vec<u8>> = (tensors.iter().enumerate())
        .map(|(seed, tensor)| {
            values(seed, tensor)
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).unwrap();
        (tensor.name.as_str(), view)
    });
    std::fs::write(directory.join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
}

fn patches(config: &ModelConfig, images: usize) -> Patches {
    let vision = &config.vision;
    let count = images * GRID.iter().product::<usize>() * vision.in_channels * vision.patch_size * vision.patch_size;
    Patches {
        pixels: uniform(1000, count)
            .into_iter()
            .map(|value| (127.5 * (value + 1.0)) as u8)
            .collect(),
        grid_thw: vec![GRID; images],
        channels: vision.in_channels,
        patch_size: vision.patch_size,
        temporal_patch_size: vision.temporal_patch_size,
        spatial_merge_size: vision.spatial_merge_size,
    }
}

fn prompt(config: &ModelConfig, clip: usize, images: usize) -> Prompt {
    let merge = config.vision.spatial_merge_size;
    let tokens = GRID.iter().product::<usize>() / (merge * merge);
    let image = |index: usize| [vec![10 + clip as u32, 20 + index as u32], vec![IMAGE_PAD; tokens]].concat();
    let mut ids: Vec<u32> = (0..images).flat_map(image).collect();
    ids.extend([30, 31, 32 + clip as u32]);
    let positions = MultimodalPositions::new(&ids, IMAGE_PAD, &vec![GRID; images], merge).unwrap();
    Prompt::new(ids, IMAGE_PAD, positions)
}

/// What the stages compute, by name.
type Results = Vec<(String, Vec<f32>)>;

#[derive(Default)]
struct StepLogits(Results);

impl<B: Backend> Observer<B> for StepLogits {
    fn observe(&mut self, event: Event<'_, B>) {
        if let Event::StepLogits(step, logits) = event {
            self.0.push((format!("logits of step {step}"), logits.to_vec()));
        }
    }

    fn wants_all(&self) -> bool {
        true
    }
}

struct Run<'a> {
    config: &'a ModelConfig,
    checkpoint: Arc<Checkpoint>,
    cameras: usize,
}

impl DeviceVisitor for &Run<'_> {
    type Output = Results;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Results {
        let config = self.config;
        let checkpoint = Arc::clone(&self.checkpoint);
        let mut source = CheckpointSource::<B>::new(checkpoint, config, WeightFormat::F32, &device, None).unwrap();
        let network = Network::new(config, &mut source).unwrap();
        source.finish().unwrap();
        let load = LoadOptions {
            weight_format: Some(WeightFormat::F32),
            cache_format: Some(CacheFormat::F32),
            ..LoadOptions::default()
        };
        let model = Alpamayo::from_network(network, config.clone(), None, &device, &load).unwrap();
        let future_start = config.traj_token_ids.future_start;
        // Rows stop at different tokens.
        let forced_tokens = (0..CLIPS * SAMPLES).map(|row| {
            (0..5)
                .map(|step| {
                    if step == row {
                        future_start
                    } else {
                        (40 + 7 * row + step) as u32
                    }
                })
                .collect()
        });
        let waypoints = config.action_space.n_waypoints;
        let options = DriveOptions {
            samples: SAMPLES,
            max_generation_length: Some(5),
            // One: a second begins where the first ended, and sines of large angles multiply what it is off.
            flow_steps: Some(1),
            noise: Some(uniform(2000, CLIPS * SAMPLES * waypoints * 2)),
            forced_tokens: forced_tokens.collect(),
            ..DriveOptions::default()
        };
        let prompts: Vec<Prompt> = (0..CLIPS).map(|clip| prompt(config, clip, self.cameras)).collect();
        let mut logits = StepLogits::default();
        let features = model.encode(&patches(config, CLIPS * self.cameras), &mut ()).unwrap();
        let prefilled = model.prefill(&prompts, &features, &mut ()).unwrap();
        let generation = model.generate(&prefilled, &options, &mut logits).unwrap();
        let actions = model.flow(&generation, &options, &mut ()).unwrap();

        let host = |tensor: &Tensor<B, 2>| tensor.to_data().iter::<f32>().collect();
        let mut results = vec![("image tokens".to_owned(), host(&features.tokens))];
        results.extend(
            features
                .deepstack
                .iter()
                .map(|values| ("deepstack".to_owned(), host(values))),
        );
        results.push(("logits of the prompts".into(), host(&prefilled.logits)));
        results.extend(logits.0);
        results.push(("actions".into(), actions.into_iter().flatten().flatten().collect()));
        results
    }
}

/// `|found - truth| / |truth|` over the finite values, which must be finite in both.
fn distance(found: &[f32], truth: &[f32]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let (mut difference, mut norm) = (0.0, 0.0);
    for (&found, &truth) in found.iter().zip(truth) {
        assert_eq!(found.is_finite(), truth.is_finite());
        if truth.is_finite() {
            difference += (f64::from(found) - f64::from(truth)).powi(2);
            norm += f64::from(truth).powi(2);
        }
    }
    (difference / norm).sqrt()
}

#[test]
fn every_device_computes_odd_extents_as_flex_does() {
    for (deepstack, cameras) in [(&[][..], 1), (&[3][..], 7)] {
        let config = config(deepstack);
        let directory = tempfile::tempdir().unwrap();
        write_checkpoint(&config, directory.path());
        let run = Run {
            config: &config,
            checkpoint: Arc::new(Checkpoint::open(directory.path()).unwrap()),
            cameras,
        };
        let expected = Device::new(BackendKind::Cpu).run(&run).unwrap();
        assert_eq!(expected.len(), 1 + deepstack.len() + 1 + 5 + 1);
        for found in Device::available()
            .into_iter()
            .filter(|found| found.device.kind != BackendKind::Cpu)
        {
            let actual = found.device.run(&run).unwrap();
            for ((name, actual), (_, expected)) in actual.iter().zip(&expected) {
                let tolerance = if name == "actions" { SINE_TOLERANCE } else { TOLERANCE };
                let error = distance(actual, expected);
                println!("{found}, {cameras} cameras, {name}: {error:.1e}");
                assert!(error <= tolerance, "{found}, {cameras} cameras, {name}: {error:e}");
            }
        }
    }
}
