//! Products with weights of few bits: cuts of the matrix-vector kernel, and what the model calls with more rows.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::definition::host_values;
use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::kernels::matvec::MatvecShape;
use alpamayo_backends::kernels::product::Product;
use alpamayo_backends::kernels::quantized;
use alpamayo_backends::layers::{Activation, Linear, Quantization, SourceType, Weight, WeightFormat, WeightSource};
use burn::tensor::{Tensor, TensorPrimitive};

use super::matvec::SHAPES;
use super::measure::{Cube, Options, Work, dot, host, random, relative_error, row, sample, time};

/// (outputs, unroll, splits, groups).
const VARIANTS: [[usize; 4]; 12] = [
    [1, 1, 1, 8],
    [1, 2, 2, 4],
    [1, 4, 1, 8],
    [2, 1, 1, 8],
    [2, 1, 2, 4],
    [2, 2, 1, 8],
    [2, 2, 2, 4],
    [4, 1, 1, 8],
    [4, 1, 2, 4],
    [4, 1, 4, 2],
    [4, 2, 1, 8],
    [8, 1, 2, 4],
];

/// More weight bytes than a GPU's last-level cache holds.
const COLD_BYTES: usize = 256 << 20;

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    for scheme in [Quantization::Int8, Quantization::Int4] {
        for (rows, columns) in SHAPES.map(|(rows, columns)| (options.extent(rows), options.extent(columns))) {
            let bytes = 4 * rows * scheme.row_words(columns);
            let copies = COLD_BYTES.div_ceil(bytes).clamp(1, 64);
            let format = WeightFormat::from(scheme);
            let linears: Vec<Linear<Cube<R>>> = (0..copies)
                .map(|_| Cube::<R>::random_weight((rows, columns), 0.05, format, device).expect("it fits the device"))
                .map(|weight| Linear::new(weight, None))
                .collect();
            for &tokens in &options.tokens {
                cuts::<R>(scheme, &linears, tokens, bytes, options, device);
            }
            for tokens in [64, 3006] {
                let x = random::<R>(tokens, columns, device);
                let launch =
                    |index: usize| Cube::<R>::project(x.clone(), &linears[index % linears.len()], Activation::None);
                let error = error::<R>(&linears[0], &x, &launch(0));
                let times = time::<R, _>(device, launch);
                let shape = format!("{tokens} x {columns} -> {rows}");
                let work = if tokens <= 64 {
                    Work::Bytes(bytes)
                } else {
                    Work::Operations(2 * tokens * rows * columns)
                };
                row(&format!("{} project", scheme.name()), &shape, times, work, error);
            }
        }
    }
}

/// Every cut for a few rows, the chosen one first.
fn cuts<R: KernelRuntime>(
    scheme: Quantization,
    linears: &[Linear<Cube<R>>],
    tokens: usize,
    bytes: usize,
    options: &Options,
    device: &R::Device,
) {
    let products: Vec<_> = linears
        .iter()
        .filter_map(|linear| Product::<R>::new(linear, Activation::None))
        .collect();
    let (rows, columns) = linears[0].weight.shape();
    let x = random::<R>(tokens, columns, device);
    let input = x.clone().into_primitive().tensor();
    let chosen = quantized::choose(&input.client, tokens, &products[0], scheme);
    let variants = if options.variants.is_empty() {
        &VARIANTS[..]
    } else {
        &options.variants
    };
    let shapes = variants.iter().map(|&[outputs, unroll, splits, groups]| MatvecShape {
        outputs,
        unroll,
        splits,
        groups,
        ..chosen
    });
    let mut best = (f64::MAX, String::new());
    for (index, shape) in std::iter::once(chosen).chain(shapes).enumerate() {
        let launch = |launch: usize| quantized::matvec_with(&input, &products[launch % products.len()], scheme, shape);
        let output = Tensor::<Cube<R>, 2>::from_primitive(TensorPrimitive::Float(launch(0)));
        let error = error::<R>(&linears[0], &x, &output);
        let times = time::<R, _>(device, launch);
        let label = format!("{},{},{},{}", shape.outputs, shape.unroll, shape.splits, shape.groups);
        let name = if index == 0 { "chosen " } else { "" };
        let shape = format!("{tokens} x {columns} -> {rows}");
        row(
            &format!("{} {name}{label}", scheme.name()),
            &shape,
            times,
            Work::Bytes(bytes),
            error,
        );
        if times.0 < best.0 {
            best = (times.0, label);
        }
    }
    println!(
        "best for {} {tokens} x {columns} -> {rows}: {} ({:.2} us)",
        scheme.name(),
        best.1,
        best.0 * 1e6
    );
}

/// Relative error of some elements.
fn error<R: KernelRuntime>(linear: &Linear<Cube<R>>, x: &Tensor<Cube<R>, 2>, output: &Tensor<Cube<R>, 2>) -> f64 {
    let Weight::Quantized(weight) = &linear.weight else {
        panic!("the weights are of few bits")
    };
    let (rows, columns) = linear.weight.shape();
    let (x, output) = (host::<R, 2>(x.clone()), host::<R, 2>(output.clone()));
    let tokens = x.len() / columns;
    let mut pairs = Vec::new();
    for at in sample(rows) {
        let words = weight.words.val().narrow(0, at, 1).into_data();
        let source = WeightSource::new(
            vec![words.as_bytes()],
            SourceType::Quantized(weight.quantization),
            1,
            columns,
        );
        let values = host_values(&source, WeightFormat::F32).expect("a whole row was read");
        let values: Vec<f32> = values.iter::<f32>().collect();
        for token in [0, tokens / 2, tokens - 1] {
            pairs.push((
                output[token * rows + at],
                dot(&x[token * columns..][..columns], &values),
            ));
        }
    }
    relative_error(&pairs)
}
