//! Weights as they are stored, in parts and in slabs, and random ones.

use super::*;

#[test]
fn stored_weights_keep_their_values() {
    let device = WgpuDevice::default();
    let expected = values(11, 6 * 10);
    for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16] {
        let stored = match weight::<Wgpu>(&expected, 6, format, &device) {
            Weight::Float(weight) => host(weight.values.val().cast(DType::F32)),
            Weight::Bf16(weight) => weight
                .words
                .val()
                .into_data()
                .iter::<i32>()
                .flat_map(|word| [word as u16, (word >> 16) as u16])
                .map(|bits| bf16::from_bits(bits).to_f32())
                .collect(),
            Weight::Quantized(_) | Weight::Split(_) => panic!("{format:?} is neither of few bits nor in parts here"),
        };
        assert_eq!(stored, expected, "{format:?}");
    }
}

#[test]
fn a_weight_in_parts_is_the_weight() {
    fn run<B: ModelBackend>(cuts: &[usize], format: WeightFormat, device: &B::Device) -> [Vec<f32>; 3] {
        let all = values(17, 20 * 64);
        let parts: Vec<Weight<B>> = cuts
            .windows(2)
            .map(|cut| weight(&all[cut[0] * 64..cut[1] * 64], cut[1] - cut[0], format, device))
            .collect();
        let weight = Weight::from_parts(parts);
        assert_eq!(weight.shape(), (20, 64));
        let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(vec![19, 0, 7, 8, 7], [5]), (device, DType::I32));
        let rows = B::lookup_rows(ids, &weight);
        let x = || matrix::<B>(&values(18, 3 * 64), 3, device);
        let norm = Norm::rms(vector(&values(4, 64), device), 1e-6);
        let linear = Linear::new(weight, Some(vector(&values(2, 20), device)));
        let projected = B::norm_project(x(), &norm, &linear, Activation::Silu);
        let gated = B::norm_gate_up(x(), &norm, &Linear { bias: None, ..linear });
        [host(rows), host(projected), host(gated)]
    }
    for format in [
        WeightFormat::F32,
        WeightFormat::Bf16,
        WeightFormat::Int8,
        WeightFormat::Int4,
    ] {
        let expected = run::<Flex>(&[0, 20], format, &Default::default());
        for found in [
            run::<Flex>(&[0, 8, 13, 20], format, &Default::default()),
            run::<Wgpu>(&[0, 8, 13, 20], format, &WgpuDevice::default()),
        ] {
            for (found, expected) in found.iter().zip(&expected) {
                assert_close(found, expected, 2e-5);
            }
        }
    }
}

#[test]
fn large_weights_arrive_in_slabs() {
    let device = WgpuDevice::default();
    let expected = values(15, 70 * 300);
    let bytes: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
    let source = WeightSource::new(vec![&bytes], SourceType::F32, 70, 300);
    let x = values(16, 300);
    for format in [
        WeightFormat::F32,
        WeightFormat::Bf16,
        WeightFormat::Int8,
        WeightFormat::Int4,
    ] {
        let product = |weight: Weight<Wgpu>| {
            host(Wgpu::project(
                matrix(&x, 1, &device),
                &Linear::new(weight, None),
                Activation::None,
            ))
        };
        let slabs = definition::store_weight_in_slabs::<Wgpu>(&source, format, 5000, &device).unwrap();
        let whole = Wgpu::store_weight(&source, format, &device).unwrap();
        assert_eq!(product(slabs), product(whole), "{format:?}");
    }
}

#[test]
fn random_weights_are_uniform_and_differ() {
    let device = WgpuDevice::default();
    let make = || {
        let weight = Wgpu::random_weight((64, 256), 0.5, WeightFormat::Bf16, &device).unwrap();
        host(definition::float_weight(&weight))
    };
    let (first, second) = (make(), make());
    assert_ne!(first, second);
    let count = first.len() as f32;
    let mean = first.iter().sum::<f32>() / count;
    let variance = first.iter().map(|value| value * value).sum::<f32>() / count;
    assert!(first.iter().all(|value| value.abs() <= 0.5));
    assert!(mean.abs() < 0.02, "mean {mean}");
    assert!((variance - 1.0 / 12.0).abs() < 0.004, "variance {variance}");
}
