//! Time on a device that works behind the host's back.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::backend::Backend;

/// Measures work until the device has finished it.
#[derive(Debug, Clone)]
pub struct Clock<B: Backend> {
    device: B::Device,
}

impl<B: Backend> Clock<B> {
    /// A clock for work on this device.
    pub fn new(device: &B::Device) -> Self {
        Self { device: device.clone() }
    }

    /// How long `iterations` of `work` take, one behind the other without waiting in between, as the model launches them.
    ///
    /// # Panics
    /// Where the device fails.
    pub fn time<T>(&self, iterations: u64, mut work: impl FnMut() -> T) -> Duration {
        self.wait();
        let started = Instant::now();
        for _ in 0..iterations {
            black_box(work());
        }
        self.wait();
        started.elapsed()
    }

    fn wait(&self) {
        B::sync(&self.device).expect("the device finishes its work");
    }
}
