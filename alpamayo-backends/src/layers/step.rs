//! What changes from one decoded token to the next, and from one plan's action tokens to the next one's.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use super::{Rotary, RowLengths};

/// Where the next tokens go in every row's suffix: how many tokens it holds before them, on the host and on the device.
#[derive(Debug, Clone)]
pub struct SuffixPosition<B: Backend> {
    host: usize,
    device: Tensor<B, 1, Int>,
}

impl<B: Backend> SuffixPosition<B> {
    /// The same position in every row.
    pub fn new(position: usize, device: &B::Device) -> Self {
        // The backend's own integer type: Candle takes no other from the host.
        let data = TensorData::new(vec![position as i32], [1]);
        Self::of(position, Tensor::from_data(data, device))
    }

    /// A position that the device has already.
    pub(crate) fn of(host: usize, device: Tensor<B, 1, Int>) -> Self {
        Self { host, device }
    }

    /// The position on the host.
    pub fn host(&self) -> usize {
        self.host
    }

    /// The position on the device, `[1]`, the backend's integer type.
    pub fn device(&self) -> &Tensor<B, 1, Int> {
        &self.device
    }
}

/// One token of every row at the same position: what decoding it reads besides parameters and caches.
#[derive(Debug, Clone)]
pub struct DecodeStep<B: Backend> {
    /// Where it goes.
    pub position: SuffixPosition<B>,
    /// Its rotation in every row, `[rows, head_dim / 2]`.
    pub rotary: Rotary<B>,
}

/// The action tokens of every row: what the action expert reads besides parameters and caches, the same for all steps of a flow.
#[derive(Debug, Clone)]
pub struct ActionTokens<B: Backend> {
    /// How many tokens of its suffix they see.
    pub suffix_lengths: RowLengths<B>,
    /// Their rotation, `[rows · tokens, head_dim / 2]`.
    pub rotary: Rotary<B>,
}

impl<B: Backend> ActionTokens<B> {
    /// Whether the expert does the same with both, whatever their values.
    pub fn is_like(&self, other: &Self) -> bool {
        let rows = |tokens: &Self| tokens.suffix_lengths.host().len();
        rows(self) == rows(other)
            && self.suffix_lengths.longest() == other.suffix_lengths.longest()
            && self.rotary.cos.dims() == other.rotary.cos.dims()
    }
}
