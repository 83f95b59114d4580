//! Every GPU: the kernels are written once in CubeCL and compiled to CUDA, SPIR-V, Metal and WGSL.

use burn_cubecl::{BoolElement, CubeBackend, FloatElement, IntElement};

use super::KernelRuntime;
use crate::ModelBackend;

impl<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement> ModelBackend for CubeBackend<R, F, I, BT> {}
