//! Benches, and what looks at kernels without a GPU.
#[cfg(feature = "paper")]
pub mod paper;
