//! Products with weights of few bits: cuts of the kernels for a few rows and for up to 64, and what the model calls.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::kernels::matvec::MatvecShape;
use alpamayo_backends::kernels::product::Product;
use alpamayo_backends::kernels::quantized::row::{self, Held, RowShape};
use alpamayo_backends::kernels::quantized::{self, QuantizedStreamedShape, integer};
use alpamayo_backends::kernels::streamed;
use alpamayo_backends::layers::{Activation, Linear, Quantization};
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::measure::{
    Cube, Options, Work, dot, host, random, relative_error, row as print_row, sample, time, weight_row, weights_in,
};

/// `(out, in)` of the released model's products: those of its language model, then those of its action expert.
const SHAPES: [(usize, usize); 8] = [
    (24_576, 4096),
    (4096, 12_288),
    (6144, 4096),
    (4096, 4096),
    (16_512, 2048),
    (2048, 8256),
    (4096, 2048),
    (2048, 2048),
];

/// (outputs, unroll, splits, groups).
const MATVEC: [[usize; 4]; 5] = [[1, 1, 1, 8], [1, 2, 2, 4], [2, 1, 2, 4], [2, 2, 1, 8], [4, 1, 1, 8]];

/// (groups, batch, slots, cubes).
const ROW: [[usize; 4]; 10] = [
    [1, 2, 2, 512],
    [2, 2, 2, 256],
    [1, 2, 1, 512],
    [1, 2, 1, 768],
    [1, 2, 1, 1024],
    [2, 2, 1, 384],
    [2, 2, 1, 512],
    [1, 4, 1, 512],
    [2, 4, 1, 256],
    [2, 4, 1, 384],
];

/// (splits, groups, rounds, -), no rounds for as many as let all cubes run at a time.
const INTEGER: [[usize; 4]; 10] = [
    [4, 1, 0, 0],
    [4, 1, 1, 0],
    [8, 1, 0, 0],
    [8, 1, 1, 0],
    [8, 1, 2, 0],
    [16, 1, 0, 0],
    [16, 1, 1, 0],
    [4, 2, 0, 0],
    [8, 2, 0, 0],
    [4, 4, 0, 0],
];

/// (row tiles, token tiles, splits, groups).
const STREAMED: [[usize; 4]; 8] = [
    [1, 4, 8, 1],
    [1, 8, 8, 1],
    [1, 8, 2, 4],
    [1, 8, 1, 8],
    [2, 4, 16, 1],
    [2, 4, 2, 4],
    [2, 4, 1, 8],
    [4, 2, 8, 1],
];

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    for scheme in [Quantization::Int8, Quantization::Int4] {
        for shape in SHAPES.map(|(rows, columns)| (options.extent(rows), options.extent(columns))) {
            let weights = Weights::<R>::new(scheme, shape, device);
            // The language model decodes a row per sample, the expert has 64 for each.
            let decoded = shape.1 != options.extent(2048) && shape.1 != options.extent(8256);
            for &tokens in options.tokens.iter().filter(|_| decoded) {
                weights.few(tokens, options, device);
            }
            if !decoded || options.verbose {
                weights.streamed(64, options, device);
            }
            if options.verbose {
                weights.many(3006, device);
            }
        }
    }
}

/// Weights of one scheme and shape, enough of them that a round doesn't stay in a cache.
struct Weights<R: KernelRuntime> {
    scheme: Quantization,
    linears: Vec<Linear<Cube<R>>>,
    products: Vec<Product<R>>,
    /// Some rows of the first one: their numbers and their values.
    samples: Vec<(usize, Vec<f32>)>,
    bytes: usize,
}

impl<R: KernelRuntime> Weights<R> {
    fn new(scheme: Quantization, (rows, columns): (usize, usize), device: &R::Device) -> Self {
        let bytes = 4 * rows * scheme.row_words(columns);
        let linears: Vec<Linear<Cube<R>>> = weights_in::<R>(scheme.into(), rows, columns, device)
            .into_iter()
            .map(|weight| Linear::new(weight, None))
            .collect();
        let products = linears
            .iter()
            .filter_map(|linear| Product::<R>::new(linear, Activation::None))
            .collect();
        let samples = sample(rows)
            .into_iter()
            .map(|at| (at, weight_row::<R>(&linears[0].weight, at)));
        Self {
            scheme,
            products,
            samples: samples.collect(),
            linears,
            bytes,
        }
    }

    /// A few rows, which the integer tensor cores take where there are any.
    fn few(&self, tokens: usize, options: &Options, device: &R::Device) {
        let product = &self.products[0];
        let x = random::<R>(tokens, product.weight.columns, device);
        let input = x.clone().into_primitive().tensor();
        if integer::takes(tokens, product) {
            let chosen = integer::choose(&input, product, self.scheme);
            let shape = |&[splits, groups, rounds, _]: &[usize; 4]| match rounds {
                0 => integer::once(&input, product, self.scheme, splits, groups),
                rounds => integer::IntegerShape { splits, groups, rounds },
            };
            let label = |shape: &integer::IntegerShape| format!("{},{},{}", shape.splits, shape.groups, shape.rounds);
            let shapes = std::iter::once(chosen).chain(
                options
                    .variants_or(&INTEGER)
                    .iter()
                    .filter(|cut| cut[3] == 0)
                    .map(shape),
            );
            self.cuts(
                "integer",
                shapes.map(|shape| (label(&shape), shape)),
                &x,
                device,
                |product, shape| integer::integer_with(&input, product, self.scheme, shape),
            );
        } else {
            self.row(tokens, options, &x, device);
            let chosen = quantized::choose(&input.client, tokens, product, self.scheme);
            let shape = |&[outputs, unroll, splits, groups]: &[usize; 4]| MatvecShape {
                outputs,
                unroll,
                splits,
                groups,
                ..chosen
            };
            let label =
                |shape: &MatvecShape| format!("{},{},{},{}", shape.outputs, shape.unroll, shape.splits, shape.groups);
            let shapes =
                std::iter::once(chosen).chain(options.variants_or(&MATVEC).iter().filter(|cut| cut[3] > 0).map(shape));
            self.cuts(
                "matvec",
                shapes.map(|shape| (label(&shape), shape)),
                &x,
                device,
                |product, shape| quantized::matvec_with(&input, product, self.scheme, shape),
            );
        }
        self.project(x, Work::Bytes(self.bytes), device);
    }

    /// One row, whose columns stay in registers.
    fn row(&self, tokens: usize, options: &Options, x: &Tensor<Cube<R>, 2>, device: &R::Device) {
        let product = &self.products[0];
        let input = x.clone().into_primitive().tensor();
        let Some(chosen) = row::choose(&input.client, tokens, product, self.scheme) else {
            return;
        };
        let shape = |&[groups, batch, slots, cubes]: &[usize; 4]| {
            let cut = RowShape {
                groups,
                batch,
                slots,
                ..chosen
            };
            cut.spread(product.weight.rows, cubes)
        };
        let label = |shape: &RowShape| format!("{},{},{},{}", shape.groups, shape.batch, shape.slots, shape.batches);
        let variants = options.variants_or(&ROW).iter().filter(|cut| cut[3] >= 128);
        let shapes: Vec<RowShape> = std::iter::once(chosen).chain(variants.map(shape)).collect();
        // Where bytes are chosen, floats as well.
        for held in [Held::Bytes, Held::Floats] {
            if held == chosen.held || held == Held::Floats {
                let shapes = shapes.iter().map(|&shape| RowShape { held, ..shape });
                self.cuts(
                    &format!("row of {held:?}"),
                    shapes.map(|shape| (label(&shape), shape)),
                    x,
                    device,
                    |product, shape| row::row_with(&input, product, self.scheme, shape),
                );
            }
        }
    }

    /// Rows of bf16 on tensor cores.
    fn streamed(&self, tokens: usize, options: &Options, device: &R::Device) {
        let product = &self.products[0];
        if !streamed::takes(tokens, product) {
            return;
        }
        let x = random::<R>(tokens, product.weight.columns, device).cast(DType::BF16);
        let input = into_contiguous(x.clone().into_primitive().tensor());
        let shape = |&[row_tiles, token_tiles, splits, groups]: &[usize; 4]| QuantizedStreamedShape {
            row_tiles,
            token_tiles,
            splits,
            groups,
        };
        let label = |shape: &QuantizedStreamedShape| {
            let [rows, tokens] = [shape.row_tiles, shape.token_tiles];
            format!("{rows},{tokens},{},{}", shape.splits, shape.groups)
        };
        let chosen = quantized::choose_streamed(tokens, product);
        let shapes = std::iter::once(chosen).chain(
            options
                .variants_or(&STREAMED)
                .iter()
                .filter(|cut| cut[3] > 0)
                .map(shape),
        );
        self.cuts(
            "streamed",
            shapes.map(|shape| (label(&shape), shape)),
            &x,
            device,
            |product, shape| quantized::streamed_with(&input, product, DType::F32, self.scheme, shape),
        );
        self.project(x, Work::Bytes(self.bytes), device);
    }

    fn many(&self, tokens: usize, device: &R::Device) {
        let (rows, columns) = self.linears[0].weight.shape();
        let x = random::<R>(tokens, columns, device);
        self.project(x, Work::Operations(2 * tokens * rows * columns), device);
    }

    /// What the model calls, which may be a kernel of the platform's own.
    fn project(&self, x: Tensor<Cube<R>, 2>, work: Work, device: &R::Device) {
        let (rows, columns) = self.linears[0].weight.shape();
        let tokens = x.dims()[0];
        let launch =
            |index: usize| Cube::<R>::project(x.clone(), &self.linears[index % self.linears.len()], Activation::None);
        let error = self.error(&host::<R, 2>(x.clone()), &host::<R, 2>(launch(0)));
        let times = time::<R, _>(device, launch);
        let shape = format!("{tokens} x {columns} -> {rows}");
        print_row(&format!("{} project", self.scheme.name()), &shape, times, work, error);
    }

    /// Every cut of a kernel, the chosen one first, and the fastest.
    fn cuts<S: Copy>(
        &self,
        kernel: &str,
        shapes: impl Iterator<Item = (String, S)>,
        x: &Tensor<Cube<R>, 2>,
        device: &R::Device,
        launch: impl Fn(&Product<R>, S) -> CubeTensor<R>,
    ) {
        let weight = &self.products[0].weight;
        let x = host::<R, 2>(x.clone());
        let extents = format!("{} x {} -> {}", x.len() / weight.columns, weight.columns, weight.rows);
        let mut best = (f64::MAX, String::new());
        for (index, (label, shape)) in shapes.enumerate() {
            let output = launch(&self.products[0], shape);
            let output = host::<R, 2>(Tensor::from_primitive(TensorPrimitive::Float(output)));
            let error = self.error(&x, &output);
            let times = time::<R, _>(device, |at| launch(&self.products[at % self.products.len()], shape));
            let name = if index == 0 { "chosen " } else { "" };
            let name = format!("{} {kernel} {name}{label}", self.scheme.name());
            print_row(&name, &extents, times, Work::Bytes(self.bytes), error);
            if times.0 < best.0 {
                best = (times.0, label);
            }
        }
        let name = self.scheme.name();
        println!(
            "best for {name} {extents}: {kernel} {} ({:.2} us)",
            best.1,
            best.0 * 1e6
        );
    }

    /// Relative error of some elements.
    fn error(&self, x: &[f32], output: &[f32]) -> f64 {
        let (rows, columns) = self.linears[0].weight.shape();
        let tokens = x.len() / columns;
        let mut pairs = Vec::new();
        for (at, values) in &self.samples {
            for token in [0, tokens / 2, tokens - 1] {
                let expected = dot(&x[token * columns..][..columns], values);
                pairs.push((output[token * rows + at], expected));
            }
        }
        relative_error(&pairs)
    }
}
