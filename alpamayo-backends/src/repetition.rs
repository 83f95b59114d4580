//! Work that is done again and again.

use burn::tensor::Tensor;

use crate::ModelBackend;

/// Does the same work time and again on tensors of the same extents.
pub trait Repetition<B: ModelBackend> {
    /// `work(x)`.
    ///
    /// Every call's `work` has to do the same with `x` and with the same other tensors, and must not read a result on the host: it
    /// isn't called where what it told the device before can be repeated. A repetition belongs to one stage
    /// ([`ModelBackend::run_stage`]).
    fn run(&mut self, x: Tensor<B, 2>, work: &mut dyn FnMut(Tensor<B, 2>) -> Tensor<B, 2>) -> Tensor<B, 2>;
}

/// Calls the work each time.
pub struct Anew;

impl<B: ModelBackend> Repetition<B> for Anew {
    fn run(&mut self, x: Tensor<B, 2>, work: &mut dyn FnMut(Tensor<B, 2>) -> Tensor<B, 2>) -> Tensor<B, 2> {
        work(x)
    }
}
