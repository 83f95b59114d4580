//! f32 values rounded to bf16.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensors::{array, cubes, vector};
use super::{apart, bits};

const UNITS: usize = 256;

/// A contiguous f32 tensor rounded to bf16. Its last dimension is even.
pub fn round<R: CubeRuntime>(x: &CubeTensor<R>) -> CubeTensor<R> {
    let shape = x.meta.shape().clone();
    let vector = vector(shape[shape.len() - 1]);
    let vectors = x.meta.num_elements() / vector;
    let handle = apart::empty(&x.client, x.meta.num_elements() * 2);
    let out = CubeTensor::new_contiguous(x.client.clone(), x.device.clone(), shape, handle, DType::BF16);
    // SAFETY: positions are checked against the output's length.
    unsafe {
        round_vectors::launch_unchecked::<R>(
            &x.client,
            cubes(vectors.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            vector,
            vector / 2,
            array(x),
            array(&out),
        );
    }
    out
}

#[cube(launch_unchecked)]
fn round_vectors<V: Size, W: Size>(x: &Array<Vector<f32, V>>, out: &mut Array<Vector<u32, W>>) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = bits::words::<V, W>(x[ABSOLUTE_POS], true);
    }
}
