//! Copies from buffer to buffer.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::tensors::{array, cubes};

const UNITS: usize = 256;

/// Copies between two contiguous tensors of the same extents; whether their elements fill whole words, without which it doesn't.
pub fn copy<R: CubeRuntime>(from: &CubeTensor<R>, to: &CubeTensor<R>) -> bool {
    let bytes = from.meta.num_elements() * from.dtype.size();
    if bytes % 4 != 0 || bytes != to.meta.num_elements() * to.dtype.size() {
        return false;
    }
    // SAFETY: positions are checked against the output's length, which is the input's too.
    unsafe {
        copy_words::launch_unchecked::<R>(
            &to.client,
            cubes((bytes / 4).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            array(from),
            array(to),
        );
    }
    true
}

#[cube(launch_unchecked)]
fn copy_words(from: &Array<u32>, to: &mut Array<u32>) {
    if ABSOLUTE_POS < to.len() {
        to[ABSOLUTE_POS] = from[ABSOLUTE_POS];
    }
}
