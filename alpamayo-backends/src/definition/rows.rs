//! Table look-ups and scattered additions.

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor};

use super::weight::widen;
use crate::ModelBackend;
use crate::layers::Weight;

/// See [`ModelBackend::lookup_rows`].
pub fn lookup_rows<B: ModelBackend>(ids: Tensor<B, 1, Int>, table: &Weight<B>) -> Tensor<B, 2> {
    match table {
        Weight::Float(weight) if weight.transposed => weight.values.val().select(1, ids).transpose().cast(DType::F32),
        Weight::Float(weight) => weight.values.val().select(0, ids).cast(DType::F32),
        Weight::Bf16(weight) => widen(weight.words.val().select(0, ids)),
    }
}

/// See [`ModelBackend::add_rows`].
pub fn add_rows<B: ModelBackend>(x: Tensor<B, 2>, rows: Tensor<B, 1, Int>, values: Tensor<B, 2>) -> Tensor<B, 2> {
    x.select_assign(0, rows, values, IndexingUpdateOp::Add)
}
