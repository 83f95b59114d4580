//! What only CUDA has.

mod client_stream;
pub(crate) mod cublaslt;
pub(crate) mod record;
mod stream;
pub(crate) mod upload;
