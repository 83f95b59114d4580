//! One row of the table: verify, warm, time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use burn::tensor::{Tensor, backend::Backend};

/// Launches between two synchronisations.
const LAUNCHES: usize = 40;
/// Rounds whose median counts.
const ROUNDS: usize = 7;

/// What is checked and how much work it is.
pub struct Row<'a> {
    pub name: String,
    /// Floating-point operations.
    pub operations: f64,
    /// Bytes that have to be read at least.
    pub bytes: f64,
    pub words: &'a [String],
}

impl Row<'_> {
    /// Runs the operation; `verify` returns the relative error of its result.
    pub fn check<B: Backend>(
        &self,
        device: &B::Device,
        mut run: impl FnMut() -> Tensor<B, 2>,
        verify: impl FnOnce(Tensor<B, 2>) -> f64,
    ) {
        if !self.words.iter().all(|word| self.name.contains(word.as_str())) {
            return;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let error = verify(run());
            let seconds = median_seconds::<B>(device, &mut run);
            (error, seconds)
        }));
        match outcome {
            Ok((error, seconds)) => println!(
                "{:64} {:9.1} µs {:8.1} TFLOP/s {:6.2} TB/s   rel {error:.1e}",
                self.name,
                seconds * 1e6,
                self.operations / seconds * 1e-12,
                self.bytes / seconds * 1e-12,
            ),
            Err(_) => println!("{:64} failed", self.name),
        }
    }
}

fn median_seconds<B: Backend>(device: &B::Device, run: &mut impl FnMut() -> Tensor<B, 2>) -> f64 {
    let mut round = |launches: usize| {
        let start = Instant::now();
        for _ in 0..launches {
            drop(run());
        }
        B::sync(device).expect("the device to finish");
        start.elapsed().as_secs_f64() / launches as f64
    };
    // A slow plan need not run as often.
    let launches = ((0.2 / round(2)) as usize).clamp(2, LAUNCHES);
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| round(launches)).collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}
