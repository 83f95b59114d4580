//! Products of many rows by the kernel on cooperative matrices, in tiles of several kinds.

use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::kernels::matmul::cooperative::{self, Tile};
use alpamayo_backends::kernels::product::Product;
use alpamayo_backends::layers::{Activation, Linear};
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;

use super::library::SHAPES;
use super::measure::{Cube, Options, Work, dot, host, random, relative_error, row, sample, time, weight_row, weights};

/// Tiles worth comparing, after the chosen one.
fn tiles(tokens: usize) -> Vec<Tile> {
    let in_parts = |tokens, rows, planes, depth, stages, parts| Tile {
        tokens,
        rows,
        planes,
        depth,
        stages,
        ahead: 1,
        parts,
    };
    let tile = |tokens, rows, planes, depth, stages| in_parts(tokens, rows, planes, depth, stages, usize::MAX);
    if tokens <= 64 {
        return vec![
            tile(64, 64, [2, 2], 64, 1),
            tile(64, 64, [2, 2], 64, 2),
            tile(64, 64, [2, 2], 128, 1),
            tile(64, 32, [2, 2], 128, 1),
            tile(64, 128, [2, 4], 64, 1),
            in_parts(64, 32, [2, 2], 128, 1, 1),
            in_parts(64, 32, [4, 1], 128, 1, 1),
            in_parts(64, 16, [4, 1], 128, 1, 1),
            in_parts(64, 16, [4, 1], 256, 1, 1),
            in_parts(64, 16, [4, 1], 256, 1, 2),
        ];
    }
    vec![
        tile(128, 128, [2, 4], 64, 1),
        tile(128, 128, [2, 4], 32, 2),
        tile(128, 128, [2, 2], 64, 1),
        tile(128, 128, [2, 2], 32, 1),
        tile(128, 128, [2, 2], 32, 2),
        tile(256, 128, [4, 2], 32, 1),
        tile(128, 256, [2, 4], 32, 1),
    ]
}

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    for &(tokens, columns, rows) in &SHAPES {
        let (columns, rows) = (options.extent(columns), options.extent(rows));
        let bias = random::<R>(1, rows, device).reshape([rows]);
        let linears: Vec<Linear<Cube<R>>> = weights::<R>(rows, columns, device)
            .into_iter()
            .map(|weight| Linear::new(weight, Some(bias.clone())))
            .collect();
        let residual = random::<R>(tokens, rows, device);
        let products: Vec<_> = linears
            .iter()
            .filter_map(|linear| Product::<R>::new(linear, Activation::None))
            .map(|mut product| {
                product.residual = Some(into_contiguous(residual.clone().into_primitive().tensor()));
                product
            })
            .collect();
        if !cooperative::takes(tokens, &products[0]) {
            return println!("cooperative: not on this device");
        }
        let x = random::<R>(tokens, columns, device);
        let input = alpamayo_backends::kernels::round(&into_contiguous(x.clone().into_primitive().tensor()));
        debug_assert_eq!(input.dtype, DType::BF16);
        let (x, bias, residual) = (host::<R, 2>(x), host::<R, 1>(bias), host::<R, 2>(residual));
        let x: Vec<f32> = x.iter().map(|&value| half::bf16::from_f32(value).to_f32()).collect();
        let mut expected = Vec::new();
        for at in sample(rows) {
            let weight = weight_row::<R>(&linears[0].weight, at);
            for token in sample(tokens) {
                let product = dot(&x[token * columns..][..columns], &weight);
                let product = product + f64::from(bias[at]) + f64::from(residual[token * rows + at]);
                expected.push((token * rows + at, product));
            }
        }
        let shape = format!("{tokens} x {columns} -> {rows}");
        let chosen = Tile::choose(tokens, rows);
        let all = if options.verbose { tiles(tokens) } else { Vec::new() };
        let all = [(chosen, DType::F32), (chosen, DType::BF16)]
            .into_iter()
            .chain(all.into_iter().map(|tile| (tile, DType::BF16)));
        for (tile, dtype) in all {
            let output = cooperative::matmul_with(&input, &products[0], dtype, tile);
            let output = Tensor::<Cube<R>, 2>::from_primitive(TensorPrimitive::Float(output));
            let output = host::<R, 2>(output);
            let pairs: Vec<_> = expected.iter().map(|&(at, value)| (output[at], value)).collect();
            let times = time::<R, _>(device, |index| {
                cooperative::matmul_with(&input, &products[index % products.len()], dtype, tile)
            });
            let Tile {
                tokens: t,
                rows: r,
                planes: [p, q],
                depth,
                stages,
                ahead,
                parts,
            } = tile;
            let most = if parts == usize::MAX {
                "any".into()
            } else {
                parts.to_string()
            };
            let name = format!("{t}x{r} {p}x{q} {depth}x{stages}+{ahead}/{most} {dtype:?}");
            let work = Work::Operations(2 * tokens * rows * columns);
            row(&name, &shape, times, work, relative_error(&pairs));
        }
    }
}
