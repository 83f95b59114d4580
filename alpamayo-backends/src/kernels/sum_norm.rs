//! What stands between a product whose columns several cubes share and the next one: the sum of its parts, the residual, RMSNorm.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::bits;
use super::norm::{NormConfig, cube_sum, horizontal, is_inside};
use super::tensors::{array, cubes, empty, extents, plane_size, vector};

/// A product's parts, what they are added to, and the norm behind.
pub struct SumNorm<'a, R: CubeRuntime> {
    /// Parts of the columns' sums, one behind the other, `[parts · tokens, features]`, f32.
    pub product: &'a CubeTensor<R>,
    /// How many parts there are.
    pub parts: usize,
    /// `[tokens, features]`, f32.
    pub residual: &'a CubeTensor<R>,
    /// `[features]`, f32.
    pub weight: &'a CubeTensor<R>,
    /// What is added to the mean square.
    pub epsilon: f64,
}

/// `residual + sum of the parts`, f32, and its normalised rows, bf16 (the number of features is even).
pub fn sum_norm<R: CubeRuntime>(of: &SumNorm<'_, R>) -> [CubeTensor<R>; 2] {
    let (tokens, columns) = extents(of.residual);
    let sum = empty(of.residual, tokens, columns, DType::F32);
    let normalised = empty(of.residual, tokens, columns, DType::BF16);
    let vector = vector(columns);
    let plane = plane_size(&of.residual.client);
    let config = NormConfig::new(columns / vector, plane.unwrap_or(0), true);
    // SAFETY: a cube reads and writes its own row.
    unsafe {
        sum_norm_rows::launch_unchecked::<R>(
            &of.residual.client,
            cubes(tokens),
            CubeDim::new_1d(config.units() as u32),
            vector,
            vector / 2,
            array(of.product),
            array(of.residual),
            array(of.weight),
            array(&sum),
            array(&normalised),
            tokens as u32,
            of.epsilon as f32,
            of.parts,
            config,
        );
    }
    [sum, normalised]
}

/// One cube per row, which stays in registers.
#[cube(launch_unchecked)]
fn sum_norm_rows<V: Size, W: Size>(
    product: &Array<Vector<f32, V>>,
    residual: &Array<Vector<f32, V>>,
    weight: &Array<Vector<f32, V>>,
    sum: &mut Array<Vector<f32, V>>,
    normalised: &mut Array<Vector<u32, W>>,
    rows: u32,
    epsilon: f32,
    #[comptime] parts: usize,
    #[comptime] config: NormConfig,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let base = row * config.vectors;
    let mut shared = SharedMemory::<f32>::new(comptime!(config.units()));
    let mut values = Array::<Vector<f32, V>>::new(comptime!(config.kept()));
    let mut square = Vector::<f32, V>::new(0.0f32);
    #[unroll]
    for i in 0..comptime!(config.kept()) {
        let index = UNIT_POS as usize + comptime!(i * config.units());
        let mut value = Vector::<f32, V>::new(0.0f32);
        if is_inside(index, config) {
            value = residual[base + index];
            #[unroll]
            for part in 0..parts {
                value += product[part * rows as usize * config.vectors + base + index];
            }
            sum[base + index] = value;
        }
        values[i] = value;
        square = fma(value, value, square);
    }
    let inverse = 1.0f32 / f32::cast_from(config.vectors.runtime() * V::value());
    let variance = cube_sum(&mut shared, horizontal(square), config) * inverse;
    let scale = Vector::new(1.0f32 / (variance + epsilon).sqrt());
    #[unroll]
    for i in 0..comptime!(config.kept()) {
        let index = UNIT_POS as usize + comptime!(i * config.units());
        if is_inside(index, config) {
            normalised[base + index] = bits::words::<V, W>(values[i] * scale * weight[index], true);
        }
    }
}
