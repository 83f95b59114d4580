//! Cuts of the matrix-vector kernel.

use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::kernels::matvec::{MatvecConfig, MatvecShape, matvec_with};
use alpamayo_backends::kernels::product::Product;
use alpamayo_backends::layers::{Activation, Linear};

use super::measure::{Cube, Options, Work, dot, host, random, relative_error, row, sample, time, weight_row, weights};
use burn::tensor::{Tensor, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;

/// `(out, in)` of the released model's products.
pub const SHAPES: [(usize, usize); 10] = [
    (24_576, 4096),
    (4096, 12_288),
    (6144, 4096),
    (4096, 4096),
    (155_697, 4096),
    (16_512, 2048),
    (2048, 8256),
    (4096, 2048),
    (2048, 2048),
    (12_288, 4096),
];

/// (outputs, unroll, splits, groups).
const VARIANTS: [[usize; 4]; 16] = [
    [1, 4, 1, 8],
    [1, 4, 2, 4],
    [1, 4, 4, 2],
    [1, 8, 1, 8],
    [2, 2, 1, 8],
    [2, 2, 2, 4],
    [2, 2, 4, 2],
    [2, 4, 1, 8],
    [2, 4, 2, 4],
    [2, 4, 4, 1],
    [4, 1, 1, 8],
    [4, 1, 2, 4],
    [4, 2, 1, 8],
    [4, 2, 2, 4],
    [4, 2, 4, 2],
    [8, 1, 2, 4],
];

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    for (rows, columns) in SHAPES.map(|(rows, columns)| (options.extent(rows), options.extent(columns))) {
        let linears: Vec<_> = weights::<R>(rows, columns, device)
            .into_iter()
            .map(|weight| Linear::new(weight, None))
            .collect();
        let products: Vec<_> = linears
            .iter()
            .filter_map(|linear| Product::<R>::new(linear, Activation::None))
            .collect();
        for &tokens in &options.tokens {
            let x = random::<R>(tokens, columns, device);
            let input = into_contiguous(x.clone().into_primitive().tensor());
            let x = host::<R, 2>(x);
            let samples: Vec<_> = sample(rows)
                .into_iter()
                .map(|at| (at, weight_row::<R>(&linears[0].weight, at)))
                .collect();
            let chosen = MatvecShape::choose(&input.client, tokens, &products[0]);
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
                let config = MatvecConfig::new(shape, tokens, &products[0]);
                let output = matvec_with(&input, &products[0], config);
                let output = host::<R, 2>(Tensor::<Cube<R>, 2>::from_primitive(TensorPrimitive::Float(output)));
                let pairs: Vec<_> = (0..tokens)
                    .flat_map(|token| samples.iter().map(move |sample| (token, sample)))
                    .map(|(token, (at, weight))| {
                        let expected = dot(&x[token * columns..][..columns], weight);
                        (output[token * rows + at], expected)
                    })
                    .collect();
                let times = time::<R, _>(device, |launch| {
                    matvec_with(&input, &products[launch % products.len()], config)
                });
                let label = format!("{},{},{},{}", shape.outputs, shape.unroll, shape.splits, shape.groups);
                let name = if index == 0 {
                    format!("matvec chosen {label}")
                } else {
                    format!("matvec {label}")
                };
                if index == 0 || options.verbose {
                    let work = Work::Bytes(2 * rows * columns);
                    let shape = format!("{tokens} x {columns} -> {rows}");
                    row(&name, &shape, times, work, relative_error(&pairs));
                }
                if times.0 < best.0 {
                    best = (times.0, label);
                }
            }
            let rate = (2 * rows * columns) as f64 / best.0 / 1e12;
            println!(
                "  best {tokens} x {columns} -> {rows}: {} {:.2} us {rate:.3} TB/s",
                best.1,
                best.0 * 1e6
            );
        }
    }
}
