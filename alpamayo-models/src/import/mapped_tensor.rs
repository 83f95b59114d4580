//! A tensor's bytes that stay where the checkpoint's file is mapped.

use std::sync::Arc;

use super::checkpoint::{Checkpoint, TensorEntry};

/// A tensor of a mapped checkpoint, which stays mapped as long as this lives.
pub(super) struct MappedTensor {
    checkpoint: Arc<Checkpoint>,
    entry: TensorEntry,
}

impl MappedTensor {
    /// A tensor by its entry, which must be this checkpoint's.
    pub fn new(checkpoint: Arc<Checkpoint>, entry: TensorEntry) -> Self {
        Self { checkpoint, entry }
    }
}

impl AsRef<[u8]> for MappedTensor {
    fn as_ref(&self) -> &[u8] {
        self.checkpoint.bytes(&self.entry)
    }
}
