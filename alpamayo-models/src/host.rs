//! Between the host and the device.

use std::fmt::Debug;

use alpamayo_backends::Error as BackendError;
use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};

use crate::error::{Error, Result};

/// A tensor's values as f32, row-major.
pub(crate) fn download<B: Backend, const D: usize>(tensor: Tensor<B, D>, context: &str) -> Result<Vec<f32>> {
    read(tensor, context)?.into_vec().map_err(unreadable(context))
}

/// A tensor's values as f32 where the backend put them on the host.
pub(crate) fn read<B: Backend, const D: usize>(tensor: Tensor<B, D>, context: &str) -> Result<TensorData> {
    let data = tensor.try_into_data().map_err(unreadable(context))?;
    Ok(if data.dtype == DType::F32 {
        data
    } else {
        data.convert::<f32>()
    })
}

/// The error of values that don't come from the device as they should, to be used in `map_err`.
pub(crate) fn unreadable<'a, E: Debug>(context: &'a str) -> impl FnOnce(E) -> Error + use<'a, E> {
    move |error| {
        Error::Backend(BackendError::Device {
            context: context.to_owned(),
            message: format!("{error:?}"),
        })
    }
}

/// `values` as `[rows, columns]` on the device, one row right behind the other: rows of a matrix may be put further apart, and what
/// is computed of them then copies them together first.
pub(crate) fn upload<B: Backend>(values: Vec<f32>, [rows, columns]: [usize; 2], device: &B::Device) -> Tensor<B, 2> {
    let count = values.len();
    Tensor::<B, 1>::from_data(TensorData::new(values, [count]), device).reshape([rows, columns])
}

/// Row numbers on the device, in its own integer type.
pub(crate) fn indices<B: Backend>(rows: impl IntoIterator<Item = usize>, device: &B::Device) -> Tensor<B, 1, Int> {
    let rows: Vec<i32> = rows.into_iter().map(|row| row as i32).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

/// The given rows of `x`.
///
/// Burn 0.21's selection on CubeCL devices reads a row number for every column as well, and throws it away: zeros lie behind these
/// for it.
pub(crate) fn select_rows<B: Backend>(x: Tensor<B, 2>, rows: impl IntoIterator<Item = usize>) -> Tensor<B, 2> {
    let mut rows: Vec<usize> = rows.into_iter().collect();
    let count = rows.len();
    rows.resize(count.max(x.dims()[1]), 0);
    let rows = indices::<B>(rows, &x.device()).narrow(0, 0, count);
    x.select(0, rows)
}
