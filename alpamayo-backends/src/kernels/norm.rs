//! RMSNorm and LayerNorm of rows, statistics in f32.

use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;

use super::bits;
use super::tensors::{array, cubes, empty, extents, float, plane_size, tensor, vector};
use crate::definition;
use crate::layers::Norm;

/// Units per row.
const UNITS: usize = 256;

/// See [`ModelBackend::normalize`](crate::ModelBackend::normalize).
pub fn normalize<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<CubeBackend<R, F, I, BT>, 2>,
    norm: &Norm<CubeBackend<R, F, I, BT>>,
) -> Tensor<CubeBackend<R, F, I, BT>, 2> {
    if x.dtype() != DType::F32 {
        return definition::normalize(x, norm);
    }
    tensor(normalize_rows(&float(x), norm, DType::F32))
}

/// The rows of `x`, f32, normalised, in f32 or rounded to bf16 (then the number of features is even).
pub fn normalize_rows<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: &CubeTensor<R>,
    norm: &Norm<CubeBackend<R, F, I, BT>>,
    dtype: DType,
) -> CubeTensor<R> {
    let (rows, columns) = extents(x);
    let (weight, bias, epsilon) = match norm {
        Norm::Rms(norm) => (float(norm.weight.val()), None, norm.epsilon),
        Norm::Layer(norm) => (float(norm.weight.val()), Some(float(norm.bias.val())), norm.epsilon),
    };
    let out = empty(x, rows, columns, dtype);
    let vector = vector(columns);
    let plane = plane_size(&x.client);
    let config = NormConfig {
        packed: dtype == DType::BF16,
        plane: plane.unwrap_or(0),
    };
    let words = vector * dtype.size() / 4;
    // SAFETY: a cube reads and writes its own row.
    unsafe {
        norm_rows::launch_unchecked::<R>(
            &x.client,
            cubes(rows),
            CubeDim::new_1d(UNITS as u32),
            vector,
            words,
            array(x),
            array(&weight),
            bias.as_ref().map(|bias| array(bias)).into(),
            array(&out),
            rows as u32,
            (columns / vector) as u32,
            epsilon as f32,
            config,
        );
    }
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct NormConfig {
    /// Whether values are rounded to bf16, two per word.
    packed: bool,
    /// Units per plane, 0 where planes can't sum.
    plane: usize,
}

/// One cube per row of `vectors` vectors; a bias makes it a LayerNorm.
#[cube(launch_unchecked)]
fn norm_rows<V: Size, W: Size>(
    x: &Array<Vector<f32, V>>,
    weight: &Array<Vector<f32, V>>,
    bias: &ComptimeOption<Array<Vector<f32, V>>>,
    out: &mut Array<Vector<u32, W>>,
    rows: u32,
    vectors: u32,
    epsilon: f32,
    #[comptime] config: NormConfig,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let vectors = vectors as usize;
    let inverse = 1.0f32 / f32::cast_from(vectors * V::value());
    let base = row * vectors;
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let mut mean = 0.0f32;
    if comptime!(bias.is_some()) {
        let mut sum = Vector::<f32, V>::new(0.0f32);
        let mut index = UNIT_POS as usize;
        while index < vectors {
            sum += x[base + index];
            index += UNITS;
        }
        mean = cube_sum(&mut shared, horizontal(sum), config) * inverse;
    }
    let mut square = Vector::<f32, V>::new(0.0f32);
    let mut index = UNIT_POS as usize;
    while index < vectors {
        let value = x[base + index] - Vector::new(mean);
        square = fma(value, value, square);
        index += UNITS;
    }
    let variance = cube_sum(&mut shared, horizontal(square), config) * inverse;
    let scale = Vector::new(1.0f32 / (variance + epsilon).sqrt());
    let mut index = UNIT_POS as usize;
    while index < vectors {
        let mut value = (x[base + index] - Vector::new(mean)) * scale * weight[index];
        #[comptime]
        match bias {
            ComptimeOption::Some(bias) => {
                value += bias[index];
            }
            ComptimeOption::None => {}
        }
        out[base + index] = bits::words::<V, W>(value, config.packed);
        index += UNITS;
    }
}

#[cube]
fn horizontal<V: Size>(vector: Vector<f32, V>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..V::value() {
        sum += vector[i];
    }
    sum
}

/// The sum over all units of the cube, for every one of them.
#[cube]
fn cube_sum(shared: &mut SharedMemory<f32>, value: f32, #[comptime] config: NormConfig) -> f32 {
    sync_cube();
    let mut sum = 0.0f32;
    if comptime!(config.plane > 0) {
        let part = plane_sum(value);
        let lane = UNIT_POS % config.plane as u32;
        if lane == 0 {
            shared[UNIT_POS as usize / config.plane] = part;
        }
        sync_cube();
        #[unroll]
        for i in 0..comptime!(UNITS / Ord::max(config.plane, 1)) {
            sum += shared[i];
        }
    } else {
        shared[UNIT_POS as usize] = value;
        sync_cube();
        let mut step = comptime!(UNITS / 2).runtime();
        while step > 0 {
            if (UNIT_POS as usize) < step {
                let other = shared[UNIT_POS as usize + step];
                shared[UNIT_POS as usize] += other;
            }
            sync_cube();
            step /= 2;
        }
        sum = shared[0];
    }
    sum
}
