//! Cuts of the streamed product on tensor cores.

use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::kernels::product::Product;
use alpamayo_backends::kernels::streamed::{StreamedConfig, StreamedShape, streamed_with, takes};
use alpamayo_backends::layers::{Activation, Linear};
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;

use super::measure::{Cube, Options, Work, dot, host, random, relative_error, row, sample, time, weight_row, weights};

/// `(out, in)` of the released model's products.
const SHAPES: [(usize, usize); 9] = [
    (24_576, 4096),
    (4096, 12_288),
    (6144, 4096),
    (4096, 4096),
    (155_697, 4096),
    (16_512, 2048),
    (2048, 8256),
    (4096, 2048),
    (2048, 2048),
];

/// (row tiles, unroll, splits, groups).
const VARIANTS: [[usize; 4]; 18] = [
    [1, 1, 8, 1],
    [1, 1, 16, 1],
    [1, 2, 4, 2],
    [1, 2, 8, 1],
    [1, 2, 8, 2],
    [1, 2, 16, 1],
    [1, 4, 4, 1],
    [1, 4, 4, 2],
    [1, 4, 4, 4],
    [1, 4, 8, 1],
    [1, 4, 8, 2],
    [1, 4, 16, 1],
    [2, 1, 4, 2],
    [2, 1, 8, 2],
    [2, 1, 16, 1],
    [2, 2, 4, 2],
    [2, 2, 8, 1],
    [2, 2, 16, 1],
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
        let samples: Vec<_> = sample(rows)
            .into_iter()
            .map(|at| (at, weight_row::<R>(&linears[0].weight, at)))
            .collect();
        for &tokens in &options.tokens {
            if !takes(tokens, &products[0]) {
                println!("streamed: not {tokens} x {columns} -> {rows} on this device");
                continue;
            }
            let x = random::<R>(tokens, columns, device).cast(DType::BF16);
            let values = host::<R, 2>(x.clone());
            let input = if tokens > 8 { x } else { x.cast(DType::F32) };
            let input = into_contiguous(input.into_primitive().tensor());
            let chosen = StreamedShape::choose(tokens, &products[0]);
            let variants = if options.variants.is_empty() {
                &VARIANTS[..]
            } else {
                &options.variants
            };
            let shapes = variants
                .iter()
                .map(|&[row_tiles, unroll, splits, groups]| StreamedShape {
                    row_tiles,
                    unroll,
                    splits,
                    groups,
                });
            let mut best = (f64::MAX, String::new());
            for (index, shape) in std::iter::once(chosen).chain(shapes).enumerate() {
                let config = StreamedConfig::new(shape, &input, &products[0]);
                let output = streamed_with(&input, &products[0], DType::F32, config);
                let output = host::<R, 2>(Tensor::<Cube<R>, 2>::from_primitive(TensorPrimitive::Float(output)));
                let mut pairs = Vec::new();
                for (at, weight) in &samples {
                    for token in 0..tokens {
                        let expected = dot(&values[token * columns..][..columns], weight);
                        pairs.push((output[token * rows + at], expected));
                    }
                }
                let times = time::<R, _>(device, |launch| {
                    streamed_with(&input, &products[launch % products.len()], DType::F32, config)
                });
                let label = format!("{},{},{},{}", shape.row_tiles, shape.unroll, shape.splits, shape.groups);
                let name = if index == 0 {
                    format!("streamed chosen {label}")
                } else {
                    format!("streamed {label}")
                };
                if index == 0 || options.verbose {
                    let shape = format!("{tokens} x {columns} -> {rows}");
                    row(
                        &name,
                        &shape,
                        times,
                        Work::Bytes(2 * rows * columns),
                        relative_error(&pairs),
                    );
                }
                if times.0 < best.0 && relative_error(&pairs) < 1e-5 {
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
