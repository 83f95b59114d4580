//! What follows a product where the product's own kernel can't do it: the sum of its parts, bias, activation, residual.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::activation::activate;
use super::bits;
use super::product::{Following, Operands};
use super::tensors::{array, cubes, empty, extents, vector};
use crate::layers::Activation;

const UNITS: usize = 256;

/// What is done to a product `[parts · tokens, out]`.
pub struct Finish<'a, R: CubeRuntime> {
    /// Parts of the columns' sums, one behind the other.
    pub parts: usize,
    /// `[out]`, f32.
    pub bias: Option<&'a CubeTensor<R>>,
    /// After the bias.
    pub activation: Activation,
    /// `[tokens, out]`, f32.
    pub residual: Option<&'a CubeTensor<R>>,
    /// f32, or bf16 where `out` is even.
    pub dtype: DType,
}

/// `residual + activation(sum of the parts + bias)` of a product `[parts · tokens, out]`, f32: `[tokens, out]`.
pub fn finish<R: CubeRuntime>(product: &CubeTensor<R>, after: &Finish<'_, R>) -> CubeTensor<R> {
    let (rows, columns) = extents(product);
    let tokens = rows / after.parts;
    let out = empty(product, tokens, columns, after.dtype);
    let vector = vector(columns);
    let vectors = columns / vector;
    // SAFETY: positions are checked against the output's length.
    unsafe {
        finish_vectors::launch_unchecked::<R>(
            &product.client,
            cubes((tokens * vectors).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            vector,
            vector * out.dtype.size() / 4,
            array(product),
            after.bias.map(|bias| array(bias)).into(),
            after.residual.map(|residual| array(residual)).into(),
            array(&out),
            vectors as u32,
            Following {
                activation: after.activation,
                operands: Operands {
                    bias: after.bias.is_some(),
                    residual: after.residual.is_some(),
                },
            },
            after.parts,
            after.dtype == DType::BF16,
        );
    }
    out
}

#[cube(launch_unchecked)]
fn finish_vectors<X: Size, W: Size>(
    product: &Array<Vector<f32, X>>,
    bias: &ComptimeOption<Array<Vector<f32, X>>>,
    residual: &ComptimeOption<Array<Vector<f32, X>>>,
    out: &mut Array<Vector<u32, W>>,
    vectors: u32,
    #[comptime] following: Following,
    #[comptime] parts: usize,
    #[comptime] packed: bool,
) {
    if ABSOLUTE_POS < out.len() {
        let mut sum = product[ABSOLUTE_POS];
        #[unroll]
        for part in 1..parts {
            sum += product[ABSOLUTE_POS + part * out.len()];
        }
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
            values[i] = activate(sum[i], following.activation);
        }
        #[comptime]
        match residual {
            ComptimeOption::Some(residual) => {
                values += residual[ABSOLUTE_POS];
            }
            ComptimeOption::None => {}
        }
        out[ABSOLUTE_POS] = bits::words::<X, W>(values, packed);
    }
}
