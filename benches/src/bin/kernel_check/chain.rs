//! Layers one after another, a flow step's and a token's, launched anew and recorded in parts of several lengths: microseconds per layer.

use std::time::Instant;

use alpamayo_backends::instances::{KernelRuntime, Recorded, Recording};
use alpamayo_backends::kernels::apart::Arena;
use alpamayo_backends::layers::{KeyValue, LayerCache, Rotary, RowLengths, SuffixPosition, WeightFormat};
use alpamayo_core::DecoderConfig;
use alpamayo_models::decoder::DecoderLayer;
use alpamayo_models::random::RandomParameters;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};

use super::measure::{Cube, Options, random};

const STEPS: usize = 10;

/// Whose layers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    /// The action expert's, for 64 action tokens.
    Step,
    /// The language model's, for one token.
    Token,
}

/// The released layers, or fewer.
struct Chain<R: KernelRuntime> {
    of: Of,
    layers: Vec<DecoderLayer<Cube<R>>>,
    caches: Vec<LayerCache<Cube<R>>>,
    rotary: Rotary<Cube<R>>,
    lengths: RowLengths<Cube<R>>,
    position: SuffixPosition<Cube<R>>,
    x: Tensor<Cube<R>, 2>,
}

impl<R: KernelRuntime> Chain<R> {
    fn new(of: Of, format: WeightFormat, device: &R::Device, options: &Options) -> Self {
        let (tokens, hidden_size, intermediate_size, num_attention_heads) = match of {
            Of::Step => (64, 2048, 8256, 16),
            Of::Token => (1, 4096, 12_288, 32),
        };
        let config = DecoderConfig {
            hidden_size: options.extent(hidden_size),
            intermediate_size: options.extent(intermediate_size),
            num_hidden_layers: if options.extent(36) < 36 { 8 } else { 36 },
            num_attention_heads,
            num_key_value_heads: 8,
            head_dim: 128,
            rms_norm_eps: 1e-6,
            rope_theta: 5e6,
            mrope_section: [24, 20, 20],
        };
        let mut source = RandomParameters::<Cube<R>>::new(device, format);
        let layer = |index| DecoderLayer::new(&config, &format!("expert.layers.{index}"), &mut source);
        let cached = |positions| {
            let random = || Tensor::random([1, 8, positions, 128], Distribution::Uniform(-1.0, 1.0), device);
            KeyValue {
                key: Tensor::<_, 4>::cast(random(), DType::BF16),
                value: Tensor::<_, 4>::cast(random(), DType::BF16),
            }
        };
        let cache = |_| LayerCache {
            prompt: cached(options.extent(3006)),
            suffix: cached(64),
        };
        let angles = random::<R>(tokens, config.head_dim / 2, device);
        Self {
            of,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<Result<_, _>>()
                .expect("random weights of these extents"),
            caches: (0..config.num_hidden_layers).map(cache).collect(),
            rotary: Rotary {
                cos: angles.clone().cos(),
                sin: angles.sin(),
            },
            lengths: RowLengths::new(vec![40], device),
            position: SuffixPosition::new(40, device),
            x: random::<R>(tokens, config.hidden_size, device),
        }
    }

    /// So many layers from the given one on.
    fn part(&self, first: usize, count: usize, mut x: Tensor<Cube<R>, 2>) -> Tensor<Cube<R>, 2> {
        let end = (first + count).min(self.layers.len());
        let (layers, caches) = (&self.layers[first..end], &self.caches[first..end]);
        let mut projected = None;
        for (index, (layer, cache)) in layers.iter().zip(caches).enumerate() {
            let next = layers.get(index + 1);
            (x, projected) = match self.of {
                Of::Token => {
                    let cache = &mut cache.clone();
                    layer.decode(x, projected, &self.rotary, cache, &self.position, next)
                }
                Of::Step => layer.expert(x, projected, &self.rotary, cache, &self.lengths, next),
            };
        }
        x
    }

    /// All layers in parts, recorded over memory of the arena; none where the platform can't.
    fn record(&self, count: usize, device: &R::Device, arena: &mut Arena) -> Option<Vec<Box<dyn Recording>>> {
        let client = R::client(device);
        let mut x = self.x.clone();
        let mut recordings = Vec::new();
        for first in (0..self.layers.len()).step_by(count) {
            let mut next = None;
            let recorded = R::record(&client, device, &mut || {
                next = Some(arena.lend(|| self.part(first, count, x.clone())))
            });
            match (recorded, next) {
                (Recorded::Repeatable(recording) | Recorded::RunAndRepeatable(recording), Some(next)) => {
                    recordings.push(recording);
                    x = next;
                }
                _ => return None,
            }
        }
        Some(recordings)
    }
}

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    for of in [Of::Step, Of::Token] {
        for format in [WeightFormat::Bf16, WeightFormat::Int8, WeightFormat::Int4] {
            let chain = &Chain::<R>::new(of, format, device, options);
            let lines = R::client(device).exclusive(|| lines(chain, device));
            for (name, microseconds) in lines.expect("the device's thread runs") {
                println!("layer of a {of:?}, {format:?}, {name:<16} {microseconds:7.1}");
            }
        }
    }
}

/// Microseconds per layer, until the device is done.
fn lines<R: KernelRuntime>(chain: &Chain<R>, device: &R::Device) -> Vec<(String, f64)> {
    let sync = || Cube::<R>::sync(device).expect("the device finishes its work");
    let layers = chain.layers.len();
    let time = |step: &mut dyn FnMut()| {
        let times = (0..4).map(|_| {
            sync();
            let start = Instant::now();
            (0..STEPS).for_each(|_| step());
            sync();
            start.elapsed().as_secs_f64() * 1e6 / (STEPS * layers) as f64
        });
        times.fold(f64::MAX, f64::min)
    };
    let mut anew = || drop(chain.part(0, layers, chain.x.clone()));
    let mut lines = vec![("launched anew".into(), time(&mut anew))];
    for count in [1, 4, 9, layers] {
        let mut arena = Arena::default();
        let Some(recordings) = chain.record(count, device, &mut arena) else {
            continue;
        };
        let mut again = || {
            recordings
                .iter()
                .for_each(|it| assert!(it.replay(), "the device takes it"))
        };
        lines.push((format!("recorded by {count}"), time(&mut again)));
    }
    lines
}
