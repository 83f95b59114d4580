//! What only CUDA has.

pub(crate) mod cublaslt;
mod stream;
pub(crate) mod upload;
