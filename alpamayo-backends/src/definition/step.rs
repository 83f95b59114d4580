//! What changes from one decoded token to the next.

use burn::tensor::backend::Backend;

use crate::layers::{DecodeStep, Rotary, SuffixPosition};

/// See [`ModelBackend::decode_step`](crate::ModelBackend::decode_step).
pub fn decode_step<B: Backend>(table: &Rotary<B>, rows: usize, position: usize) -> DecodeStep<B> {
    let [cos, sin] = [&table.cos, &table.sin].map(|part| part.clone().narrow(0, position * rows, rows));
    DecodeStep {
        position: SuffixPosition::new(position, &cos.device()),
        rotary: Rotary { cos, sin },
    }
}
