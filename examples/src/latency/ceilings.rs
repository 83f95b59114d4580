//! What the device can do at best: a large copy and a large product.

use std::time::Instant;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{Activation, Linear, WeightFormat};
use burn::tensor::{Distribution, Tensor};
use serde::Serialize;

use crate::error::{Error, Result};

/// Seconds that an operation takes before it counts as large.
const LARGE: f64 = 2e-3;

/// What a device reached.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ceilings {
    /// Bytes read and written by a copy.
    pub bytes_per_second: f64,
    /// Operations of a product with a stored weight.
    pub operations_per_second: f64,
}

impl Ceilings {
    /// Measures the device, with weights in the given format.
    ///
    /// # Errors
    /// Where the device fails or can't hold the weight.
    pub fn measure<B: ModelBackend>(weights: WeightFormat, device: &B::Device) -> Result<Self> {
        Ok(Self {
            bytes_per_second: copy::<B>(device)?,
            operations_per_second: product::<B>(weights, device)?,
        })
    }
}

fn copy<B: ModelBackend>(device: &B::Device) -> Result<f64> {
    let mut elements = 1 << 20;
    loop {
        let x = Tensor::<B, 1>::random([elements], Distribution::Uniform(-1.0, 1.0), device);
        let seconds = seconds::<B, _>(device, || x.clone().mul_scalar(1.5))?;
        if seconds > LARGE || elements >= 1 << 28 {
            return Ok(8.0 * elements as f64 / seconds);
        }
        elements *= 4;
    }
}

fn product<B: ModelBackend>(weights: WeightFormat, device: &B::Device) -> Result<f64> {
    let mut side = 512;
    loop {
        let linear = Linear::new(B::random_weight((side, side), 0.05, weights, device)?, None);
        let x = Tensor::<B, 2>::random([side, side], Distribution::Uniform(-1.0, 1.0), device);
        let seconds = seconds::<B, _>(device, || B::project(x.clone(), &linear, Activation::None))?;
        if seconds > LARGE || side >= 8192 {
            return Ok(2.0 * (side as f64).powi(3) / seconds);
        }
        side *= 2;
    }
}

/// Seconds per call, calls queued behind each other.
fn seconds<B: ModelBackend, T>(device: &B::Device, mut call: impl FnMut() -> T) -> Result<f64> {
    let sync = || B::sync(device).map_err(|error| Error::Device(error.to_string()));
    call();
    sync()?;
    let mut best = f64::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        for _ in 0..4 {
            call();
        }
        sync()?;
        best = best.min(started.elapsed().as_secs_f64() / 4.0);
    }
    Ok(best)
}
