//! What differs between the GPU runtimes.

use burn_cubecl::CubeRuntime;

/// A CubeCL runtime and what its platform offers beyond the kernels that are common to all.
pub trait KernelRuntime: CubeRuntime {}
