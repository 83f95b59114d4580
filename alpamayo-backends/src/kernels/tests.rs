//! The linear kernels against their definitions on the CPU, over shapes that don't divide evenly.

mod overlap;
mod row;
mod weights;

use burn::tensor::{DType, Int, Tensor, TensorData};
use burn_cubecl::tensor::CubeTensor;
use half::bf16;
use proptest::prelude::*;

use super::gate::gate;
use super::matmul::cooperative::{self, Tile};
use super::matmul::{TileConfig, matmul_with};
use super::matvec::{MatvecConfig, MatvecShape, matvec, matvec_with};
use super::norm::normalize_rows;
use super::product::Product;
use super::quantized;
use super::round::round;
use super::sum_norm::{SumNorm, sum_norm};
use super::tensors::{float, tensor};
use crate::instances::{Flex, Wgpu, WgpuDevice, WgpuRuntime};
use crate::layers::{Activation, Linear, Norm, SourceType, Weight, WeightFormat, WeightSource};
use crate::{ModelBackend, definition};

/// Values of a matrix, reproducible, representable in bf16 and f16.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as i32 % 128) as f32 / 64.0
        })
        .collect()
}

fn matrix<B: ModelBackend>(values: &[f32], rows: usize, device: &B::Device) -> Tensor<B, 2> {
    let columns = values.len() / rows;
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, columns]), (device, DType::F32))
}

fn vector<B: ModelBackend>(values: &[f32], device: &B::Device) -> Tensor<B, 1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, DType::F32))
}

fn weight<B: ModelBackend>(values: &[f32], rows: usize, format: WeightFormat, device: &B::Device) -> Weight<B> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let source = WeightSource::new(vec![&bytes], SourceType::F32, rows, values.len() / rows);
    B::store_weight(&source, format, device).unwrap()
}

fn host<B: ModelBackend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    let largest = expected
        .iter()
        .fold(1e-3_f32, |largest, value| largest.max(value.abs()));
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (actual - expected).abs() <= tolerance * largest,
            "element {index}: {actual} is not {expected}"
        );
    }
}

/// A linear layer and everything that can be around it, as values.
#[derive(Debug, Clone)]
struct Case {
    tokens: usize,
    rows: usize,
    columns: usize,
    format: WeightFormat,
    norm: bool,
    bias: bool,
    activation: Activation,
    residual: bool,
    gated: bool,
}

impl Case {
    fn any() -> impl Strategy<Value = Self> {
        let formats = prop_oneof![
            Just(WeightFormat::F32),
            Just(WeightFormat::F16),
            Just(WeightFormat::Bf16),
            Just(WeightFormat::Int8),
            Just(WeightFormat::Int4)
        ];
        let activations = prop_oneof![
            Just(Activation::None),
            Just(Activation::Silu),
            Just(Activation::GeluTanh),
            Just(Activation::GeluErf)
        ];
        let extents = (1..=8_usize, 1..40_usize, 1..200_usize);
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (extents, formats, activations, flags).prop_map(|((tokens, rows, half), format, activation, flags)| Self {
            tokens,
            rows,
            columns: 2 * half,
            format,
            norm: flags.0,
            bias: flags.1,
            activation: if flags.3 { Activation::None } else { activation },
            residual: flags.2,
            gated: flags.3,
        })
    }

    fn weight_rows(&self) -> usize {
        self.rows * if self.gated { 2 } else { 1 }
    }

    fn x<B: ModelBackend>(&self, device: &B::Device) -> Tensor<B, 2> {
        matrix(&values(1, self.tokens * self.columns), self.tokens, device)
    }

    fn linear<B: ModelBackend>(&self, device: &B::Device) -> Linear<B> {
        let rows = self.weight_rows();
        let bias = self.bias.then(|| vector(&values(2, rows), device));
        Linear::new(weight(&values(3, rows * self.columns), rows, self.format, device), bias)
    }

    fn norm<B: ModelBackend>(&self, device: &B::Device) -> Norm<B> {
        Norm::rms(vector(&values(4, self.columns), device), 1e-6)
    }

    fn residual<B: ModelBackend>(&self, device: &B::Device) -> Tensor<B, 2> {
        matrix(&values(5, self.tokens * self.rows), self.tokens, device)
    }

    fn expected(&self) -> Vec<f32> {
        let device = Default::default();
        let mut x = self.x::<Flex>(&device);
        if self.norm {
            x = definition::normalize(x, &self.norm(&device));
        }
        self.expected_of(x)
    }

    /// What follows the norm.
    fn expected_of(&self, x: Tensor<Flex, 2>) -> Vec<f32> {
        let device = Default::default();
        let mut output = definition::project(x, &self.linear(&device), self.activation);
        if self.gated {
            output = definition::gate(output);
        }
        if self.residual {
            output = output + self.residual(&device);
        }
        host(output)
    }

    fn product(&self, device: &WgpuDevice) -> Product<WgpuRuntime> {
        let mut product = Product::new(&self.linear::<Wgpu>(device), self.activation).unwrap();
        if self.norm {
            product = product.with_norm(&self.norm::<Wgpu>(device)).unwrap();
        }
        product.residual = self.residual.then(|| float(self.residual::<Wgpu>(device)));
        product.gated = self.gated;
        product
    }

    /// The case as the kernel on cooperative matrices takes it.
    fn on_cooperative_matrices(self, tokens: usize, format: WeightFormat) -> Self {
        Self {
            tokens,
            columns: self.columns.next_multiple_of(8),
            format,
            norm: false,
            residual: self.residual && !self.gated,
            ..self
        }
    }

    /// The rows in bf16 and the product; none, and a word of it, where the device has no such matrices.
    fn cooperative_operands(&self) -> Option<(CubeTensor<WgpuRuntime>, Product<WgpuRuntime>)> {
        let device = WgpuDevice::default();
        let product = self.product(&device);
        if !cooperative::takes(self.tokens, &product) {
            eprintln!("skipped: this device has no cooperative matrices of bf16");
            return None;
        }
        Some((round(&float(self.x::<Wgpu>(&device))), product))
    }
}

proptest! {
    // The outermost cuts take software renderers half a minute to compile.
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn every_cut_computes_the_same(
        case in Case::any(),
        pairs in 1..4_usize,
        unroll in 1..4_usize,
        splits in 1..4_usize,
        groups in 1..4_usize,
        planes in any::<bool>(),
    ) {
        let device = WgpuDevice::default();
        let x = float(case.x::<Wgpu>(&device));
        let product = case.product(&device);
        // Software renderers don't announce sums over planes, but have them.
        let hardware = &x.client.properties().hardware;
        let plane = (planes && hardware.plane_size_min == hardware.plane_size_max).then_some(hardware.plane_size_min as usize);
        let shape = MatvecShape { outputs: 2 * pairs, unroll, splits, groups, lanes: plane.unwrap_or(8), planes: plane.is_some() };
        let output = match case.format.quantization() {
            Some(scheme) => quantized::matvec_with(&x, &product, scheme, shape),
            None => matvec_with(&x, &product, MatvecConfig::new(shape, case.tokens, &product)),
        };
        assert_close(&host(tensor::<_, f32, i32, u32, 2>(output)), &case.expected(), 2e-5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn a_product_of_few_rows_is_its_definition(case in Case::any()) {
        let device = WgpuDevice::default();
        let output = matvec(&float(case.x::<Wgpu>(&device)), &case.product(&device));
        assert_close(&host(tensor::<_, f32, i32, u32, 2>(output)), &case.expected(), 2e-5);
    }

    #[test]
    fn a_product_of_many_rows_is_its_definition(case in Case::any(), tokens in 9..150_usize, tile in any::<bool>()) {
        let case = Case { tokens, norm: false, gated: false, ..case };
        let device = WgpuDevice::default();
        let x = float(case.x::<Wgpu>(&device));
        let product = case.product(&device);
        let mut config = TileConfig::choose(tokens, &product);
        if tile {
            config = TileConfig { tokens: 128, rows: 128, unit_tokens: 8, ..config };
        }
        let output = matmul_with(&x, &product, config);
        assert_close(&host(tensor::<_, f32, i32, u32, 2>(output)), &case.expected(), 2e-5);
    }

    #[test]
    fn a_product_on_cooperative_matrices_is_its_definition(case in Case::any(), tokens in 9..150_usize, blocks in 1..5_usize) {
        let case = case.on_cooperative_matrices(tokens, WeightFormat::Bf16);
        let Some((x, product)) = case.cooperative_operands() else { return Ok(()) };
        let tile = Tile { rows: 32 * blocks, depth: 64, ahead: 1 + blocks % 3, ..Tile::choose(64, 32 * blocks) };
        let output = cooperative::matmul_with(&x, &product, DType::F32, tile);
        assert_close(&host(tensor::<_, f32, i32, u32, 2>(output)), &case.expected(), 2e-5);
    }

    #[test]
    fn few_bits_on_cooperative_matrices_are_what_they_are_widened(
        case in Case::any(), int8 in any::<bool>(), tokens in 9..=Tile::FEW, is_wide in any::<bool>(), ahead in 1..4_usize,
    ) {
        let format = if int8 { WeightFormat::Int8 } else { WeightFormat::Int4 };
        let case = case.on_cooperative_matrices(tokens, format);
        let Some((x, product)) = case.cooperative_operands() else { return Ok(()) };
        let chosen = if is_wide { Tile::choose_summed(tokens, 128) } else { Tile::choose(tokens, 32) };
        let tile = Tile { ahead, parts: usize::MAX, ..chosen };
        let [packed, widened] = [product.clone(), quantized::widened(product)]
            .map(|product| cooperative::matmul_with(&x, &product, DType::F32, tile))
            .map(|output| host(tensor::<_, f32, i32, u32, 2>(output)));
        assert_eq!(packed, widened);
    }

    #[test]
    fn norms_are_their_definition(tokens in 1..20_usize, half in 1..300_usize, layer in any::<bool>(), packed in any::<bool>()) {
        let columns = 2 * half;
        let x = values(7, tokens * columns);
        let (scale, shift) = (values(8, columns), values(9, columns));
        fn norm<B: ModelBackend>(scale: &[f32], shift: &[f32], layer: bool, device: &B::Device) -> Norm<B> {
            let scale = vector(scale, device);
            if layer { Norm::layer(scale, vector(shift, device), 1e-6) } else { Norm::rms(scale, 1e-6) }
        }
        let cpu = Default::default();
        let expected = host(definition::normalize(matrix::<Flex>(&x, tokens, &cpu), &norm(&scale, &shift, layer, &cpu)));
        let device = WgpuDevice::default();
        let dtype = if packed { DType::BF16 } else { DType::F32 };
        let output = normalize_rows(&float(matrix::<Wgpu>(&x, tokens, &device)), &norm::<Wgpu>(&scale, &shift, layer, &device), dtype);
        assert_close(&bits(output), &expected, if packed { 4e-3 } else { 1e-5 });
    }

    #[test]
    fn summed_parts_and_their_norms_are_their_definition(tokens in 1..20_usize, half in 1..300_usize, parts in 1..5_usize) {
        let columns = 2 * half;
        let (added, scale) = (values(11, tokens * columns), values(12, columns));
        let products = values(13, parts * tokens * columns);
        let mut sums = added.clone();
        for part in products.chunks(tokens * columns) {
            sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        let cpu = Default::default();
        let norm = Norm::rms(vector::<Flex>(&scale, &cpu), 1e-6);
        let expected = host(definition::normalize(matrix::<Flex>(&sums, tokens, &cpu), &norm));
        let device = WgpuDevice::default();
        let [sum, normalised] = sum_norm(&SumNorm {
            product: &float(matrix::<Wgpu>(&products, parts * tokens, &device)),
            parts,
            residual: &float(matrix::<Wgpu>(&added, tokens, &device)),
            weight: &float(vector::<Wgpu>(&scale, &device)),
            epsilon: 1e-6,
        });
        assert_close(&host(tensor::<_, f32, i32, u32, 2>(sum)), &sums, 1e-6);
        assert_close(&bits(normalised), &expected, 4e-3);
    }

    #[test]
    fn gates_are_their_definition(tokens in 1..20_usize, half in 1..100_usize, packed in any::<bool>()) {
        let x: Vec<f32> = values(10, tokens * 4 * half);
        let expected = host(definition::gate(matrix::<Flex>(&x, tokens, &Default::default())));
        let mut input = float(matrix::<Wgpu>(&x, tokens, &WgpuDevice::default()));
        if packed {
            input = round(&input);
        }
        assert_close(&bits(gate(&input)), &expected, if packed { 4e-3 } else { 1e-5 });
    }

    #[test]
    fn rows_are_looked_up_and_added(features in 1..60_usize, rows in 1..9_usize, shared in any::<bool>()) {
        fn run<B: ModelBackend>(features: usize, rows: usize, shared: bool, device: &B::Device) -> [Vec<f32>; 2] {
            let table = weight(&values(12, 10 * 2 * features), 10, WeightFormat::Bf16, device);
            let ids: Vec<i32> = (0..rows as i32).map(|row| (row * 7 + 3) % 10).collect();
            let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [rows]), (device, DType::I32));
            let x = matrix::<B>(&values(13, 10 * features), 10, device);
            let kept = shared.then(|| x.clone());
            let sum = B::add_rows(x, ids.clone(), matrix(&values(14, rows * features), rows, device));
            if let Some(kept) = kept {
                assert_eq!(host(kept), values(13, 10 * features), "a shared tensor was written to");
            }
            [host(B::lookup_rows(ids, &table)), host(sum)]
        }
        let expected = run::<Flex>(features, rows, shared, &Default::default());
        prop_assert_eq!(run::<Wgpu>(features, rows, shared, &WgpuDevice::default()), expected);
    }

    #[test]
    fn pixels_are_their_definition(patches in 1..6_usize, channels in 1..4_usize, temporal in 1..4_usize, area in 1..40_usize) {
        let pixels: Vec<u8> = (0..patches * channels * area).map(|i| (i * 31 % 256) as u8).collect();
        let expected = host(Flex::normalize_pixels(&pixels, channels, temporal, area, &Default::default()));
        let output = host(Wgpu::normalize_pixels(&pixels, channels, temporal, area, &WgpuDevice::default()));
        assert_close(&output, &expected, 6e-8);
    }

    #[test]
    fn fourier_features_are_exact_at_large_angles(x in prop::collection::vec(-3.2_f32..3.2, 6), time in 0.0_f32..1.0) {
        let frequencies: Vec<f32> = (0..3 * 10).map(|i| 100_f32.powf((i % 10) as f32 / 9.0)).collect();
        fn run<B: ModelBackend>(x: &[f32], time: f32, frequencies: &[f32], device: &B::Device) -> Vec<f32> {
            host(B::fourier_features(matrix(x, 3, device), time, &matrix(frequencies, 3, device)))
        }
        let expected = run::<Flex>(&x, time, &frequencies, &Default::default());
        let output = run::<Wgpu>(&x, time, &frequencies, &WgpuDevice::default());
        assert_close(&output, &expected, 3e-7);
    }

    #[test]
    fn rounding_is_to_nearest_even(values in prop::collection::vec(-1e30_f32..1e30, 2..200)) {
        let even = values.len() / 2 * 2;
        let rounded = round(&float(matrix::<Wgpu>(&values[..even], 1, &WgpuDevice::default())));
        let expected: Vec<f32> = values[..even].iter().map(|&value| bf16::from_f32(value).to_f32()).collect();
        prop_assert_eq!(bits(rounded), expected);
    }
}

/// A kernel's result on the host, from f32 or from bf16 bits, which this backend's own conversions don't read.
fn bits(tensor: burn_cubecl::tensor::CubeTensor<crate::instances::WgpuRuntime>) -> Vec<f32> {
    let count = tensor.meta.num_elements();
    let bytes = tensor.client.read_one(tensor.handle).unwrap();
    match tensor.dtype {
        DType::BF16 => bytes[..2 * count]
            .chunks_exact(2)
            .map(|pair| bf16::from_le_bytes([pair[0], pair[1]]).to_f32())
            .collect(),
        _ => bytes[..4 * count]
            .chunks_exact(4)
            .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect(),
    }
}
