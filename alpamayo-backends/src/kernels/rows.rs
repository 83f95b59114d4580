//! Table look-ups and scattered additions.

use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};
use cubecl::prelude::*;

use super::bits;
use super::native::NativeWork;
use super::product::{Element, StoredWeight};
use super::tensors::{array, cubes, empty, extents, float, int, tensor, vector};
use crate::definition;
use crate::instances::KernelRuntime;
use crate::layers::{HostRows, Weight};

const UNITS: usize = 256;

/// See [`ModelBackend::lookup_rows`](crate::ModelBackend::lookup_rows).
pub fn lookup_rows<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    ids: Tensor<CubeBackend<R, F, I, BT>, 1, Int>,
    table: &Weight<CubeBackend<R, F, I, BT>>,
) -> Tensor<CubeBackend<R, F, I, BT>, 2> {
    let packed = StoredWeight::new(table).filter(|table| table.element == Element::Bf16);
    let Some(stored) = packed.filter(|_| ids.dtype() == DType::I32) else {
        return definition::lookup_rows(ids, table);
    };
    let ids = int(ids);
    let count = ids.meta.num_elements();
    let out = empty(&stored.values, count, stored.columns, DType::F32);
    let vector = vector(stored.columns);
    let vectors = stored.columns / vector;
    // SAFETY: positions are checked against the output's length, ids against the table's rows.
    unsafe {
        lookup::launch_unchecked::<R>(
            &ids.client,
            cubes((count * vectors).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            vector,
            vector / 2,
            array(&ids),
            array(&stored.values),
            array(&out),
            vectors as u32,
            stored.rows as u32,
        );
    }
    tensor(out)
}

/// See [`ModelBackend::lookup_host_rows`](crate::ModelBackend::lookup_host_rows).
pub fn lookup_host_rows<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    ids: Tensor<CubeBackend<R, F, I, BT>, 1, Int>,
    table: &HostRows,
) -> Option<Tensor<CubeBackend<R, F, I, BT>, 2>> {
    let ids = int(ids);
    R::native(&NativeWork::HostRows { ids: &ids, table }).map(tensor)
}

#[cube(launch_unchecked)]
fn lookup<X: Size, W: Size>(
    ids: &Array<i32>,
    table: &Array<Vector<u32, W>>,
    out: &mut Array<Vector<f32, X>>,
    vectors: u32,
    rows: u32,
) {
    let vectors = vectors as usize;
    if ABSOLUTE_POS < out.len() {
        let id = min(ids[ABSOLUTE_POS / vectors] as usize, rows as usize - 1);
        let words = table[id * vectors + ABSOLUTE_POS % vectors];
        out[ABSOLUTE_POS] = bits::values::<X, W>(words, true);
    }
}

/// See [`ModelBackend::add_rows`](crate::ModelBackend::add_rows).
pub fn add_rows<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    x: Tensor<CubeBackend<R, F, I, BT>, 2>,
    rows: Tensor<CubeBackend<R, F, I, BT>, 1, Int>,
    values: Tensor<CubeBackend<R, F, I, BT>, 2>,
) -> Tensor<CubeBackend<R, F, I, BT>, 2> {
    if x.dtype() != DType::F32 || values.dtype() != DType::F32 || rows.dtype() != DType::I32 {
        return definition::add_rows(x, rows, values);
    }
    let (rows, values) = (int(rows), float(values));
    let x = float(x);
    let out = if x.can_mut() { x } else { into_contiguous(x.copy()) };
    let (count, columns) = extents(&values);
    let vector = vector(columns);
    let vectors = columns / vector;
    // SAFETY: positions are checked against the values' length; rows are distinct rows of `x`, by the operation's contract.
    unsafe {
        add::launch_unchecked::<R>(
            &out.client,
            cubes((count * vectors).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            vector,
            array(&rows),
            array(&values),
            array(&out),
            vectors as u32,
        );
    }
    tensor(out)
}

#[cube(launch_unchecked)]
fn add<X: Size>(rows: &Array<i32>, values: &Array<Vector<f32, X>>, out: &mut Array<Vector<f32, X>>, vectors: u32) {
    let vectors = vectors as usize;
    if ABSOLUTE_POS < values.len() {
        let row = rows[ABSOLUTE_POS / vectors] as usize;
        out[row * vectors + ABSOLUTE_POS % vectors] += values[ABSOLUTE_POS];
    }
}
