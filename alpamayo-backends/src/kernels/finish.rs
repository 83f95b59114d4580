//! What follows a product where the product's own kernel can't do it: bias and activation.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::activation::activate;
use super::tensors::{array, cubes, empty, extents, vector};
use crate::layers::Activation;

const UNITS: usize = 256;

/// `activation(product + bias)` of a product `[tokens, out]`, f32.
pub fn finish<R: CubeRuntime>(
    product: &CubeTensor<R>,
    bias: Option<&CubeTensor<R>>,
    activation: Activation,
) -> CubeTensor<R> {
    let (tokens, columns) = extents(product);
    let out = empty(product, tokens, columns, product.dtype);
    let vector = vector(columns);
    let vectors = columns / vector;
    // SAFETY: positions are checked against the output's length.
    unsafe {
        finish_vectors::launch_unchecked::<R>(
            &product.client,
            cubes((tokens * vectors).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            vector,
            array(product),
            bias.map(|bias| array(bias)).into(),
            array(&out),
            vectors as u32,
            activation,
        );
    }
    out
}

#[cube(launch_unchecked)]
fn finish_vectors<X: Size>(
    product: &Array<Vector<f32, X>>,
    bias: &ComptimeOption<Array<Vector<f32, X>>>,
    out: &mut Array<Vector<f32, X>>,
    vectors: u32,
    #[comptime] activation: Activation,
) {
    if ABSOLUTE_POS < out.len() {
        let mut sum = product[ABSOLUTE_POS];
        #[comptime]
        match bias {
            ComptimeOption::Some(bias) => {
                sum += bias[ABSOLUTE_POS % vectors as usize];
            }
            ComptimeOption::None => {}
        }
        let mut values = Vector::<f32, X>::empty();
        #[unroll]
        for i in 0..X::value() {
            values[i] = activate(sum[i], activation);
        }
        out[ABSOLUTE_POS] = values;
    }
}
