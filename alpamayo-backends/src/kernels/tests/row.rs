//! One row against few bits, whatever units hold of it.

use super::quantized::row::{CubeLimits, Held, RowShape, add_and_multiply, prepared, row_with};
use super::*;
use crate::definition::host_values;
use crate::instances::KernelRuntime;
use crate::layers::Quantization;

/// What the device's kernels can hold.
fn helds(x: &CubeTensor<WgpuRuntime>) -> Vec<Held> {
    let mut helds = vec![Held::Floats];
    if WgpuRuntime::multiplies_bytes(&x.client) {
        helds.push(Held::Bytes);
    } else {
        eprintln!("skipped: this device multiplies no bytes");
    }
    helds
}

/// The kernel's own choice of a cut. Software renderers don't announce sums over planes, but have them.
fn chosen(x: &CubeTensor<WgpuRuntime>, extents: (usize, usize), scheme: Quantization, held: Held) -> RowShape {
    RowShape::choose(limits(x), extents, scheme, held).unwrap()
}

fn limits(x: &CubeTensor<WgpuRuntime>) -> CubeLimits {
    let hardware = &x.client.properties().hardware;
    CubeLimits {
        lanes: hardware.plane_size_min as usize,
        units: hardware.max_units_per_cube as usize,
        shared: hardware.max_shared_memory_size,
    }
}

/// The columns of every unit of a row.
fn units(columns: usize) -> impl Iterator<Item = Vec<usize>> {
    let starts = (0..columns)
        .step_by(Quantization::GROUP)
        .flat_map(|group| (0..4).map(move |unit| group + 8 * unit));
    starts.map(move |start| {
        let blocks = (0..Quantization::BLOCKS).map(|block| start + block * Quantization::BLOCK);
        blocks
            .flat_map(|first| first..first + 8)
            .filter(|&column| column < columns)
            .collect()
    })
}

/// What units that hold bytes keep of a row: multiples of a power of two, of which the largest value has fewer than 127 · 2^8.
fn kept(row: &[f32]) -> Vec<f32> {
    let mut kept = row.to_vec();
    for unit in units(row.len()) {
        let largest = unit
            .iter()
            .fold(1e-30_f32, |largest, &column| largest.max(row[column].abs()));
        let power = f32::from_bits((largest.to_bits() + 0x2_0000) & 0x7f80_0000);
        for column in unit {
            kept[column] = (row[column] / power * 16_384.0).round_ties_even() / 16_384.0 * power;
        }
    }
    kept
}

/// The case's definition with what units keep of `x`, times the norm's weight where there is one.
fn expected(case: &Case, held: Held) -> Vec<f32> {
    if held == Held::Floats {
        return case.expected();
    }
    let device = Default::default();
    let mut x = host(case.x::<Flex>(&device));
    let mut scale = 1.0;
    if case.norm {
        let square = x.iter().map(|value| f64::from(value * value)).sum::<f64>() / x.len() as f64;
        scale = (1.0 / (square + 1e-6).sqrt()) as f32;
        x.iter_mut()
            .zip(values(4, case.columns))
            .for_each(|(value, weight)| *value *= weight);
    }
    let kept: Vec<f32> = kept(&x).iter().map(|value| value * scale).collect();
    case.expected_of(matrix(&kept, 1, &device))
}

/// Values of both signs, of very different sizes from one unit to the next, now and then zero.
fn uneven(seed: u32, count: usize) -> Vec<f32> {
    let value = |index: usize| {
        let hash = (index as u32 ^ seed)
            .wrapping_mul(0x9e37_79b9)
            .rotate_left(13)
            .wrapping_mul(0x85eb_ca6b);
        let size = [1.0, 1e-3, 3e4, 1e-20, 0.0][(index / 8 + seed as usize % 5) % 5];
        (hash as f32 / u32::MAX as f32 - 0.5) * size
    };
    (0..count).map(value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn a_row_against_few_bits_is_its_definition(
        case in Case::any(), int8 in any::<bool>(), cut in (1..3_usize, 1..3_usize, 1..3_usize, 1..4_usize), passes in 1..4_usize,
    ) {
        let format = if int8 { WeightFormat::Int8 } else { WeightFormat::Int4 };
        let case = Case { tokens: 1, format, ..case };
        let device = WgpuDevice::default();
        let x = float(case.x::<Wgpu>(&device));
        let product = case.product(&device);
        let scheme = format.quantization().unwrap();
        let (groups, pairs, slots, rounds) = cut;
        for held in helds(&x) {
            let chosen = chosen(&x, (case.rows, case.columns), scheme, held);
            // The chosen planes in more passes, some of which have no columns then.
            let passes = chosen.passes.max(passes);
            let shape = RowShape { passes, groups, batch: 2 * pairs, slots, batches: slots * rounds, ..chosen };
            let output = row_with(&x, &product, scheme, shape);
            assert_close(&host(tensor::<_, f32, i32, u32, 2>(output)), &expected(&case, held), 2e-5);
        }
    }

    #[test]
    fn products_behind_one_another_are_those_one_by_one(
        groups in (1..4_usize, 1..4_usize, 1..4_usize), int8 in (any::<bool>(), any::<bool>(), any::<bool>()),
        gated in any::<bool>(), seed in 0..9_u64,
    ) {
        let device = WgpuDevice::default();
        let (columns, hidden, outputs) = (128 * groups.0, 128 * groups.1, 128 * groups.2);
        let format = |int8| if int8 { WeightFormat::Int8 } else { WeightFormat::Int4 };
        let product = |seed, rows, columns, int8| {
            let linear = Linear::new(weight::<Wgpu>(&values(seed, rows * columns), rows, format(int8), &device), None);
            Product::new(&linear, Activation::None).unwrap()
        };
        let x = float(matrix::<Wgpu>(&uneven(seed as u32, columns), 1, &device));
        if !WgpuRuntime::multiplies_bytes(&x.client) {
            return Ok(());
        }
        let residual = float(matrix::<Wgpu>(&values(seed + 1, hidden), 1, &device));
        let first = Product { residual: Some(residual), ..product(seed + 2, hidden, columns, int8.0) };
        let norm = Norm::rms(vector(&values(seed + 3, hidden), &device), 1e-6);
        let rows = if gated { 2 * outputs } else { outputs };
        let second = Product { gated, ..product(seed + 4, rows, hidden, int8.1) };
        let second = second.with_norm::<f32, i32, u32>(&norm).unwrap();
        let one = |x: &CubeTensor<WgpuRuntime>, product: &Product<WgpuRuntime>, int8| {
            let scheme = format(int8).quantization().unwrap();
            row_with(x, product, scheme, chosen(x, (product.weight.rows, product.weight.columns), scheme, Held::Bytes))
        };
        let values_of = |x: CubeTensor<WgpuRuntime>| host(tensor::<_, f32, i32, u32, 2>(x));
        let sum = one(&x, &first, int8.0);
        let expected = one(&sum, &second, int8.1);
        let [actual_sum, actual] = add_and_multiply(limits(&x), &x, &first, &second).unwrap();
        prop_assert_eq!(prepared::scheme(&actual).is_some(), gated);
        assert_close(&values_of(actual_sum), &values_of(sum.clone()), 1e-6);
        // What is kept of a gated row is read by a third product as by one that keeps it itself; its scheme may be another one.
        let third = Product { residual: Some(sum.clone()), ..product(seed + 5, hidden, outputs, int8.2) };
        let last = Product { gated: false, ..second.clone() };
        let expected_third = add_and_multiply(limits(&x), &expected, &third, &last).unwrap();
        let actual_third = add_and_multiply(limits(&x), &actual, &third, &last).unwrap();
        for (actual, expected) in actual_third.into_iter().zip(expected_third) {
            // Gated outputs are kept twice where `expected` is: to fifteen bits of a set's largest each time.
            assert_close(&values_of(prepared::plain(actual)), &values_of(prepared::plain(expected)), 1e-4);
        }
        let (actual, expected) = (values_of(prepared::plain(actual)), values_of(expected));
        // What is kept is half of an integer's last bit off, of which a set's largest value has 127 · 2^7 or more.
        let kept = if gated { 0.5 / 16_256.0 } else { 0.0 };
        assert_close(&actual, &expected, 4e-5 + kept);
    }

    #[test]
    fn units_keep_fifteen_bits_of_their_largest_value(columns in 1..400_usize, seed in any::<u32>(), int8 in any::<bool>()) {
        let format = if int8 { WeightFormat::Int8 } else { WeightFormat::Int4 };
        let device = WgpuDevice::default();
        let row = uneven(seed, columns);
        let x = float(matrix::<Wgpu>(&row, 1, &device));
        // A column each.
        let ones: Vec<f32> = (0..columns * columns).map(|at| f32::from(at / columns == at % columns)).collect();
        let bytes: Vec<u8> = ones.iter().flat_map(|value| value.to_le_bytes()).collect();
        let source = WeightSource::new(vec![&bytes], SourceType::F32, columns, columns);
        let stored = host_values(&source, format).unwrap().iter::<f32>().collect::<Vec<f32>>();
        let linear = Linear::new(weight::<Wgpu>(&ones, columns, format, &device), None);
        let product = Product::new(&linear, Activation::None).unwrap();
        for held in helds(&x) {
            let scheme = format.quantization().unwrap();
            let shape = chosen(&x, (columns, columns), scheme, held);
            let output = row_with(&x, &product, scheme, shape);
            let output = host(tensor::<_, f32, i32, u32, 2>(output));
            for unit in units(columns) {
                let largest = unit.iter().fold(1e-30_f32, |largest, &column| largest.max(row[column].abs()));
                // Half of an integer's last bit, where the largest one is 127 · 2^7 or above.
                let off = if held == Held::Bytes { 0.5 / 16_256.0 } else { 0.5_f64.powi(22) };
                for column in unit {
                    let one = stored[column * columns + column];
                    let error = f64::from(output[column]) - f64::from(row[column]) * f64::from(one);
                    let most = f64::from(largest) * f64::from(one) * off * 1.0001;
                    prop_assert!(error.abs() <= most, "{held:?}, column {column}: {error} is more than {most}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_is_not_hidden() {
    let device = WgpuDevice::default();
    for (at, value) in [
        (3, f32::NAN),
        (40, f32::INFINITY),
        (299, f32::NEG_INFINITY),
        (77, f32::from_bits(0x7fff_ffff)),
    ] {
        let mut row = uneven(5, 300);
        row[at] = value;
        let x = float(matrix::<Wgpu>(&row, 1, &device));
        let linear = Linear::new(
            weight::<Wgpu>(&values(3, 6 * 300), 6, WeightFormat::Int8, &device),
            None,
        );
        let product = Product::new(&linear, Activation::None).unwrap();
        for held in helds(&x) {
            let shape = chosen(&x, (6, 300), Quantization::Int8, held);
            let output = row_with(&x, &product, Quantization::Int8, shape);
            let output = host(tensor::<_, f32, i32, u32, 2>(output));
            assert!(output.iter().all(|value| !value.is_finite()), "{held:?}: {output:?}");
        }
    }
}
