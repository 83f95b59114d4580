//! Products of many rows by the kernel on cooperative matrices.

use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::kernels::matmul::cooperative;
use alpamayo_backends::kernels::product::Product;
use alpamayo_backends::layers::{Activation, Linear};
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;

use super::library::SHAPES;
use super::measure::{Cube, Options, Work, dot, host, random, relative_error, row, sample, time, weight_row, weights};

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
        if !cooperative::takes(&products[0]) {
            return println!("cooperative: not on this device");
        }
        let x = random::<R>(tokens, columns, device);
        let input = alpamayo_backends::kernels::round(&into_contiguous(x.clone().into_primitive().tensor()));
        let output = cooperative::matmul(&input, &products[0]);
        let output = host::<R, 2>(Tensor::<Cube<R>, 2>::from_primitive(TensorPrimitive::Float(output)));
        let (x, bias, residual) = (host::<R, 2>(x), host::<R, 1>(bias), host::<R, 2>(residual));
        let x: Vec<f32> = x.iter().map(|&value| half::bf16::from_f32(value).to_f32()).collect();
        let mut pairs = Vec::new();
        for at in sample(rows) {
            let weight = weight_row::<R>(&linears[0].weight, at);
            for token in sample(tokens) {
                let expected = dot(&x[token * columns..][..columns], &weight);
                let expected = expected + f64::from(bias[at]) + f64::from(residual[token * rows + at]);
                pairs.push((output[token * rows + at], expected));
            }
        }
        let times = time::<R, _>(device, |index| {
            cooperative::matmul(&input, &products[index % products.len()])
        });
        debug_assert_eq!(input.dtype, DType::BF16);
        let shape = format!("{tokens} x {columns} -> {rows}");
        let work = Work::Operations(2 * tokens * rows * columns);
        row(
            "cooperative + bias, residual",
            &shape,
            times,
            work,
            relative_error(&pairs),
        );
    }
}
