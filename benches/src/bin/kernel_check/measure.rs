//! Options, timing, references and the table.

use std::time::Instant;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::definition::host_values;
use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::layers::{SourceType, Weight, WeightFormat, WeightSource};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};
use burn_cubecl::CubeBackend;

/// The backend under test.
pub type Cube<R> = CubeBackend<R, f32, i32, u32>;

/// More weight bytes than a GPU's last-level cache holds, so that every launch reads from memory.
const COLD_BYTES: usize = 256 << 20;

/// What to run.
pub struct Options {
    sections: Vec<String>,
    pub tokens: Vec<usize>,
    pub variants: Vec<[usize; 4]>,
    /// Whether every variant gets a row, or only the chosen and the best.
    pub verbose: bool,
    divide: usize,
}

impl Options {
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            sections: Vec::new(),
            tokens: vec![1, 6],
            variants: Vec::new(),
            verbose: false,
            divide: 1,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--tokens" => options.tokens = numbers(&value()?)?,
                "--variants" => {
                    for variant in value()?.split(';') {
                        let variant = numbers(variant)?;
                        let variant = variant
                            .try_into()
                            .map_err(|_| "a variant is outputs,unroll,splits,groups")?;
                        options.variants.push(variant);
                    }
                }
                "--divide" => options.divide = numbers(&value()?)?.first().copied().unwrap_or(1).max(1),
                "--all" => options.verbose = true,
                section => options.sections.push(section.into()),
            }
        }
        Ok(options)
    }

    /// An extent of the released model, or its part where a smaller run was asked for.
    pub fn extent(&self, released: usize) -> usize {
        (released / self.divide)
            .max(8)
            .next_multiple_of(if self.divide > 1 { 8 } else { 1 })
    }

    /// The variants that were asked for, or a section's own.
    pub fn variants_or<'a>(&'a self, own: &'a [[usize; 4]]) -> &'a [[usize; 4]] {
        if self.variants.is_empty() { own } else { &self.variants }
    }

    pub fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section)
    }
}

fn numbers(text: &str) -> Result<Vec<usize>, String> {
    text.split(',')
        .map(|number| number.parse().map_err(|_| format!("{number:?} is no number")))
        .collect()
}

/// Prints the table's head.
pub fn header() {
    println!(
        "{:<34} {:<26} {:>9} {:>9} {:>9} {:>10}",
        "kernel", "shape", "us", "host us", "rate", "rel error"
    );
}

/// What a time is compared with.
pub enum Work {
    Bytes(usize),
    Operations(usize),
}

/// Prints one row. `times` are seconds per launch, with and without waiting for the device.
pub fn row(kernel: &str, shape: &str, times: (f64, f64), work: Work, error: f64) {
    let rate = match work {
        Work::Bytes(bytes) => format!("{:.3} TB/s", bytes as f64 / times.0 / 1e12),
        Work::Operations(operations) => format!("{:.0} TF/s", operations as f64 / times.0 / 1e12),
    };
    println!(
        "{kernel:<34} {shape:<26} {:>9.2} {:>9.2} {rate:>9} {error:>10.1e}",
        times.0 * 1e6,
        times.1 * 1e6
    );
}

/// Seconds per launch over many launches: until the device is done, and until the host has submitted.
pub fn time<R: KernelRuntime, T>(device: &R::Device, mut launch: impl FnMut(usize) -> T) -> (f64, f64) {
    let sync = || Cube::<R>::sync(device).expect("the device finishes its work");
    let mut run = |count: usize| {
        let start = Instant::now();
        for index in 0..count {
            launch(index);
        }
        let submitted = start.elapsed().as_secs_f64();
        sync();
        (start.elapsed().as_secs_f64() / count as f64, submitted / count as f64)
    };
    run(3);
    let estimate = run(10).0;
    let count = ((0.05 / estimate) as usize).clamp(10, 400);
    (0..3).map(|_| run(count)).fold(
        (f64::MAX, f64::MAX),
        |best, time| if time.0 < best.0 { time } else { best },
    )
}

/// Seconds per launch on the device alone: so many launches are submitted at once that it doesn't wait for the host.
pub fn device_seconds<R: KernelRuntime, T: Send + 'static>(
    device: &R::Device,
    mut launch: impl FnMut(usize) -> T + Send,
) -> f64 {
    const LAUNCHES: usize = 10;
    let client = R::client(device);
    let start = Instant::now();
    while start.elapsed().as_millis() < 30 {
        // A device that had nothing to do is slow at first.
        (0..LAUNCHES).for_each(|index| drop(launch(index)));
        Cube::<R>::sync(device).expect("the device finishes its work");
    }
    let mut seconds = f64::MAX;
    for round in 0..6 {
        Cube::<R>::sync(device).expect("the device finishes its work");
        let launches = || {
            (0..LAUNCHES)
                .map(|index| launch(round * LAUNCHES + index))
                .collect::<Vec<_>>()
        };
        let (results, profile) = client.profile(launches, "launches").expect("the device has a clock");
        drop(results);
        let ticks = cubecl::future::block_on(profile.resolve());
        seconds = seconds.min(ticks.duration().as_secs_f64() / LAUNCHES as f64);
    }
    seconds
}

/// Enough random bf16 weights that a round over them doesn't stay in a cache.
pub fn weights<R: KernelRuntime>(rows: usize, columns: usize, device: &R::Device) -> Vec<Weight<Cube<R>>> {
    weights_in::<R>(WeightFormat::Bf16, rows, columns, device)
}

/// As [`weights`], in a format.
pub fn weights_in<R: KernelRuntime>(
    format: WeightFormat,
    rows: usize,
    columns: usize,
    device: &R::Device,
) -> Vec<Weight<Cube<R>>> {
    let copies = COLD_BYTES.div_ceil(rows * format.row_bytes(columns)).clamp(1, 64);
    (0..copies)
        .map(|_| Cube::<R>::random_weight((rows, columns), 0.05, format, device).expect("an even width"))
        .collect()
}

/// Random f32 values.
pub fn random<R: KernelRuntime>(rows: usize, columns: usize, device: &R::Device) -> Tensor<Cube<R>, 2> {
    Tensor::random([rows, columns], Distribution::Uniform(-1.0, 1.0), device)
}

/// The tensor on the host.
pub fn host<R: KernelRuntime, const D: usize>(tensor: Tensor<Cube<R>, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// A few rows to compare: the first, the last and some between.
pub fn sample(rows: usize) -> Vec<usize> {
    (0..12).map(|i| i * (rows - 1) / 11).collect()
}

/// One row of a weight of packed bf16 or of few bits on the host.
pub fn weight_row<R: KernelRuntime>(weight: &Weight<Cube<R>>, row: usize) -> Vec<f32> {
    let (words, source_type) = match weight {
        Weight::Bf16(weight) => (weight.words.val(), SourceType::Bf16),
        Weight::Quantized(weight) => (weight.words.val(), SourceType::Quantized(weight.quantization)),
        Weight::Float(_) | Weight::Split(_) => panic!("the weights are packed"),
    };
    let words = words.narrow(0, row, 1).into_data();
    let source = WeightSource::new(vec![words.as_bytes()], source_type, 1, weight.shape().1);
    let values = host_values(&source, WeightFormat::F32).expect("a whole row was read");
    values.iter::<f32>().collect()
}

/// A dot product in f64.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Relative error in the Euclidean norm over (actual, expected) pairs.
pub fn relative_error(pairs: &[(f32, f64)]) -> f64 {
    let difference: f64 = pairs.iter().map(|&(a, e)| (f64::from(a) - e).powi(2)).sum();
    let size: f64 = pairs.iter().map(|&(_, e)| e * e).sum();
    (difference / size).sqrt()
}
