//! Kernels in CubeCL, written once and compiled to CUDA, SPIR-V, Metal and WGSL.

pub mod attention;
