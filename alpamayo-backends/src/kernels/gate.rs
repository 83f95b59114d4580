//! SwiGLU of a fused projection.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::activation::silu;
use super::bits;
use super::tensors::{array, cubes, empty, extents, vector};

const UNITS: usize = 256;

/// `silu(g) · u` of `g | u` `[tokens, 2 · intermediate]` → `[tokens, intermediate]`, both f32 or both bf16.
pub fn gate<R: CubeRuntime>(gate_up: &CubeTensor<R>) -> CubeTensor<R> {
    let (tokens, columns) = extents(gate_up);
    let intermediate = columns / 2;
    let out = empty(gate_up, tokens, intermediate, gate_up.dtype);
    let vector = vector(intermediate);
    let words = vector * out.dtype.size() / 4;
    let vectors = intermediate / vector;
    // SAFETY: positions are checked against the output's length.
    unsafe {
        gate_rows::launch_unchecked::<R>(
            &gate_up.client,
            cubes((tokens * vectors).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            vector,
            words,
            array(gate_up),
            array(&out),
            vectors as u32,
            out.dtype == DType::BF16,
        );
    }
    out
}

#[cube(launch_unchecked)]
fn gate_rows<X: Size, W: Size>(
    gate_up: &Array<Vector<u32, W>>,
    out: &mut Array<Vector<u32, W>>,
    vectors: u32,
    #[comptime] packed: bool,
) {
    let vectors = vectors as usize;
    if ABSOLUTE_POS < out.len() {
        let token = ABSOLUTE_POS / vectors;
        let index = ABSOLUTE_POS % vectors;
        let gates = bits::values::<X, W>(gate_up[2 * token * vectors + index], packed);
        let ups = bits::values::<X, W>(gate_up[(2 * token + 1) * vectors + index], packed);
        let mut values = Vector::<f32, X>::empty();
        #[unroll]
        for i in 0..X::value() {
            values[i] = silu(gates[i]) * ups[i];
        }
        out[ABSOLUTE_POS] = bits::words::<X, W>(values, packed);
    }
}
