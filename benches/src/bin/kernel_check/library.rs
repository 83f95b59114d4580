//! Products of many rows by the platform's library.

use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::kernels::linear::LibraryProduct;
use alpamayo_backends::kernels::product::Product;
use alpamayo_backends::layers::{Activation, Linear, WeightFormat};
use burn::tensor::{DType, Tensor, TensorPrimitive};
use half::bf16;

use super::measure::{
    Cube, Options, Work, dot, host, random, relative_error, row, sample, time, weight_row, weights_in,
};

/// `(tokens, in, out)` of the released model's large products.
pub const SHAPES: [(usize, usize, usize); 14] = [
    (3006, 4096, 6144),
    (3006, 4096, 4096),
    (3006, 4096, 24_576),
    (3006, 12_288, 4096),
    (11_520, 1152, 3456),
    (11_520, 1152, 1152),
    (11_520, 1152, 4304),
    (11_520, 4304, 1152),
    (2880, 4608, 4608),
    (2880, 4608, 4096),
    (64, 2048, 4096),
    (64, 2048, 16_512),
    (64, 8256, 2048),
    (384, 2048, 16_512),
];

/// What surrounds a product.
#[derive(Clone, Copy)]
enum Around {
    Nothing(DType),
    Bias(DType),
    BiasGelu,
    BiasResidual,
}

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    if !R::has_library(device) {
        return println!("library: none on this device");
    }
    for &(tokens, columns, rows) in &SHAPES {
        let (columns, rows) = (options.extent(columns), options.extent(rows));
        for around in [
            Around::Nothing(DType::F32),
            Around::Nothing(DType::BF16),
            Around::Bias(DType::F32),
            Around::BiasGelu,
            Around::BiasResidual,
        ] {
            product::<R>((tokens, columns, rows), WeightFormat::Bf16, around, device);
        }
        // Widened a part at a time, which is for many rows.
        let many = [Around::Nothing(DType::BF16), Around::BiasGelu, Around::BiasResidual];
        for around in many.into_iter().filter(|_| tokens > 64) {
            product::<R>((tokens, columns, rows), WeightFormat::Int8, around, device);
        }
    }
}

fn product<R: KernelRuntime>(
    (tokens, columns, rows): (usize, usize, usize),
    format: WeightFormat,
    around: Around,
    device: &R::Device,
) {
    let weights = weights_in::<R>(format, rows, columns, device);
    let bias = random::<R>(1, rows, device)
        .cast(DType::BF16)
        .cast(DType::F32)
        .reshape([rows]);
    let residual = random::<R>(tokens, rows, device);
    let (name, activation, with_bias, dtype) = match around {
        Around::Nothing(dtype) => (format!("library -> {dtype:?}"), Activation::None, false, dtype),
        Around::Bias(dtype) => (format!("library + bias -> {dtype:?}"), Activation::None, true, dtype),
        Around::BiasGelu => (
            "library + bias, gelu -> BF16".into(),
            Activation::GeluTanh,
            true,
            DType::BF16,
        ),
        Around::BiasResidual => (
            "library + bias, residual -> F32".into(),
            Activation::None,
            true,
            DType::F32,
        ),
    };
    let linears: Vec<Linear<Cube<R>>> = weights
        .into_iter()
        .map(|weight| Linear::new(weight, with_bias.then(|| bias.clone())))
        .collect();
    let products: Vec<_> = linears
        .iter()
        .filter_map(|linear| Product::<R>::new(linear, activation))
        .map(|mut product| {
            if matches!(around, Around::BiasResidual) {
                product.residual = Some(residual.clone().into_primitive().tensor());
            }
            product
        })
        .collect();
    let name = format!("{} {name}", format.name());
    let x = random::<R>(tokens, columns, device).cast(DType::BF16);
    let input = burn_cubecl::kernel::into_contiguous(x.clone().into_primitive().tensor());
    let shape = format!("{tokens} x {columns} -> {rows}");
    let launch = |index: usize| {
        R::library_product(&LibraryProduct {
            x: &input,
            product: &products[index % products.len()],
            dtype,
        })
    };
    let Some(output) = launch(0) else {
        return println!("{name:<34} {shape:<26} refused");
    };
    let output = host::<R, 2>(Tensor::<Cube<R>, 2>::from_primitive(TensorPrimitive::Float(output)));
    let (x, bias, residual) = (host::<R, 2>(x), host::<R, 1>(bias), host::<R, 2>(residual));
    let mut pairs = Vec::new();
    for at in sample(rows) {
        let weight = weight_row::<R>(&linears[0].weight, at);
        let weight: Vec<f32> = weight.iter().map(|&value| bf16::from_f32(value).to_f32()).collect();
        for token in sample(tokens) {
            let mut expected = dot(&x[token * columns..][..columns], &weight);
            if with_bias {
                expected += f64::from(bias[at]);
            }
            if matches!(around, Around::BiasGelu) {
                expected = gelu_tanh(expected);
            }
            if matches!(around, Around::BiasResidual) {
                expected += f64::from(residual[token * rows + at]);
            }
            // A result that is stored as bf16 is compared with the rounded reference.
            if dtype == DType::BF16 {
                expected = f64::from(bf16::from_f64(expected).to_f32());
            }
            pairs.push((output[token * rows + at], expected));
        }
    }
    let times = time::<R, _>(device, launch);
    let work = if tokens <= 64 {
        Work::Bytes(2 * rows * columns)
    } else {
        Work::Operations(2 * tokens * rows * columns)
    };
    row(&name, &shape, times, work, relative_error(&pairs));
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}
