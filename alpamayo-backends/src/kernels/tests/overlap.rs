//! Launches that wait for those in front by themselves.

use burn::module::{Param, ParamId};
use cubecl::Runtime;

use super::quantized::row::{CubeLimits, add_and_multiply};
use super::*;
use crate::instances::KernelRuntime;
use crate::instances::wgpu::{overlapping_device, record_and_count};
use crate::kernels::apart::Arena;
use crate::kernels::attention::{self, Plan};
use crate::kernels::copy::copy;
use crate::layers::{Attention, HeadNorms, KeyValue, LayerCache, RmsNorm, Rotary, SuffixPosition};

type Row = CubeTensor<WgpuRuntime>;

/// Positions of a prompt, tokens that a suffix has room for, and those that are there.
const PROMPT: usize = 61;
const SUFFIX: usize = 8;
const POSITION: usize = 3;

/// A token's layer: its cache and `[o, gate_up, down, q | k | v of the next layer]`.
struct Layer {
    cache: LayerCache<Wgpu>,
    products: [Product<WgpuRuntime>; 4],
}

/// What layers share.
struct Shared {
    attention: Attention,
    norms: HeadNorms<Wgpu>,
    rotary: Rotary<Wgpu>,
    position: SuffixPosition<Wgpu>,
    limits: CubeLimits,
}

impl Shared {
    /// Heads of as many features as the device's planes attend to in tiles.
    fn new(groups: usize, device: &WgpuDevice) -> Self {
        let client = WgpuRuntime::client(device);
        let hardware = &client.properties().hardware;
        let head_dim = 4 * hardware.plane_size_max as usize;
        let norm = |seed| RmsNorm {
            weight: Param::initialized(ParamId::new(), vector(&values(seed, head_dim), device)),
            epsilon: 1e-6,
        };
        let angles = matrix::<Wgpu>(&values(7, head_dim / 2), 1, device);
        Self {
            attention: Attention {
                num_heads: 4 * groups,
                num_key_value_heads: groups,
                head_dim,
            },
            norms: HeadNorms {
                query: norm(5),
                key: norm(6),
            },
            rotary: Rotary {
                cos: angles.clone().cos(),
                sin: angles.sin(),
            },
            position: SuffixPosition::new(POSITION, device),
            limits: CubeLimits {
                // Software renderers don't announce sums over planes, but have them.
                lanes: hardware.plane_size_min as usize,
                units: hardware.max_units_per_cube as usize,
                shared: hardware.max_shared_memory_size,
            },
        }
    }

    fn hidden_size(&self) -> usize {
        self.attention.num_heads * self.attention.head_dim
    }

    fn cached(&self, seed: u64, positions: usize, device: &WgpuDevice) -> Tensor<Wgpu, 4> {
        let shape = [
            1,
            self.attention.num_key_value_heads,
            positions,
            self.attention.head_dim,
        ];
        let values: Vec<bf16> = values(seed, shape.iter().product())
            .into_iter()
            .map(bf16::from_f32)
            .collect();
        Tensor::from_data(TensorData::new(values, shape), (device, DType::BF16))
    }

    fn layer(&self, inner: usize, seed: u64, int8: bool, device: &WgpuDevice) -> Layer {
        let hidden = self.hidden_size();
        let format = if int8 { WeightFormat::Int8 } else { WeightFormat::Int4 };
        let norm = Norm::rms(vector(&values(seed, hidden), device), 1e-6);
        let product = |seed, rows: usize, columns: usize| {
            let small: Vec<f32> = values(seed, rows * columns).iter().map(|value| value / 16.0).collect();
            let linear = Linear::new(weight::<Wgpu>(&small, rows, format, device), None);
            Product::new(&linear, Activation::None).unwrap()
        };
        let normed = |product: Product<WgpuRuntime>| product.with_norm::<f32, i32, u32>(&norm).unwrap();
        let key_value = |positions| KeyValue {
            key: self.cached(seed + 5, positions, device),
            value: self.cached(seed + 6, positions, device),
        };
        let gate_up = Product {
            gated: true,
            ..normed(product(seed + 2, 2 * inner, hidden))
        };
        Layer {
            cache: LayerCache {
                prompt: key_value(PROMPT),
                suffix: key_value(SUFFIX),
            },
            products: [
                product(seed + 1, hidden, hidden),
                gate_up,
                product(seed + 3, hidden, inner),
                normed(product(seed + 4, self.attention.qkv_features(), hidden)),
            ],
        }
    }

    /// The row behind the layer, and the next layer's queries, key and value.
    fn run(&self, layer: &Layer, row: &Row, qkv: Row) -> [Row; 2] {
        let plan = Plan::Tiles { planes: 8, keys: 4 };
        let (norms, rotary, position) = (&self.norms, &self.rotary, &self.position);
        let cache = &mut layer.cache.clone();
        let attended = attention::decode_with(plan, tensor(qkv), &self.attention, norms, rotary, cache, position);
        let [o, gate_up, down, qkv] = &layer.products;
        let onto = |product: &Product<WgpuRuntime>, row| Product {
            residual: Some(row),
            ..product.clone()
        };
        let attended = float(attended);
        let [sum, gated] = add_and_multiply(self.limits, &attended, &onto(o, row.clone()), gate_up).unwrap();
        add_and_multiply(self.limits, &gated, &onto(down, sum), qkv).unwrap()
    }
}

fn values_of(row: &Row) -> Vec<f32> {
    host(tensor::<_, f32, i32, u32, 2>(row.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Where each result has memory of its own, and where what was read is written over.
    #[test]
    fn launches_that_wait_by_themselves_give_what_they_give_behind_barriers(
        groups in 1..3_usize, inner in 1..6_usize, layers in 2..5_usize, int8 in any::<bool>(), once in any::<bool>(), seed in 0..9_u64,
    ) {
        let device = overlapping_device();
        let stage = Wgpu::run_stage(&device.clone(), move || {
            let shared = Shared::new(groups, &device);
            let hidden = shared.hidden_size();
            let input = |seed, columns| float(matrix::<Wgpu>(&values(seed, columns), 1, &device));
            let (row, qkv) = (input(seed, hidden), input(seed + 1, shared.attention.qkv_features()));
            if !WgpuRuntime::multiplies_bytes(&row.client) {
                return;
            }
            let layer = |index: usize| shared.layer(128 * inner, seed + 9 * index as u64, int8, &device);
            let layers: Vec<Layer> = (0..layers).map(layer).collect();
            let run = |row: &Row| layers.iter().fold([row.clone(), qkv.clone()], |[row, qkv], layer| shared.run(layer, &row, qkv));
            let (mut arena, mut output) = (Arena::default(), None);
            let mut work = || output = Some(run(&row));
            let recorded = record_and_count(&device, || if once { arena.lend(work) } else { work() });
            let (Some((waiting, recording)), Some(output)) = (recorded, output) else {
                panic!("launches can be recorded");
            };
            // All but the first, where nothing that was read is written over.
            assert!(!once || waiting == 6 * layers.len() - 1, "{waiting} launches wait by themselves");
            for seed in 20..24 {
                let other = input(seed, hidden);
                let expected = run(&other).map(|row| values_of(&row));
                assert!(copy(&other, &row) && recording.replay());
                assert_eq!(output.each_ref().map(values_of), expected);
            }
        });
        stage.unwrap();
    }
}
