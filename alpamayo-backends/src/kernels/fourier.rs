//! Fourier features, whose angles are reduced before their sines are taken.

use burn::tensor::{DType, Tensor};
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use cubecl::prelude::*;

use super::rounded::rounded;
use super::tensors::{array, cubes, empty, extents, float, tensor};
use crate::definition;
use crate::instances::KernelRuntime;

const UNITS: usize = 128;

/// See [`ModelBackend::fourier_features`](crate::ModelBackend::fourier_features).
pub fn fourier_features<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<CubeBackend<R, F, I, BT>, 2>,
    time: f32,
    frequencies: &Tensor<CubeBackend<R, F, I, BT>, 2>,
) -> Tensor<CubeBackend<R, F, I, BT>, 2> {
    if x.dtype() != DType::F32 || frequencies.dtype() != DType::F32 {
        return definition::fourier_features(x, time, frequencies);
    }
    let (x, frequencies) = (float(x), float(frequencies.clone()));
    let (waypoints, inputs) = extents(&x);
    let (rows, count) = extents(&frequencies);
    let out = empty(&x, waypoints, rows * 2 * count, DType::F32);
    // SAFETY: positions are checked against the number of angles.
    unsafe {
        features::launch_unchecked::<R>(
            &x.client,
            cubes((waypoints * rows * count).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            array(&x),
            array(&frequencies),
            array(&out),
            inputs as u32,
            count as u32,
            time,
        );
    }
    tensor(out)
}

/// One unit per angle: its sine and its cosine.
#[cube(launch_unchecked)]
fn features(x: &Array<f32>, frequencies: &Array<f32>, out: &mut Array<f32>, inputs: u32, count: u32, time: f32) {
    let zero = inputs >> 31u32;
    let (inputs, count) = (inputs as usize, count as usize);
    if 2 * ABSOLUTE_POS < out.len() {
        let index = ABSOLUTE_POS % count;
        let row = ABSOLUTE_POS / count % (inputs + 1);
        let waypoint = ABSOLUTE_POS / (count * (inputs + 1));
        let mut value = time;
        if row < inputs {
            value = x[waypoint * inputs + row];
        }
        // Both products are rounded, in this order: an angle that is one unit in the last place off is another angle.
        let product = rounded(value * frequencies[row * count + index], zero);
        let angle = rounded(product * core::f32::consts::TAU, zero);

        // Quarter turns, taken away in three parts of few bits each, so that their products are exact.
        let turns = (angle * core::f32::consts::FRAC_2_PI + 0.5f32).floor();
        let mut rest = angle - turns * 1.570_312_5f32;
        rest -= turns * 4.837_513e-4f32;
        rest -= turns * 7.549_79e-8f32;
        let square = rest * rest;
        let sine = rest + rest * square * (-0.166_666_55f32 + square * (8.332_161e-3f32 - square * 1.951_529_6e-4f32));
        let cosine = 1.0f32 - 0.5f32 * square
            + square * square * (4.166_664_6e-2f32 + square * (-1.388_731_6e-3f32 + square * 2.443_315_7e-5f32));

        let quarter = turns - 4.0f32 * (turns * 0.25f32).floor();
        let swapped = quarter == 1.0f32 || quarter == 3.0f32;
        let mut s = select(swapped, cosine, sine);
        let mut c = select(swapped, sine, cosine);
        if quarter >= 2.0f32 {
            s = -s;
        }
        if quarter == 1.0f32 || quarter == 2.0f32 {
            c = -c;
        }
        let target = (waypoint * (inputs + 1) + row) * 2 * count + index;
        out[target] = core::f32::consts::SQRT_2 * s;
        out[target + count] = core::f32::consts::SQRT_2 * c;
    }
}
