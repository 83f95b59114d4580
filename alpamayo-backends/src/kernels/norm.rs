//! RMSNorm and LayerNorm of rows, statistics in f32.

use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use cubecl::prelude::*;

use super::bits;
use super::native::{NativeWork, RmsNormRows};
use super::tensors::{array, convert, cubes, empty, extents, float, plane_size, tensor, vector};
use crate::instances::KernelRuntime;
use crate::layers::Norm;

/// Most units per row.
const UNITS: usize = 256;

/// See [`ModelBackend::normalize`](crate::ModelBackend::normalize).
pub fn normalize<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<CubeBackend<R, F, I, BT>, 2>,
    norm: &Norm<CubeBackend<R, F, I, BT>>,
) -> Tensor<CubeBackend<R, F, I, BT>, 2> {
    tensor(normalize_rows(&float(x), norm, DType::F32))
}

/// The rows of `x` normalised, in f32 or rounded to bf16 (then the number of features is even).
pub fn normalize_rows<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: &CubeTensor<R>,
    norm: &Norm<CubeBackend<R, F, I, BT>>,
    dtype: DType,
) -> CubeTensor<R> {
    let (rows, columns) = extents(x);
    if let Norm::Rms(norm) = norm {
        let rows = RmsNormRows {
            x,
            weight: &float(norm.weight.val()),
            epsilon: norm.epsilon,
            dtype,
        };
        if let Some(out) = R::native(&NativeWork::Norm(&rows)) {
            return out;
        }
    }
    let (weight, bias, epsilon) = match norm {
        Norm::Rms(norm) => (float(norm.weight.val()), None, norm.epsilon),
        Norm::Layer(norm) => (float(norm.weight.val()), Some(float(norm.bias.val())), norm.epsilon),
    };
    let x = &convert(x.clone(), DType::F32);
    let out = empty(x, rows, columns, dtype);
    let vector = vector(columns);
    let plane = plane_size(&x.client);
    let config = NormConfig::new(columns / vector, plane.unwrap_or(0), dtype == DType::BF16);
    let words = vector * dtype.size() / 4;
    // SAFETY: a cube reads and writes its own row.
    unsafe {
        norm_rows::launch_unchecked::<R>(
            &x.client,
            cubes(rows),
            CubeDim::new_1d(config.units as u32),
            vector,
            words,
            array(x),
            array(&weight),
            bias.as_ref().map(|bias| array(bias)).into(),
            array(&out),
            rows as u32,
            epsilon as f32,
            config,
        );
    }
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NormConfig {
    /// Whether values are rounded to bf16, two per word.
    packed: bool,
    /// Units per plane, 0 where planes can't sum.
    plane: usize,
    /// Vectors per row.
    pub vectors: usize,
    /// Units per row.
    units: usize,
}

impl NormConfig {
    /// As many units as divide a row evenly, a few vectors each.
    pub fn new(vectors: usize, plane: usize, packed: bool) -> Self {
        let even = (1..=UNITS / plane.max(1)).rev().map(|planes| planes * plane);
        let even = even.filter(|&units| units >= UNITS / 4 && vectors.is_multiple_of(units));
        Self {
            packed,
            plane,
            vectors,
            units: even.max().filter(|_| plane > 0).unwrap_or(UNITS),
        }
    }

    /// Units per row.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Vectors that a unit keeps in registers.
    pub fn kept(&self) -> usize {
        self.vectors.div_ceil(self.units)
    }

    /// Whether every unit has a vector in every round.
    fn is_even(&self) -> bool {
        self.vectors.is_multiple_of(self.units)
    }
}

/// One cube per row, which stays in registers; a bias makes it a LayerNorm.
#[cube(launch_unchecked)]
fn norm_rows<V: Size, W: Size>(
    x: &Array<Vector<f32, V>>,
    weight: &Array<Vector<f32, V>>,
    bias: &ComptimeOption<Array<Vector<f32, V>>>,
    out: &mut Array<Vector<u32, W>>,
    rows: u32,
    epsilon: f32,
    #[comptime] config: NormConfig,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let inverse = 1.0f32 / f32::cast_from(config.vectors.runtime() * V::value());
    let base = row * config.vectors;
    let mut shared = SharedMemory::<f32>::new(UNITS);
    let mut values = Array::<Vector<f32, V>>::new(comptime!(config.kept()));
    let mut sum = Vector::<f32, V>::new(0.0f32);
    #[unroll]
    for i in 0..comptime!(config.kept()) {
        let index = UNIT_POS as usize + comptime!(i * config.units);
        let mut value = Vector::<f32, V>::new(0.0f32);
        if is_inside(index, config) {
            value = x[base + index];
        }
        values[i] = value;
        sum += value;
    }
    let mut mean = 0.0f32;
    if comptime!(bias.is_some()) {
        mean = cube_sum(&mut shared, horizontal(sum), config) * inverse;
    }
    let mut square = Vector::<f32, V>::new(0.0f32);
    #[unroll]
    for i in 0..comptime!(config.kept()) {
        let index = UNIT_POS as usize + comptime!(i * config.units);
        if is_inside(index, config) {
            let value = values[i] - Vector::new(mean);
            square = fma(value, value, square);
        }
    }
    let variance = cube_sum(&mut shared, horizontal(square), config) * inverse;
    let scale = Vector::new(1.0f32 / (variance + epsilon).sqrt());
    #[unroll]
    for i in 0..comptime!(config.kept()) {
        let index = UNIT_POS as usize + comptime!(i * config.units);
        if is_inside(index, config) {
            let mut value = (values[i] - Vector::new(mean)) * scale * weight[index];
            #[comptime]
            match bias {
                ComptimeOption::Some(bias) => {
                    value += bias[index];
                }
                ComptimeOption::None => {}
            }
            out[base + index] = bits::words::<V, W>(value, config.packed);
        }
    }
}

/// Whether there is a vector `index` in a row, which needs no look where all rounds are whole.
#[cube]
pub(super) fn is_inside(index: usize, #[comptime] config: NormConfig) -> bool {
    if comptime!(config.is_even()) {
        true.runtime()
    } else {
        index < config.vectors
    }
}

#[cube]
pub(super) fn horizontal<V: Size>(vector: Vector<f32, V>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..V::value() {
        sum += vector[i];
    }
    sum
}

/// The sum over all units of the cube, for every one of them.
#[cube]
pub(super) fn cube_sum(shared: &mut SharedMemory<f32>, value: f32, #[comptime] config: NormConfig) -> f32 {
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
        for i in 0..comptime!(config.units / Ord::max(config.plane, 1)) {
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
