//! Random weights made on the device.

use std::sync::atomic::{AtomicU32, Ordering};

use burn::tensor::{DType, Tensor};
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use cubecl::prelude::*;

use super::bits;
use super::tensors::{array, cubes, empty_on};
use super::{limits, quantized};
use crate::definition;
use crate::error::Result;
use crate::instances::KernelRuntime;
use crate::layers::{Weight, WeightFormat};

const UNITS: usize = 256;

/// See [`ModelBackend::random_weight`](crate::ModelBackend::random_weight). Every weight of a process is different, and the same
/// in the next one.
pub fn random_weight<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    shape: (usize, usize),
    amplitude: f64,
    format: WeightFormat,
    device: &R::Device,
) -> Result<Weight<CubeBackend<R, F, I, BT>>> {
    limits::in_parts::<R, _>(shape, format, device, |rows| {
        random_part((rows.len(), shape.1), amplitude, format, device)
    })
}

fn random_part<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    shape: (usize, usize),
    amplitude: f64,
    format: WeightFormat,
    device: &R::Device,
) -> Result<Weight<CubeBackend<R, F, I, BT>>> {
    static SEED: AtomicU32 = AtomicU32::new(1);
    let (rows, columns) = shape;
    let seed = SEED.fetch_add(1, Ordering::Relaxed);
    if let Some(quantization) = format.quantization() {
        let words = quantized::random_words::<R>(shape, amplitude as f32, quantization, seed, device);
        return Ok(definition::quantized(
            Tensor::from_primitive(words),
            columns,
            quantization,
        ));
    }
    if format != WeightFormat::Bf16 || columns % 2 == 1 {
        return definition::random_weight(shape, amplitude, format, device);
    }
    let client = R::client(device);
    let words = empty_on(&client, device, rows, columns / 2, DType::I32);
    let count = rows * columns / 2;
    // SAFETY: positions are checked against the output's length.
    unsafe {
        random_words::launch_unchecked::<R>(
            &client,
            cubes(count.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            array(&words),
            seed,
            amplitude as f32,
        );
    }
    Ok(definition::packed(Tensor::from_primitive(words)))
}

#[cube(launch_unchecked)]
fn random_words(words: &mut Array<u32>, seed: u32, amplitude: f32) {
    if ABSOLUTE_POS < words.len() {
        let first = hash(hash(seed) ^ (ABSOLUTE_POS as u32));
        let second = hash(first ^ 0x9e37_79b9u32);
        words[ABSOLUTE_POS] = bits::pack(uniform(first, amplitude), uniform(second, amplitude));
    }
}

/// A bijective mix of 32 bits.
#[cube]
pub(super) fn hash(value: u32) -> u32 {
    let mut x = value;
    x = (x ^ (x >> 16)) * 0x7feb_352du32;
    x = (x ^ (x >> 15)) * 0x846c_a68bu32;
    x ^ (x >> 16)
}

/// Uniform in ±`amplitude` from 24 bits.
#[cube]
fn uniform(random: u32, amplitude: f32) -> f32 {
    (f32::cast_from(random >> 8) * 1.192_092_9e-7f32 - 1.0f32) * amplitude
}
