//! The released model's four attentions.

use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::kernels::attention::{Plan, decode_with, expert_with, prefill_with, vision_with};
use alpamayo_backends::layers::{
    Attention, HeadNorms, KeyValue, LayerCache, RmsNorm, Rotary, RowLengths, SuffixPosition,
};
use burn::module::{Param, ParamId};
use burn::tensor::{
    DType, Distribution, Tensor,
    backend::{Backend, BackendTypes},
};
use burn_cubecl::{BoolElement, CubeBackend};
use cubecl::ir::features::TypeUsage;

use crate::check::Row;
use crate::plans::{cooperative_tiles, short, streams, tiles, token_tiles};
use crate::reference::{HostRows, RelativeError, attend};

const TEXT: Attention = Attention {
    num_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
};
const EXPERT: Attention = Attention {
    num_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
};
const VISION: Attention = Attention {
    num_heads: 16,
    num_key_value_heads: 16,
    head_dim: 72,
};
const PROMPT: usize = 3006;
const POSITION: usize = 40;

type Gpu<R, BT> = CubeBackend<R, f32, i32, BT>;

/// The operations.
#[derive(Clone, Copy)]
enum Case {
    Prefill,
    Vision,
    Expert,
    Decode,
}

const CASES: [(&str, Case); 4] = [
    ("prefill", Case::Prefill),
    ("vision", Case::Vision),
    ("expert", Case::Expert),
    ("decode", Case::Decode),
];

/// Runs every case on the runtime's default device.
pub fn all<R: KernelRuntime, BT: BoolElement>(runtime: &str, words: &[String]) {
    let device = R::Device::default();
    let client = R::client(&device);
    let usages = client.properties().features.types.storage.get(&bf16());
    let halves = usages.is_some_and(|usages| usages.contains(TypeUsage::Buffer));
    let hardware = &client.properties().hardware;
    println!(
        "{runtime}: {device:?}, bf16 {halves}, planes of {} to {}, {} bytes of shared memory, {:?} processors",
        hardware.plane_size_min,
        hardware.plane_size_max,
        hardware.max_shared_memory_size,
        hardware.num_streaming_multiprocessors,
    );
    for packed in [true, false] {
        if packed && !halves {
            continue;
        }
        let cases = Cases::<R, BT> {
            runtime,
            words,
            device: device.clone(),
            packed,
        };
        for (name, case) in CASES {
            // A named case alone is prepared at all.
            let named = words.iter().any(|word| CASES.iter().any(|(name, _)| name == word));
            if !named || words.iter().any(|word| word == name) {
                cases.run(case);
            }
        }
    }
}

fn bf16() -> cubecl::ir::StorageType {
    cubecl::ir::ElemType::Float(cubecl::ir::FloatKind::BF16).into()
}

struct Cases<'a, R: KernelRuntime, BT: BoolElement> {
    runtime: &'a str,
    words: &'a [String],
    device: <Gpu<R, BT> as BackendTypes>::Device,
    packed: bool,
}

/// Rows on the device and on the host.
struct Rows<B: Backend> {
    qkv: Tensor<B, 2>,
    rotary: Rotary<B>,
    host: HostRows,
}

impl<R: KernelRuntime, BT: BoolElement> Cases<'_, R, BT> {
    fn run(&self, case: Case) {
        match case {
            Case::Prefill => self.prefill(),
            Case::Vision => self.vision(),
            Case::Expert => [1, 6].into_iter().for_each(|samples| self.expert(samples)),
            // The last has so many clips that the device, not the launches, decides.
            Case::Decode => [(1, 1), (1, 6), (8, 1)].into_iter().for_each(|(clips, samples)| {
                self.decode(clips, samples, DType::F32);
                if self.packed {
                    self.decode(clips, samples, DType::BF16);
                }
            }),
        }
    }

    fn dtype(&self) -> DType {
        if self.packed { DType::BF16 } else { DType::F32 }
    }

    /// Rows without gaps, as projections leave them.
    fn random<const D: usize>(&self, shape: [usize; D], dtype: DType) -> Tensor<Gpu<R, BT>, D> {
        let normal = Distribution::Normal(0.0, 1.0);
        let flat =
            Tensor::<Gpu<R, BT>, 1>::random([shape.iter().product::<usize>()], normal, (&self.device, DType::F32));
        flat.cast(dtype).reshape(shape)
    }

    fn host<const D: usize>(tensor: &Tensor<Gpu<R, BT>, D>) -> Vec<f32> {
        tensor.clone().into_data().iter::<f32>().collect()
    }

    fn rows(&self, tokens: usize, attention: Attention, norm: bool, dtype: DType) -> Rows<Gpu<R, BT>> {
        let qkv = self.random([tokens, attention.qkv_features()], dtype);
        let angles = self.random([tokens, attention.head_dim / 2], DType::F32) * 3.0;
        let rotary = Rotary {
            cos: angles.clone().cos(),
            sin: angles.sin(),
        };
        let host = HostRows {
            qkv: Self::host(&qkv),
            cos: Self::host(&rotary.cos),
            sin: Self::host(&rotary.sin),
            attention,
            norm,
        };
        Rows { qkv, rotary, host }
    }

    fn norms(&self, head_dim: usize) -> HeadNorms<Gpu<R, BT>> {
        let ones = || Tensor::<Gpu<R, BT>, 1>::ones([head_dim], (&self.device, DType::F32));
        let norm = || RmsNorm {
            weight: Param::initialized(ParamId::new(), ones()),
            epsilon: 1e-6,
        };
        HeadNorms {
            query: norm(),
            key: norm(),
        }
    }

    fn key_value(&self, entries: usize, capacity: usize) -> KeyValue<Gpu<R, BT>> {
        let shape = [entries, TEXT.num_key_value_heads, capacity, TEXT.head_dim];
        KeyValue {
            key: self.random(shape, self.dtype()),
            value: self.random(shape, self.dtype()),
        }
    }

    fn cache(&self, clips: usize, samples: usize) -> LayerCache<Gpu<R, BT>> {
        LayerCache {
            prompt: self.key_value(clips, PROMPT),
            suffix: self.key_value(clips * samples, 64),
        }
    }

    fn row(&self, name: &str, plan: Plan, operations: f64, bytes: f64) -> Row<'_> {
        let dtype = if self.packed { "bf16" } else { "f32" };
        let name = format!("{} {name} {dtype} {}", self.runtime, short(plan));
        Row {
            name,
            operations,
            bytes,
            words: self.words,
        }
    }

    /// The plans on matrix units for splits of so many cubes per processor, and the exact one.
    fn plans(&self, cubes: &[usize]) -> Vec<Plan> {
        let of_device: fn(usize) -> Vec<Plan> = match self.runtime {
            "cuda" => tiles,
            _ => cooperative_tiles,
        };
        let tiles = cubes.iter().flat_map(|&cubes| of_device(cubes));
        let exact = std::iter::once(Plan::EXACT);
        if self.packed {
            let native = (self.runtime == "cuda").then_some(Plan::Native);
            native.into_iter().chain(tiles).chain(exact).collect()
        } else {
            exact.collect()
        }
    }

    fn prefill(&self) {
        let rows = self.rows(PROMPT, TEXT, true, self.dtype());
        let norms = self.norms(TEXT.head_dim);
        let mut prompt = self.key_value(1, PROMPT);
        let operations = 2.0 * 32.0 * 128.0 * (PROMPT * PROMPT) as f64;
        for plan in self.plans(&[1]) {
            self.row("prefill", plan, operations, 0.0).check(
                &self.device,
                || prefill_with(plan, rows.qkv.clone(), &TEXT, &norms, &rows.rotary, &mut prompt),
                |output| {
                    let output = Self::host(&output);
                    let mut error = RelativeError::default();
                    for token in [0, 1, 63, 64, 127, 1000, 2943, 3005] {
                        for head in [0, 5, 31] {
                            let part = |part| {
                                (0..=token)
                                    .map(|t| rows.host.head(t, part, head / 4))
                                    .collect::<Vec<_>>()
                            };
                            let expected = attend(&rows.host.head(token, 0, head), &part(1), &part(2));
                            error.add(&output[(token * 32 + head) * 128..][..128], &expected);
                        }
                    }
                    error.value()
                },
            );
        }
    }

    fn vision(&self) {
        let lengths = vec![720; 16];
        let rows = self.rows(720 * 16, VISION, false, self.dtype());
        let operations = 4.0 * 16.0 * 16.0 * 72.0 * 720.0 * 720.0;
        for plan in self.plans(&[1]) {
            self.row("vision", plan, operations, 0.0).check(
                &self.device,
                || vision_with(plan, rows.qkv.clone(), &VISION, &rows.rotary, &lengths),
                |output| {
                    let output = Self::host(&output);
                    let mut error = RelativeError::default();
                    for token in [0, 719, 720, 5000, 11519] {
                        let image = token / 720 * 720..token / 720 * 720 + 720;
                        for head in [0, 7, 15] {
                            let part = |part| image.clone().map(|t| rows.host.head(t, part, head)).collect::<Vec<_>>();
                            let expected = attend(&rows.host.head(token, 0, head), &part(1), &part(2));
                            error.add(&output[(token * 16 + head) * 72..][..72], &expected);
                        }
                    }
                    error.value()
                },
            );
        }
    }

    fn expert(&self, samples: usize) {
        let rows = self.rows(samples * 64, EXPERT, true, self.dtype());
        let norms = self.norms(EXPERT.head_dim);
        let cache = self.cache(1, samples);
        let lengths: Vec<usize> = (0..samples).map(|row| POSITION - 3 * row).collect();
        let row_lengths = RowLengths::new(lengths.clone(), &self.device);
        let host = HostCache::of(&cache);
        let operations = (4 * 64 * 16 * 128 * samples * (PROMPT + POSITION + 64)) as f64;
        let bytes = (2 * 8 * 128 * PROMPT * self.dtype().size()) as f64;
        for plan in self.plans(&[1, 2]) {
            self.row(&format!("expert x{samples}"), plan, operations, bytes).check(
                &self.device,
                || {
                    expert_with(
                        plan,
                        rows.qkv.clone(),
                        &EXPERT,
                        &norms,
                        &rows.rotary,
                        &cache,
                        &row_lengths,
                    )
                },
                |output| {
                    let output = Self::host(&output);
                    let mut error = RelativeError::default();
                    for row in [0, samples - 1] {
                        for (token, head) in [(0, 0), (17, 5), (63, 15)] {
                            let own = |part| (0..64).map(move |t| (row * 64 + t, part));
                            let mut keys = host.keys(row, head / 2, lengths[row]);
                            keys.extend(own(1).map(|(t, part)| rows.host.head(t, part, head / 2)));
                            let mut values = host.values(row, head / 2, lengths[row]);
                            values.extend(own(2).map(|(t, part)| rows.host.head(t, part, head / 2)));
                            let at = row * 64 + token;
                            let expected = attend(&rows.host.head(at, 0, head), &keys, &values);
                            error.add(&output[(at * 16 + head) * 128..][..128], &expected);
                        }
                    }
                    error.value()
                },
            );
        }
    }

    /// Rows in f32 are prepared where they are attended to, others by a launch of their own.
    fn decode(&self, clips: usize, samples: usize, dtype: DType) {
        let rows = self.rows(clips * samples, TEXT, true, dtype);
        let norms = self.norms(TEXT.head_dim);
        let mut cache = self.cache(clips, samples);
        let position = SuffixPosition::new(POSITION, &self.device);
        let host = HostCache::of(&cache);
        let bytes = (clips * 2 * 8 * 128 * PROMPT * self.dtype().size()) as f64;
        let operations = (4 * 32 * 128 * clips * samples * (PROMPT + POSITION)) as f64;
        for plan in [Plan::Native]
            .into_iter()
            .chain(token_tiles())
            .chain(streams())
            .chain([Plan::EXACT])
        {
            let rows_are = if dtype == DType::F32 { "f32 rows" } else { "bf16 rows" };
            self.row(&format!("decode {clips}x{samples} {rows_are}"), plan, operations, bytes)
                .check(
                    &self.device,
                    || {
                        decode_with(
                            plan,
                            rows.qkv.clone(),
                            &TEXT,
                            &norms,
                            &rows.rotary,
                            &mut cache,
                            &position,
                        )
                    },
                    |output| {
                        let output = Self::host(&output);
                        let mut error = RelativeError::default();
                        for row in [0, clips * samples - 1] {
                            for head in [0, 6, 31] {
                                let mut keys = host.keys(row, head / 4, POSITION);
                                keys.push(rows.host.head(row, 1, head / 4));
                                let mut values = host.values(row, head / 4, POSITION);
                                values.push(rows.host.head(row, 2, head / 4));
                                let expected = attend(&rows.host.head(row, 0, head), &keys, &values);
                                error.add(&output[(row * 32 + head) * 128..][..128], &expected);
                            }
                        }
                        error.value()
                    },
                );
        }
    }
}

/// A cache on the host.
struct HostCache {
    prompt: [Vec<f32>; 2],
    suffix: [Vec<f32>; 2],
    samples: usize,
}

impl HostCache {
    fn of<B: Backend>(cache: &LayerCache<B>) -> Self {
        let host = |tensor: &Tensor<B, 4>| tensor.clone().into_data().iter::<f32>().collect();
        Self {
            prompt: [host(&cache.prompt.key), host(&cache.prompt.value)],
            suffix: [host(&cache.suffix.key), host(&cache.suffix.value)],
            samples: cache.samples(),
        }
    }

    fn keys(&self, row: usize, head: usize, suffix: usize) -> Vec<Vec<f64>> {
        self.part(0, row, head, suffix)
    }

    fn values(&self, row: usize, head: usize, suffix: usize) -> Vec<Vec<f64>> {
        self.part(1, row, head, suffix)
    }

    fn part(&self, part: usize, row: usize, head: usize, suffix: usize) -> Vec<Vec<f64>> {
        let rows = |values: &[f32], entry: usize, capacity: usize, count: usize| -> Vec<Vec<f64>> {
            let start = (entry * 8 + head) * capacity * 128;
            values[start..start + count * 128]
                .chunks(128)
                .map(|row| row.iter().map(|x| f64::from(*x)).collect())
                .collect()
        };
        let mut all = rows(&self.prompt[part], row / self.samples, PROMPT, PROMPT);
        all.extend(rows(&self.suffix[part], row, 64, suffix));
        all
    }
}
