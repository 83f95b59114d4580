//! Work that is done again and again.

use burn::tensor::Tensor;

use crate::ModelBackend;

/// Part `index` of some work: the index, and what the part takes.
pub type Parts<'a, B> = dyn FnMut(usize, Tensor<B, 2>) -> Tensor<B, 2> + 'a;

/// Does the same work time and again on tensors of the same extents.
pub trait Repetition<B: ModelBackend>: Send {
    /// `work(parts - 1, … work(1, work(0, x)))`: work in parts, each of which takes what the one before has made.
    ///
    /// Every call's `work` has as many parts and has to do the same with `x` and with the same other tensors, and must not read a result
    /// on the host: it isn't called where what it told the device before can be repeated. What changes in between it has to read from
    /// the device's memory ([`ModelBackend::decode_step`]). A repetition belongs to one stage ([`ModelBackend::run_stage`]).
    fn run(&mut self, x: Tensor<B, 2>, parts: usize, work: &mut Parts<'_, B>) -> Tensor<B, 2>;
}

/// Where a tensor lies in a device's memory, and its extents: work that was recorded over one tensor can be repeated over another in the
/// same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// A number of the buffer's own, among those that exist or that recorded work holds.
    pub buffer: u64,
    /// Bytes from its beginning.
    pub offset: u64,
    /// The tensor's extents.
    pub extents: [usize; 4],
}

/// Calls the work each time.
pub struct Anew;

impl<B: ModelBackend> Repetition<B> for Anew {
    fn run(&mut self, x: Tensor<B, 2>, parts: usize, work: &mut Parts<'_, B>) -> Tensor<B, 2> {
        (0..parts).fold(x, |x, part| work(part, x))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::instances::Flex;

    #[test]
    fn parts_are_done_in_order() {
        let x = Tensor::<Flex, 2>::ones([1, 2], &Default::default());
        let result = Anew.run(x, 3, &mut |part: usize, x: Tensor<Flex, 2>| x * 2.0 + part as f32);
        assert_eq!(result.into_data().to_vec::<f32>().unwrap(), [12.0; 2]);
    }
}
