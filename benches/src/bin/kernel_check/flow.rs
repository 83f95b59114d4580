//! A layer of a flow step, product by product, with `--all` in tiles of several kinds: microseconds on the device alone, until it
//! is done where this thread launches and where the client's own does, as a stage runs, and the error.

use std::time::Instant;

use alpamayo_backends::instances::{KernelRuntime, Recorded};
use alpamayo_backends::kernels::attention::{Plan, expert_with};
use alpamayo_backends::kernels::matmul::cooperative::{self, Tile};
use alpamayo_backends::kernels::product::Product;
use alpamayo_backends::layers::{
    Activation, Attention, HeadNorms, KeyValue, LayerCache, Linear, RmsNorm, Rotary, RowLengths, WeightFormat,
};
use burn::module::{Param, ParamId};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::measure::{
    Cube, Options, device_seconds, dot, host, random, relative_error, sample, time, weight_row, weights_in,
};

const TOKENS: usize = 64;
const ATTENTION: Attention = Attention {
    num_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
};

/// What becomes of a product.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Rows,
    Gate,
    Norm,
    /// Of many rows, for comparison.
    Many,
}

/// A tile of action tokens.
fn tile(rows: usize, planes: [usize; 2], depth: usize, stages: usize, ahead: usize, parts: usize) -> Tile {
    Tile {
        tokens: TOKENS,
        rows,
        planes,
        depth,
        stages,
        ahead,
        parts,
    }
}

/// Tiles worth comparing for weights of few bits, whose steps are 128 columns or 64.
fn packed_tiles(then: Then) -> Vec<Tile> {
    match then {
        Then::Rows | Then::Many => vec![
            tile(32, [4, 2], 128, 1, 1, 1),
            tile(32, [4, 2], 128, 1, 2, 1),
            tile(32, [4, 2], 128, 1, 3, 1),
            tile(32, [4, 1], 128, 1, 2, 1),
            tile(32, [2, 2], 128, 1, 2, 1),
            tile(64, [4, 2], 128, 1, 2, 2),
        ],
        Then::Gate => vec![
            tile(64, [4, 2], 128, 1, 1, 1),
            tile(64, [4, 2], 128, 1, 2, 1),
            tile(64, [2, 2], 128, 1, 2, 1),
            tile(128, [2, 4], 64, 1, 1, 1),
            tile(128, [2, 4], 64, 1, 2, 1),
            tile(128, [2, 2], 64, 1, 2, 1),
            tile(128, [1, 4], 64, 1, 2, 1),
        ],
        Then::Norm => vec![
            tile(64, [4, 2], 128, 1, 1, 8),
            tile(64, [4, 2], 128, 1, 2, 8),
            tile(64, [4, 2], 128, 1, 1, 4),
            tile(64, [2, 2], 128, 1, 1, 8),
            tile(32, [4, 2], 128, 1, 1, 4),
            tile(128, [2, 4], 64, 1, 1, 8),
            tile(128, [2, 4], 64, 1, 2, 8),
        ],
    }
}

/// Tiles worth comparing for bf16.
fn tiles(then: Then, columns: usize) -> Vec<Tile> {
    match then {
        Then::Rows => vec![
            tile(32, [4, 1], 64, 2, 2, 1),
            tile(32, [4, 1], 64, 2, 3, 1),
            tile(32, [4, 1], 128, 1, 1, 1),
            tile(32, [4, 1], 128, 1, 2, 1),
            tile(32, [2, 1], 64, 2, 2, 1),
            tile(32, [2, 2], 64, 2, 2, 1),
            tile(32, [4, 2], 64, 2, 2, 1),
            tile(32, [4, 2], 128, 1, 2, 1),
            tile(64, [2, 4], 64, 2, 2, 2),
            tile(128, [2, 4], 64, 1, 2, 4),
        ],
        Then::Gate => vec![
            tile(128, [2, 4], 64, 1, 1, 1),
            tile(128, [2, 4], 64, 1, 2, 1),
            tile(128, [2, 4], 64, 1, 3, 1),
            tile(128, [2, 4], 32, 2, 3, 1),
            tile(128, [2, 4], 32, 2, 4, 1),
            tile(128, [2, 2], 64, 1, 2, 1),
            tile(128, [1, 4], 64, 1, 2, 1),
            tile(128, [2, 4], 32, 1, 2, 1),
            tile(64, [2, 2], 64, 2, 2, 1),
            tile(64, [2, 4], 64, 1, 1, 1),
            tile(64, [2, 4], 64, 1, 2, 1),
            tile(64, [2, 4], 128, 1, 1, 1),
            tile(64, [2, 2], 64, 1, 1, 1),
            tile(64, [2, 2], 32, 1, 2, 1),
        ],
        Then::Norm if columns > 4096 => vec![
            tile(128, [2, 4], 64, 1, 1, 8),
            tile(128, [2, 4], 64, 1, 2, 8),
            tile(128, [2, 4], 64, 1, 3, 8),
            tile(128, [2, 4], 64, 1, 2, 16),
            tile(128, [2, 4], 64, 1, 1, 16),
            tile(128, [2, 4], 32, 2, 4, 8),
            tile(128, [2, 2], 64, 1, 2, 8),
            tile(64, [2, 4], 64, 2, 2, 4),
            tile(64, [2, 4], 64, 2, 2, 8),
            tile(64, [2, 4], 64, 1, 1, 8),
            tile(64, [2, 4], 64, 1, 2, 8),
            tile(64, [2, 4], 128, 1, 1, 8),
            tile(64, [2, 2], 64, 1, 1, 8),
        ],
        Then::Many => [
            tile(128, [2, 4], 64, 1, 1, 1),
            tile(128, [2, 4], 64, 1, 2, 1),
            tile(128, [2, 4], 32, 2, 1, 1),
            tile(128, [2, 4], 32, 2, 2, 1),
            tile(128, [2, 2], 64, 1, 1, 1),
        ]
        .map(|tile| Tile { tokens: 128, ..tile })
        .to_vec(),
        Then::Norm => vec![
            tile(128, [2, 4], 64, 1, 1, 8),
            tile(128, [2, 4], 64, 1, 2, 8),
            tile(64, [2, 4], 64, 2, 1, 4),
            tile(64, [2, 4], 64, 2, 2, 4),
            tile(32, [4, 1], 64, 2, 2, 2),
            tile(32, [4, 2], 64, 2, 2, 2),
        ],
    }
}

pub fn run<R: KernelRuntime>(device: &R::Device, options: &Options) {
    launches::<R>(device);
    attention::<R>(device);
    for (name, columns, rows, then) in [
        ("qkv", 2048, 4096, Then::Rows),
        ("o", 2048, 2048, Then::Norm),
        ("gate|up", 2048, 16_512, Then::Gate),
        ("down", 8256, 2048, Then::Norm),
    ] {
        for format in [WeightFormat::Bf16, WeightFormat::Int8, WeightFormat::Int4] {
            product::<R>(name, TOKENS, [columns, rows], (then, format), device, options);
        }
    }
    for (name, tokens, columns, rows) in [
        ("o 3006", 3006, 4096, 4096),
        ("down 3006", 3006, 12_288, 4096),
        ("qkv 11520", 11_520, 1152, 3456),
        ("down 11520", 11_520, 4304, 1152),
    ] {
        let kind = (Then::Many, WeightFormat::Bf16);
        product::<R>(name, tokens, [columns, rows], kind, device, options);
    }
}

/// What a launch costs that does nearly nothing.
fn launches<R: KernelRuntime>(device: &R::Device) {
    let x = into_contiguous(random::<R>(1, 64, device).into_primitive().tensor());
    let run = |_| alpamayo_backends::kernels::round(&x);
    lines::<R, _>(device, vec![("launch".into(), 0.0, Box::new(run))]);
    let queued = R::client(device).exclusive(|| queueing::<R>(&x));
    let [anew, again] = queued.expect("the device's thread runs").map(|seconds| seconds * 1e6);
    println!("launch, this thread's part: {anew:.1} anew, {again:.1} of a recording");
}

/// Seconds that this thread spends on a launch that does nearly nothing: anew, and of a recording that is launched again.
fn queueing<R: KernelRuntime>(x: &CubeTensor<R>) -> [f64; 2] {
    const LAUNCHES: usize = 256;
    let sync = || Cube::<R>::sync(&x.device).expect("the device finishes its work");
    let seconds = |work: &mut dyn FnMut()| {
        let times = (0..9).map(|_| {
            sync();
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64() / LAUNCHES as f64
        });
        times.fold(f64::INFINITY, f64::min)
    };
    let mut work = || (0..LAUNCHES).for_each(|_| drop(alpamayo_backends::kernels::round(x)));
    let anew = seconds(&mut work);
    let again = match R::record(&x.client, &x.device, &mut work) {
        Recorded::Repeatable(recording) | Recorded::RunAndRepeatable(recording) => {
            seconds(&mut || assert!(recording.replay(), "the device takes it"))
        }
        Recorded::Once | Recorded::Nothing => f64::NAN,
    };
    sync();
    [anew, again]
}

/// What is timed: its name, its error, and itself.
type Timed<'a, T> = (String, f64, Box<dyn FnMut(usize) -> T + Send + 'a>);

/// Times all of them twice, one after another: the device's clock isn't the same all the time.
fn lines<R: KernelRuntime, T: Send + 'static>(device: &R::Device, mut all: Vec<Timed<'_, T>>) {
    let mut times = Vec::new();
    for (_, _, run) in &mut all {
        let on_device = device_seconds::<R, _>(device, &mut *run);
        let (apart, _) = time::<R, _>(device, &mut *run);
        let stage = || time::<R, _>(device, &mut *run).0;
        let together = R::client(device).exclusive(stage).expect("the device's thread runs");
        times.push([on_device, apart, together]);
    }
    for ((name, error, run), mut times) in all.iter_mut().zip(times) {
        times[0] = times[0].min(device_seconds::<R, _>(device, &mut *run));
        let [on_device, apart, together] = times.map(|seconds| seconds * 1e6);
        println!("{name:<30} {on_device:6.1} {apart:6.1} {together:6.1} {error:.1e}");
    }
}

fn product<R: KernelRuntime>(
    name: &str,
    tokens: usize,
    shape: [usize; 2],
    (then, format): (Then, WeightFormat),
    device: &R::Device,
    options: &Options,
) {
    let [columns, rows] = shape.map(|extent| options.extent(extent));
    let linears: Vec<Linear<Cube<R>>> = weights_in::<R>(format, rows, columns, device)
        .into_iter()
        .map(|weight| Linear::new(weight, None))
        .collect();
    let residual = into_contiguous(random::<R>(tokens, rows, device).into_primitive().tensor());
    let products: Vec<_> = linears
        .iter()
        .filter_map(|linear| Product::<R>::new(linear, Activation::None))
        .map(|product| Product {
            gated: then == Then::Gate,
            residual: (then == Then::Norm).then(|| residual.clone()),
            ..product
        })
        .collect();
    if !cooperative::takes(tokens, &products[0]) {
        return println!("flow: not on this device");
    }
    let x = random::<R>(tokens, columns, device);
    let input = alpamayo_backends::kernels::round(&into_contiguous(x.clone().into_primitive().tensor()));
    let x: Vec<f32> = host::<R, 2>(x)
        .iter()
        .map(|&value| half::bf16::from_f32(value).to_f32())
        .collect();
    let added = values::<R>(residual.clone());
    let outputs = if then == Then::Gate { rows / 2 } else { rows };
    let mut expected = Vec::new();
    for at in sample(outputs) {
        let weight = weight_row::<R>(&linears[0].weight, at);
        let up = (then == Then::Gate).then(|| weight_row::<R>(&linears[0].weight, outputs + at));
        for token in sample(tokens) {
            let x = &x[token * columns..][..columns];
            let sum = dot(x, &weight);
            let value = match (&up, then) {
                (Some(up), _) => sum / (1.0 + (-sum).exp()) * dot(x, up),
                (None, Then::Norm) => sum + f64::from(added[token * rows + at]),
                _ => sum,
            };
            expected.push((token * outputs + at, value));
        }
    }
    let ones = into_contiguous(Tensor::<Cube<R>, 1>::ones([rows], device).into_primitive().tensor());
    let (products, input, ones) = (&products, &input, &ones);
    let mut timed: Vec<Timed<'_, _>> = Vec::new();
    let chosen = match then {
        Then::Norm => Tile::choose_summed(tokens, rows),
        _ => Tile::choose(tokens, rows),
    };
    let compared = match (options.verbose, format) {
        (false, _) => vec![chosen],
        (true, WeightFormat::Bf16) => tiles(then, columns),
        (true, _) => packed_tiles(then),
    };
    for tile in compared {
        let launch = move |index: usize| -> [CubeTensor<R>; 2] {
            let product = &products[index % products.len()];
            if then == Then::Norm {
                let results = cooperative::matmul_norm_with(input, product, ones, 1e-6, tile);
                return results.expect("several parts");
            }
            let result = cooperative::matmul_with(input, product, DType::BF16, tile);
            [result.clone(), result]
        };
        let [output, normalised] = launch(0);
        let output = values::<R>(output);
        let mut pairs: Vec<_> = expected.iter().map(|&(at, value)| (output[at], value)).collect();
        if then == Then::Norm {
            let normalised = values::<R>(normalised);
            for token in sample(tokens) {
                let row = &output[token * rows..][..rows];
                let factor = (dot(row, row) / rows as f64 + 1e-6).sqrt().recip();
                pairs.extend((0..rows).map(|at| (normalised[token * rows + at], f64::from(row[at]) * factor)));
            }
        }
        let Tile {
            rows: r,
            planes: [p, q],
            depth,
            stages,
            ahead,
            parts,
            ..
        } = tile;
        let parts = if parts == usize::MAX {
            "any".into()
        } else {
            parts.to_string()
        };
        let name = format!("{name} {format:?} {r} {p}x{q} {depth}x{stages} a{ahead} /{parts}");
        timed.push((name, relative_error(&pairs), Box::new(launch)));
    }
    lines::<R, _>(device, timed);
}

fn values<R: KernelRuntime>(tensor: CubeTensor<R>) -> Vec<f32> {
    host::<R, 2>(Tensor::<Cube<R>, 2>::from_primitive(TensorPrimitive::Float(tensor)))
}

fn attention<R: KernelRuntime>(device: &R::Device) {
    let random =
        |shape, dtype| Tensor::<Cube<R>, 4>::random(shape, Distribution::Uniform(-1.0, 1.0), device).cast(dtype);
    let cache = |positions| KeyValue {
        key: random([1, 8, positions, 128], DType::BF16),
        value: random([1, 8, positions, 128], DType::BF16),
    };
    let caches: Vec<_> = (0..12)
        .map(|_| LayerCache {
            prompt: cache(3006),
            suffix: cache(64),
        })
        .collect();
    let qkv = random([1, 1, TOKENS, ATTENTION.qkv_features()], DType::BF16).reshape([TOKENS as i32, -1]);
    let angles = random([1, 1, TOKENS, 64], DType::F32).reshape([TOKENS as i32, -1]);
    let rotary = Rotary {
        cos: angles.clone().cos(),
        sin: angles.sin(),
    };
    let norm = || RmsNorm {
        weight: Param::initialized(ParamId::new(), Tensor::<Cube<R>, 1>::ones([128], device)),
        epsilon: 1e-6,
    };
    let norms = HeadNorms {
        query: norm(),
        key: norm(),
    };
    let lengths = RowLengths::new(vec![40], device);
    let run = &|plan, index: usize| {
        let cache = &caches[index % caches.len()];
        expert_with(plan, qkv.clone(), &ATTENTION, &norms, &rotary, cache, &lengths)
    };
    let exact = host::<R, 2>(run(Plan::EXACT, 0));
    let mut timed: Vec<Timed<'_, _>> = Vec::new();
    for (heads, planes, keys, cubes) in [
        (1, 4, 48, 1),
        (1, 4, 48, 2),
        (1, 4, 32, 1),
        (1, 4, 32, 2),
        (1, 4, 16, 1),
        (1, 4, 16, 2),
        (2, 8, 32, 1),
        (2, 8, 16, 1),
        (2, 8, 16, 2),
    ] {
        let plan = Plan::Cooperative {
            heads,
            planes,
            tiles: 1,
            keys,
            cubes,
        };
        let output = host::<R, 2>(run(plan, 0));
        let pairs: Vec<_> = output.iter().zip(&exact).map(|(&a, &e)| (a, f64::from(e))).collect();
        let name = format!("attention h{heads} p{planes} k{keys} c{cubes}");
        timed.push((name, relative_error(&pairs), Box::new(move |index| run(plan, index))));
    }
    lines::<R, _>(device, timed);
}
