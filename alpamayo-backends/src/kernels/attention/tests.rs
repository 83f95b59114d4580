//! The kernels against their definitions.

use burn::module::{Param, ParamId};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use half::bf16;
use proptest::prelude::*;

use crate::definition;
use crate::instances::Flex;
use crate::layers::{Attention, HeadNorms, KeyValue, LayerCache, RmsNorm, Rotary, RowLengths, SuffixPosition};

type Gpu = burn_cubecl::CubeBackend<crate::instances::WgpuRuntime, f32, i32, u32>;

/// Values that look random, the same on every backend.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    // Roughly normal.
    (0..count).map(|_| 2.0 * (next() + next() + next() - 1.5)).collect()
}

fn tensor<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    let device = Default::default();
    Tensor::from_data(
        TensorData::new(values(seed, shape.iter().product()), shape),
        (&device, DType::F32),
    )
}

/// Keys or values in a cache: f32, or bf16 bits where `packed` and the backend stores them.
/// Keys or values, of which so many positions are filled.
fn cached<B: Backend>(seed: u64, shape: [usize; 4], filled: usize, packed: bool) -> Tensor<B, 4> {
    let device = Default::default();
    let mut values = values(seed, shape.iter().product());
    for (position, features) in values.chunks_mut(shape[3]).enumerate() {
        if position % shape[2] >= filled {
            features.fill(f32::NAN);
        }
    }
    if packed {
        let rounded: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
        Tensor::from_data(TensorData::new(rounded, shape), (&device, DType::BF16))
    } else {
        Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
    }
}

fn rotary<B: Backend>(tokens: usize, head_dim: usize) -> Rotary<B> {
    let device = Default::default();
    let angles = values(5, tokens * head_dim / 2);
    let table = |f: fn(f32) -> f32| {
        let values: Vec<f32> = angles.iter().map(|angle| f(*angle * 3.0)).collect();
        Tensor::from_data(TensorData::new(values, [tokens, head_dim / 2]), (&device, DType::F32))
    };
    Rotary {
        cos: table(f32::cos),
        sin: table(f32::sin),
    }
}

fn norms<B: Backend>(head_dim: usize) -> HeadNorms<B> {
    let norm = |seed| RmsNorm {
        weight: Param::initialized(ParamId::new(), tensor::<B, 1>(seed, [head_dim]) + 1.0),
        epsilon: 1e-6,
    };
    HeadNorms {
        query: norm(7),
        key: norm(8),
    }
}

fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The relative L2 distance of two results.
fn distance(actual: Vec<f32>, expected: Vec<f32>) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut actual.iter().zip(&expected).map(|(a, b)| f64::from(a - b)));
    let size = norm(&mut expected.iter().map(|x| f64::from(*x)));
    difference / size.max(1e-20)
}

#[derive(Debug, Clone)]
struct Case {
    attention: Attention,
    clips: usize,
    samples: usize,
    tokens: usize,
    prompt: usize,
    position: usize,
    packed: bool,
}

impl Case {
    fn rows(&self) -> usize {
        self.clips * self.samples
    }

    fn qkv<B: Backend>(&self, rows: usize) -> Tensor<B, 2> {
        tensor(1, [rows, self.attention.qkv_features()])
    }

    fn key_value<B: Backend>(&self, seed: u64, entries: usize, capacity: usize, filled: usize) -> KeyValue<B> {
        let shape = [
            entries,
            self.attention.num_key_value_heads,
            capacity,
            self.attention.head_dim,
        ];
        KeyValue {
            key: cached(seed, shape, filled, self.packed),
            value: cached(seed + 1, shape, filled, self.packed),
        }
    }

    fn cache<B: Backend>(&self) -> LayerCache<B> {
        LayerCache {
            prompt: self.key_value(20, self.clips, self.prompt, self.prompt),
            suffix: self.key_value(30, self.rows(), self.position + self.tokens + 3, self.position),
        }
    }

    /// What rounding new keys and values to the cache's format costs.
    fn tolerance(&self) -> f64 {
        if self.packed { 8e-3 } else { 2e-6 }
    }
}

fn case() -> impl Strategy<Value = Case> {
    let heads = (
        1usize..=3,
        prop_oneof![Just(1usize), Just(2), Just(3), Just(4), Just(8)],
    );
    let head_dim = prop_oneof![Just(16usize), Just(40), Just(64), Just(72), Just(128)];
    let extents = (1usize..=2, 1usize..=3, 1usize..=9, 1usize..=140, 0usize..=70);
    (heads, head_dim, extents, any::<bool>()).prop_map(
        |((groups, shared), head_dim, (clips, samples, tokens, prompt, position), packed)| Case {
            attention: Attention {
                num_heads: groups * shared,
                num_key_value_heads: groups,
                head_dim,
            },
            clips,
            samples,
            tokens,
            prompt,
            position,
            packed,
        },
    )
}

fn prefill<B: Backend>(
    case: &Case,
    run: impl Fn(Tensor<B, 2>, &Attention, &HeadNorms<B>, &Rotary<B>, &mut KeyValue<B>) -> Tensor<B, 2>,
) -> [Vec<f32>; 3] {
    let tokens = case.clips * case.prompt;
    let head_dim = case.attention.head_dim;
    let mut prompt = case.key_value(20, case.clips, case.prompt, 0);
    let output = run(
        case.qkv(tokens),
        &case.attention,
        &norms(head_dim),
        &rotary(tokens, head_dim),
        &mut prompt,
    );
    [host(output), host(prompt.key), host(prompt.value)]
}

fn decode<B: Backend>(
    case: &Case,
    run: impl Fn(
        Tensor<B, 2>,
        &Attention,
        &HeadNorms<B>,
        &Rotary<B>,
        &mut LayerCache<B>,
        &SuffixPosition<B>,
    ) -> Tensor<B, 2>,
) -> [Vec<f32>; 3] {
    let tokens = case.rows() * case.tokens;
    let head_dim = case.attention.head_dim;
    let mut cache = case.cache();
    let (norms, rotary) = (norms(head_dim), rotary(tokens, head_dim));
    let output = run(
        case.qkv(tokens),
        &case.attention,
        &norms,
        &rotary,
        &mut cache,
        &SuffixPosition::new(case.position, &Default::default()),
    );
    // What is not filled is no number.
    let filled = |part| {
        host(part)
            .into_iter()
            .map(|value| if value.is_nan() { 0.0 } else { value })
    };
    let (key, value) = (filled(cache.suffix.key), filled(cache.suffix.value));
    [host(output), key.collect(), value.collect()]
}

type Expert<B> =
    fn(Tensor<B, 2>, &Attention, &HeadNorms<B>, &Rotary<B>, &LayerCache<B>, &RowLengths<B>) -> Tensor<B, 2>;

fn expert<B: Backend>(case: &Case, run: Expert<B>) -> Vec<f32> {
    let tokens = case.rows() * case.tokens;
    let head_dim = case.attention.head_dim;
    let cache = case.cache();
    let lengths = (0..case.rows())
        .map(|row| (case.position + 2 * row) % (case.position + 1))
        .collect();
    let lengths = RowLengths::new(lengths, &Default::default());
    let (norms, rotary) = (norms(head_dim), rotary(tokens, head_dim));
    host(run(
        case.qkv(tokens),
        &case.attention,
        &norms,
        &rotary,
        &cache,
        &lengths,
    ))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn prefill_is_its_definition(case in case()) {
        let actual = prefill::<Gpu>(&case, super::prefill);
        let expected = prefill::<Flex>(&case, definition::prefill_attention);
        for (actual, expected) in actual.into_iter().zip(expected) {
            prop_assert!(distance(actual, expected) < case.tolerance());
        }
    }

    #[test]
    fn decode_is_its_definition(case in case()) {
        let actual = decode::<Gpu>(&case, super::decode);
        let expected = decode::<Flex>(&case, definition::decode_attention);
        for (actual, expected) in actual.into_iter().zip(expected) {
            prop_assert!(distance(actual, expected) < case.tolerance());
        }
    }

    // Mesa's CPU device has planes, though CubeCL doesn't choose plans that need them there.
    #[test]
    fn streamed_decode_is_its_definition(case in case(), planes in 1usize..=4, unroll in 1usize..=4) {
        let plan = super::Plan::Stream { planes, unroll, cubes: 3 };
        let actual = decode::<Gpu>(&case, |q, a, n, r, c, p| super::decode_with(plan, q, a, n, r, c, p));
        let expected = decode::<Flex>(&case, definition::decode_attention);
        for (actual, expected) in actual.into_iter().zip(expected) {
            prop_assert!(distance(actual, expected) < case.tolerance());
        }
    }

    /// With a plane of eight lanes, which Mesa's CPU device has, heads of 32 features are attended to in tiles; others are streamed.
    #[test]
    fn tiled_decode_is_its_definition(
        case in case(), groups in 1usize..=3, quads in prop_oneof![4 => Just(8usize), 1 => Just(32)],
        planes in 2u32..=3, keys in 1usize..=4,
    ) {
        let attention = Attention { num_heads: 4 * groups, num_key_value_heads: groups, head_dim: 4 * quads };
        let case = Case { attention, samples: 1, tokens: 1, packed: true, ..case };
        let plan = super::Plan::Tiles { planes: 1 << planes, keys: 4 * keys };
        let actual = decode::<Gpu>(&case, |q, a, n, r, c, p| super::decode_with(plan, q, a, n, r, c, p));
        let expected = decode::<Flex>(&case, definition::decode_attention);
        for (actual, expected) in actual.into_iter().zip(expected) {
            prop_assert!(distance(actual, expected) < case.tolerance());
        }
    }

    #[test]
    fn expert_is_its_definition(case in case()) {
        let actual = expert::<Gpu>(&case, super::expert);
        let expected = expert::<Flex>(&case, definition::expert_attention);
        prop_assert!(distance(actual, expected) < case.tolerance());
    }

    #[test]
    fn vision_is_its_definition(
        case in case(),
        shared_kib in 12_usize..40,
        lengths in prop_oneof![
            prop::collection::vec(1usize..90, 1..4),
            (1usize..90, 1usize..4).prop_map(|(length, images)| vec![length; images]),
        ],
    ) {
        let heads = case.attention.num_key_value_heads;
        let attention = Attention { num_heads: heads, ..case.attention };
        let patches = lengths.iter().sum();
        let shape = [patches, attention.qkv_features()];
        let head_dim = attention.head_dim;
        let plan = super::Plan::Exact { shared_bytes: shared_kib << 10 };
        let actual = super::vision_with::<_, f32, i32, u32>(
            plan, tensor::<Gpu, 2>(1, shape), &attention, &rotary(patches, head_dim), &lengths,
        );
        let expected = definition::vision_attention(
            tensor::<Flex, 2>(1, shape), &attention, &rotary(patches, head_dim), &lengths,
        );
        prop_assert!(distance(host(actual), host(expected)) < 2e-6);
    }
}

/// Whether the device has cooperative matrices of bf16; says so where it has none.
fn has_matrix_units() -> bool {
    let client = <crate::instances::WgpuRuntime as cubecl::Runtime>::client(&Default::default());
    let found = crate::kernels::cooperative::has_cooperative_matrices(&client);
    if !found {
        eprintln!("skipped: this device has no cooperative matrices of bf16");
    }
    found
}

/// Any tile of the cooperative kernel.
fn cooperative_plan() -> impl Strategy<Value = super::Plan> {
    (1usize..=8, 1usize..=2, 1usize..=4, 1usize..=3).prop_map(|(planes, tiles, columns, cubes)| {
        super::Plan::Cooperative {
            heads: 1,
            planes,
            tiles,
            keys: 16 * columns,
            cubes,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn cooperative_prefill_is_its_definition(case in case(), plan in cooperative_plan()) {
        if !has_matrix_units() {
            return Ok(());
        }
        let case = Case { packed: true, ..case };
        let actual = prefill::<Gpu>(&case, |q, a, n, r, p| super::prefill_with(plan, q, a, n, r, p));
        let expected = prefill::<Flex>(&case, definition::prefill_attention);
        for (actual, expected) in actual.into_iter().zip(expected) {
            prop_assert!(distance(actual, expected) < case.tolerance());
        }
    }

    #[test]
    fn cooperative_expert_is_its_definition(case in case()) {
        if !has_matrix_units() {
            return Ok(());
        }
        let case = Case { packed: true, ..case };
        let actual = expert::<Gpu>(&case, |q, a, n, r, c, l| {
            let plan = super::Plan::Cooperative { heads: 1, planes: 4, tiles: 1, keys: 32, cubes: 2 };
            super::expert_with(plan, q, a, n, r, c, l)
        });
        let expected = expert::<Flex>(&case, definition::expert_attention);
        prop_assert!(distance(actual, expected) < case.tolerance());
    }

    #[test]
    fn cooperative_vision_is_its_definition(
        case in case(),
        plan in cooperative_plan(),
        lengths in prop::collection::vec(1usize..90, 1..4),
    ) {
        if !has_matrix_units() {
            return Ok(());
        }
        let heads = case.attention.num_key_value_heads;
        let attention = Attention { num_heads: heads, ..case.attention };
        let patches = lengths.iter().sum();
        let shape = [patches, attention.qkv_features()];
        let head_dim = attention.head_dim;
        let actual = super::vision_with::<_, f32, i32, u32>(
            plan, tensor::<Gpu, 2>(1, shape), &attention, &rotary(patches, head_dim), &lengths,
        );
        let expected = definition::vision_attention(
            tensor::<Flex, 2>(1, shape), &attention, &rotary(patches, head_dim), &lengths,
        );
        prop_assert!(distance(host(actual), host(expected)) < 8e-3);
    }
}

#[test]
fn patches_of_many_clips_are_more_than_one_extent_of_a_dispatch_takes() {
    // Six clips at the released size have 69,120 patches, and a dispatch at most 65,535 cubes along an axis.
    let attention = Attention {
        num_heads: 1,
        num_key_value_heads: 1,
        head_dim: 8,
    };
    let lengths = vec![11; 6_001];
    let patches = 11 * 6_001;
    let shape = [patches, attention.qkv_features()];
    let actual =
        super::vision::<_, f32, i32, u32>(tensor::<Gpu, 2>(1, shape), &attention, &rotary(patches, 8), &lengths);
    let expected = definition::vision_attention(tensor::<Flex, 2>(1, shape), &attention, &rotary(patches, 8), &lengths);
    assert!(distance(host(actual), host(expected)) < 2e-6);
}
