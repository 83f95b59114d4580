//! What only CUDA has.

pub(crate) mod buffers;
mod client_stream;
pub(crate) mod cublaslt;
pub(crate) mod hopper;
mod mapped;
pub(crate) mod record;
mod stream;
pub(crate) mod upload;
