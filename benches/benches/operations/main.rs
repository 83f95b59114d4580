//! Each operation of `ModelBackend` at the extents of one clip's drive.

mod attention;
mod elementwise;
mod products;

use std::fmt::Display;

use alpamayo_backends::layers::{CacheFormat, Linear, WeightFormat};
use alpamayo_backends::{DeviceVisitor, ModelBackend};
use alpamayo_benches::{Clock, Settings, inputs, shapes};
use burn::tensor::{Distribution, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};

/// A group of benches on one backend, and what they are made of.
struct Bench<'a, B: ModelBackend> {
    group: BenchmarkGroup<'a, WallTime>,
    clock: Clock<B>,
    device: B::Device,
    weights: WeightFormat,
    cache: CacheFormat,
}

impl<B: ModelBackend> Bench<'_, B> {
    /// Times an operation at some extents.
    fn time<T>(&mut self, operation: &str, at: impl Display, mut work: impl FnMut() -> T) {
        let clock = self.clock.clone();
        self.group.bench_function(BenchmarkId::new(operation, at), |bencher| {
            bencher.iter_custom(|iterations| clock.time(iterations, &mut work));
        });
    }

    fn matrix(&self, rows: usize, columns: usize) -> Tensor<B, 2> {
        Tensor::random([rows, columns], Distribution::Uniform(-1.0, 1.0), &self.device)
    }

    fn vector(&self, length: usize) -> Tensor<B, 1> {
        Tensor::random([length], Distribution::Uniform(0.5, 1.5), &self.device)
    }

    /// A random layer from `columns` to `rows` features.
    fn linear(&self, columns: usize, rows: usize, has_bias: bool) -> Result<Linear<B>, String> {
        let amplitude = (columns as f64).powf(-0.5);
        let weight = B::random_weight((rows, columns), amplitude, self.weights, &self.device);
        let bias = has_bias.then(|| self.vector(rows));
        Ok(Linear::new(weight.map_err(|error| error.to_string())?, bias))
    }
}

struct Operations<'a> {
    criterion: &'a mut Criterion,
    settings: Settings,
}

impl DeviceVisitor for Operations<'_> {
    type Output = Result<(), String>;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Self::Output {
        let Self { criterion, settings } = self;
        let config = inputs::config(settings.size)?;
        let inputs = inputs::inputs(settings.size, &config)?;
        let shapes = shapes(&config, &inputs);
        let options = settings.load_options();
        let mut bench = Bench::<B> {
            group: criterion.benchmark_group(settings.group("operations")),
            clock: Clock::new(&device),
            weights: options.weight_format::<B>(&device),
            cache: options.cache_format::<B>(&device),
            device,
        };
        elementwise::run(&mut bench, &shapes, &config, &inputs)?;
        products::run(&mut bench, &shapes, config.vision.patch_values())?;
        attention::run(&mut bench, &shapes);
        bench.group.finish();
        Ok(())
    }
}

fn operations(criterion: &mut Criterion) {
    Settings::run(|settings| Operations { criterion, settings });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = operations
}
criterion_main!(benches);
