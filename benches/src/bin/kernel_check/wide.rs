//! Cuts of the product in wide tiles that share `x`.

use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::kernels::product::Product;
use alpamayo_backends::kernels::streamed::{StreamedConfig, WideShape, parts_with, streamed_with, takes, wide_with};
use alpamayo_backends::layers::{Activation, Linear};
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::measure::{Cube, Options, Work, dot, host, random, relative_error, row, sample, time, weight_row, weights};

/// `(weight rows, in, gated)` of the flow's products and of the language model's MLP.
const PRODUCTS: [(usize, usize, bool); 6] = [
    (16_512, 2048, true),
    (2048, 8256, false),
    (4096, 2048, false),
    (2048, 2048, false),
    (24_576, 4096, true),
    (4096, 12_288, false),
];

/// Cuts: row tiles, groups, splits, unroll, pairs, parts.
const SHAPES: [[usize; 6]; 4] = [
    [1, 8, 2, 2, 1, 8],
    [1, 8, 2, 2, 1, 4],
    [1, 4, 2, 2, 1, 4],
    [1, 4, 2, 2, 1, 1],
];

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    for (rows, columns, gated) in PRODUCTS {
        let (rows, columns) = (options.extent(rows), options.extent(columns));
        let linears: Vec<_> = weights::<R>(rows, columns, device)
            .into_iter()
            .map(|weight| Linear::new(weight, None))
            .collect();
        let products: Vec<_> = linears
            .iter()
            .filter_map(|linear| Product::<R>::new(linear, Activation::None))
            .map(|product| Product { gated, ..product })
            .collect();
        let outputs = products[0].out_features();
        let samples: Vec<_> = sample(outputs)
            .into_iter()
            .map(|at| {
                let rows = if gated { vec![at, outputs + at] } else { vec![at] };
                let rows = rows.into_iter().map(|row| weight_row::<R>(&linears[0].weight, row));
                (at, rows.collect())
            })
            .collect();
        // Fewer tokens are checked, but not timed.
        for tokens in [64, 50] {
            check::<R>(&products, &samples, tokens, device);
        }
    }
}

/// Errors of every cut, and times where there are 64 tokens.
fn check<R: KernelRuntime>(
    products: &[Product<R>],
    samples: &[(usize, Vec<Vec<f32>>)],
    tokens: usize,
    device: &R::Device,
) {
    let product = &products[0];
    let (weight, columns) = (&product.weight, product.weight.columns);
    let name = format!("{tokens} x {columns} -> {}", weight.rows);
    if !takes(tokens, product) {
        return println!("wide: not {name} on this device");
    }
    let chosen = WideShape::choose(tokens, product);
    let x = random::<R>(tokens, columns, device).cast(DType::BF16);
    let expected = expected(&host::<R, 2>(x.clone()), samples, tokens, columns);
    let x = into_contiguous(x.into_primitive().tensor());
    let error = |output: CubeTensor<R>| {
        let output = host::<R, 2>(Tensor::<Cube<R>, 2>::from_primitive(TensorPrimitive::Float(output)));
        let at = |&(token, at, expected): &(usize, usize, f64)| (output[token * product.out_features() + at], expected);
        relative_error(&expected.iter().map(at).collect::<Vec<_>>())
    };
    let work = || Work::Bytes(2 * weight.rows * columns);
    let dtype = if product.gated { DType::BF16 } else { DType::F32 };
    let pick = |launch: usize| &products[launch % products.len()];
    if tokens == 64 {
        let narrow = StreamedConfig::choose(&x, product);
        let error = error(streamed_with(&x, product, DType::F32, narrow));
        let times = time::<R, _>(device, |launch| streamed_with(&x, pick(launch), dtype, narrow));
        row("narrow", &name, times, work(), error);
    }
    let limit = weight.values.client.properties().hardware.max_shared_memory_size;
    let shapes = (SHAPES.iter().map(shape_of))
        .filter(|shape| !product.gated || shape.parts == 1)
        .filter(|shape| Some(*shape) != chosen && shape.fits(tokens, product, limit));
    for shape in chosen.into_iter().chain(shapes) {
        let label = label(&shape, Some(shape) == chosen);
        let error = error(wide_with(&x, product, DType::F32, shape));
        if tokens != 64 {
            println!("{label:<34} {name:<26} {:>40.1e}", error);
            continue;
        }
        let times = time::<R, _>(device, |launch| wide_with(&x, pick(launch), dtype, shape));
        row(&label, &name, times, work(), error);
        if shape.parts > 1 {
            let times = time::<R, _>(device, |launch| parts_with(&x, pick(launch), shape));
            row("  its parts alone", &name, times, work(), error);
        }
    }
}

fn shape_of(&[row_tiles, groups, splits, unroll, pairs, parts]: &[usize; 6]) -> WideShape {
    WideShape {
        row_tiles,
        groups,
        splits,
        unroll,
        pairs,
        parts,
    }
}

fn label(shape: &WideShape, chosen: bool) -> String {
    format!(
        "wide {}{},{},{},{},{},{}",
        if chosen { "chosen " } else { "" },
        shape.row_tiles,
        shape.groups,
        shape.splits,
        shape.unroll,
        shape.pairs,
        shape.parts
    )
}

/// `(token, output, value)` of the sampled outputs: products, or gated pairs of them.
fn expected(x: &[f32], samples: &[(usize, Vec<Vec<f32>>)], tokens: usize, columns: usize) -> Vec<(usize, usize, f64)> {
    let value = |token: usize, rows: &[Vec<f32>]| {
        let x = &x[token * columns..][..columns];
        match rows {
            [gate, up] => {
                let gate = dot(x, gate);
                gate / (1.0 + (-gate).exp()) * dot(x, up)
            }
            _ => dot(x, &rows[0]),
        }
    };
    (0..tokens)
        .flat_map(|token| samples.iter().map(move |(at, rows)| (token, *at, rows)))
        .map(|(token, at, rows)| (token, at, value(token, rows)))
        .collect()
}
