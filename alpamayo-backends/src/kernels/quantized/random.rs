//! Random weights of few bits, made on the device.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use half::f16;

use crate::kernels::random::hash;
use crate::kernels::tensors::{array, cubes, empty_on};
use crate::layers::Quantization;

const UNITS: usize = 256;

/// Rows of random codes `[rows, row words]`, uniform over the odd ones, which are as many above zero as below, all with one step.
pub fn random_words<R: CubeRuntime>(
    (rows, columns): (usize, usize),
    amplitude: f32,
    quantization: Quantization,
    seed: u32,
    device: &R::Device,
) -> CubeTensor<R> {
    let client = R::client(device);
    let words = empty_on(&client, device, rows, quantization.row_words(columns), DType::I32);
    let step = f16::from_f32(amplitude / quantization.largest() as f32);
    // SAFETY: positions are checked against the output's length.
    unsafe {
        random_codes::launch_unchecked::<R>(
            &client,
            cubes((rows * quantization.row_words(columns)).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            array(&words),
            quantization.row_words(columns) as u32,
            columns as u32,
            seed,
            u32::from(step.to_bits()) * 0x1_0001,
            quantization,
        );
    }
    words
}

#[cube(launch_unchecked)]
fn random_codes(
    words: &mut Array<u32>,
    row_words: u32,
    columns: u32,
    seed: u32,
    steps: u32,
    #[comptime] quantization: Quantization,
) {
    if ABSOLUTE_POS < words.len() {
        let chunks = comptime!(quantization.chunks() as u32);
        let word = ABSOLUTE_POS as u32 % row_words;
        let groups = (columns + comptime!(Quantization::GROUP as u32 - 1)) / comptime!(Quantization::GROUP as u32);
        let mut value = steps;
        if word < groups * comptime!((quantization.chunks() * Quantization::BLOCKS) as u32) {
            let odd = comptime!(quantization.zeros() >> (quantization.bits() - 1));
            value = hash(hash(seed) ^ (ABSOLUTE_POS as u32)) | odd;
            // Columns beyond the row's end stay zero.
            let chunk = word / comptime!(Quantization::BLOCKS as u32);
            let column = chunk / chunks * comptime!(Quantization::GROUP as u32)
                + word % comptime!(Quantization::BLOCKS as u32) * comptime!(Quantization::BLOCK as u32)
                + chunk % 4 * 8
                + chunk % chunks / 4 * 4;
            #[unroll]
            for place in 0..comptime!(quantization.per_word()) {
                let half = comptime!(quantization.per_word() / 2);
                let at = column + comptime!((2 * (place % half) + place / half) as u32);
                if at >= columns {
                    let mask = comptime!(((1u32 << quantization.bits()) - 1) << (place * quantization.bits()));
                    value = (value & comptime!(!mask)) | comptime!(quantization.zeros() & mask);
                }
            }
        }
        words[ABSOLUTE_POS] = value;
    }
}
