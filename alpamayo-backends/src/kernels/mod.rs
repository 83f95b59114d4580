//! Kernels in CubeCL, written once and compiled to CUDA, SPIR-V, Metal and WGSL.
#![allow(
    clippy::collapsible_if,
    clippy::manual_div_ceil,
    clippy::manual_is_multiple_of,
    reason = "kernels have plain operators and statements only, and what is decided at compile time stands apart"
)]

mod activation;
pub mod apart;
pub mod attention;
mod bits;
mod byte_dot;
mod cooperative;
pub(crate) mod copy;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod finish;
mod fourier;
mod gate;
mod limits;
pub mod linear;
pub mod matmul;
pub mod matvec;
pub mod native;
mod norm;
mod pixels;
pub mod product;
pub mod quantized;
mod random;
mod read;
mod repeat;
mod round;
mod rounded;
mod rows;
mod sample;
pub(crate) mod signals;
mod step;
mod store;
pub mod streamed;
mod sum_norm;
pub(crate) mod tensors;
#[cfg(all(test, feature = "wgpu", feature = "flex"))]
mod tests;

pub use fourier::fourier_features;
pub use limits::device_limits;
pub use norm::normalize;
pub use pixels::normalize_pixels;
pub use random::random_weight;
pub use read::read_beside;
pub use repeat::Repeat;
pub use round::round;
pub use rows::{add_rows, lookup_host_rows, lookup_rows};
pub use sample::sample_tokens;
pub use step::{decode_step, move_action_tokens, moves_steps};
pub use store::store_weight;
pub use tensors::plain_rows;
