//! Pixels: uploaded as bytes, repeated and normalised on the device.

use burn::tensor::{Bytes, DType, Tensor};
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use cubecl::prelude::*;

use super::rounded::rounded;
use super::tensors::{array, cubes, empty_on, tensor};
use crate::definition;
use crate::instances::KernelRuntime;

const UNITS: usize = 256;

/// Pixels per word, and per vector of the output.
const QUAD: usize = 4;

type Quad = Vector<f32, Const<QUAD>>;

/// See [`ModelBackend::normalize_pixels`](crate::ModelBackend::normalize_pixels).
pub fn normalize_pixels<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    pixels: &[u8],
    channels: usize,
    temporal: usize,
    area: usize,
    device: &R::Device,
) -> Tensor<CubeBackend<R, F, I, BT>, 2> {
    if !area.is_multiple_of(QUAD) || pixels.is_empty() {
        return definition::normalize_pixels(pixels, channels, temporal, area, device);
    }
    let client = R::client(device);
    let words = R::upload(&client, device, pixels.len(), &mut std::iter::once(pixels))
        .unwrap_or_else(|| client.create(Bytes::from_bytes_vec(pixels.to_vec())));
    let patches = pixels.len() / (channels * area);
    let out = empty_on(&client, device, patches, channels * temporal * area, DType::F32);
    let count = out.meta.num_elements() / QUAD;
    // SAFETY: positions are checked against the output's length; planes are whole words.
    unsafe {
        expand::launch_unchecked::<R>(
            &client,
            cubes(count.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            ArrayArg::from_raw_parts(words, pixels.len() / 4),
            array(&out),
            (area / QUAD) as u32,
            temporal as u32,
        );
    }
    tensor(out)
}

#[cube(launch_unchecked)]
fn expand(words: &Array<u32>, out: &mut Array<Quad>, plane: u32, temporal: u32) {
    let zero = temporal >> 31u32;
    let plane = plane as usize;
    if ABSOLUTE_POS < out.len() {
        let source = ABSOLUTE_POS / (plane * temporal as usize);
        let word = words[source * plane + ABSOLUTE_POS % plane];
        let mut values = Quad::empty();
        #[unroll]
        for i in 0..QUAD {
            let pixel = (word >> comptime!(8 * i as u32)) & 0xffu32;
            values[i] = centred(f32::cast_from(pixel), zero);
        }
        out[ABSOLUTE_POS] = values;
    }
}

/// `(pixel - 127.5) / 127.5`, the quotient corrected by its remainder: not every device divides exactly.
#[cube]
fn centred(pixel: f32, zero: u32) -> f32 {
    let difference = pixel - 127.5f32;
    let quotient = rounded(difference * comptime!(1.0f32 / 127.5), zero);
    fma(
        fma(-quotient, 127.5f32, difference),
        comptime!(1.0f32 / 127.5),
        quotient,
    )
}
