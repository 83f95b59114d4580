//! Kernels in CubeCL, written once and compiled to CUDA, SPIR-V, Metal and WGSL.

mod activation;
pub mod attention;
mod bits;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod finish;
mod fourier;
mod gate;
pub mod linear;
pub mod matmul;
pub mod matvec;
mod norm;
mod pixels;
pub mod product;
mod random;
mod round;
mod rows;
mod store;
mod tensors;
#[cfg(all(test, feature = "wgpu", feature = "flex"))]
mod tests;

pub use fourier::fourier_features;
pub use norm::normalize;
pub use pixels::normalize_pixels;
pub use random::random_weight;
pub use rows::{add_rows, lookup_rows};
pub use store::store_weight;
