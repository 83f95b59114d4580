//! Table look-ups and scattered additions.

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor};

use super::weight::{dequantize, widen};
use crate::ModelBackend;
use crate::layers::Weight;

/// See [`ModelBackend::lookup_rows`].
pub fn lookup_rows<B: ModelBackend>(ids: Tensor<B, 1, Int>, table: &Weight<B>) -> Tensor<B, 2> {
    match table {
        Weight::Float(weight) if weight.transposed => weight.values.val().select(1, ids).transpose().cast(DType::F32),
        Weight::Float(weight) => weight.values.val().select(0, ids).cast(DType::F32),
        Weight::Bf16(weight) => widen(weight.words.val().select(0, ids)),
        Weight::Quantized(weight) => dequantize(weight.words.val().select(0, ids), weight.columns, weight.quantization),
        Weight::Split(parts) => {
            let mut start = 0;
            let looked_up = parts.weights().into_iter().map(|part| {
                let (rows, _) = part.shape();
                let local = ids.clone() - start;
                start += rows as i64;
                let clamped = local.clone().clamp(0, rows as i64 - 1);
                // Rows of other parts are looked up too, and dropped.
                let own = clamped.clone().equal(local).int().float().cast(DType::F32);
                B::lookup_rows(clamped, &part) * own.unsqueeze_dim(1)
            });
            looked_up
                .reduce(|sum, rows| sum + rows)
                .unwrap_or_else(|| unreachable!("a split weight has parts"))
        }
    }
}

/// See [`ModelBackend::add_rows`].
pub fn add_rows<B: ModelBackend>(x: Tensor<B, 2>, rows: Tensor<B, 1, Int>, values: Tensor<B, 2>) -> Tensor<B, 2> {
    x.select_assign(0, rows, values, IndexingUpdateOp::Add)
}
