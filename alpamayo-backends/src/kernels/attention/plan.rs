//! Which kernel carries an attention out, and with what tile.

use burn_cubecl::CubeRuntime;
use cubecl::ir::{ElemType, FloatKind, features::Plane};
use cubecl::prelude::*;

use crate::kernels::cooperative::has_cooperative_matrices;
use crate::kernels::tensors::has_bf16_tensor_cores;

/// How an attention is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The platform's own kernels, where keys are bf16; what they don't take goes by the common plan for it.
    Native,
    /// Register blocks in f32; any device, any problem, no rounding below f32.
    Exact {
        /// Shared memory that a cube may take, where the device has more.
        shared_bytes: usize,
    },
    /// Planes that stream keys past a few queries in f32: for decoding, where planes have one width.
    Stream {
        /// Planes per cube.
        planes: usize,
        /// Keys that a lane has in flight.
        unroll: usize,
        /// Cubes per processor that a split aims at.
        cubes: usize,
    },
    /// Planes that take a tile of bf16 keys each, for one token of a clip whose heads suit them; what they don't take goes by
    /// [`STREAM`](Self::STREAM).
    Tiles {
        /// Planes per cube, a power of two of at least eight.
        planes: usize,
        /// Keys per plane, a multiple of four.
        keys: usize,
    },
    /// Tensor cores on bf16 queries, keys and values.
    TensorCore {
        /// Planes per cube.
        planes: usize,
        /// Tiles of 16 queries per plane.
        tiles: usize,
        /// Keys per step, a multiple of 16.
        keys: usize,
        /// Whether queries stay in registers rather than in shared memory.
        keep_query: bool,
        /// Whether keys and values are copied asynchronously, on devices that do.
        asynchronous: bool,
        /// Cubes per processor that a split aims at.
        cubes: usize,
    },
    /// Matrix units that are reached by cooperative matrices, on bf16 queries, keys and values.
    Cooperative {
        /// Query heads per cube, all of one key-value head.
        heads: usize,
        /// Planes per cube, a multiple of its heads.
        planes: usize,
        /// Rows of 16 queries per plane.
        tiles: usize,
        /// Keys per step, a multiple of 16.
        keys: usize,
        /// Cubes per processor that a split aims at.
        cubes: usize,
    },
}

impl Plan {
    /// Register blocks in f32, as large as the device's shared memory lets them be.
    pub const EXACT: Self = Self::Exact {
        shared_bytes: usize::MAX,
    };

    /// What measured best through Vulkan for one sample, where [tiles](Self::Tiles) don't take it.
    pub const STREAM: Self = Self::Stream {
        planes: 8,
        unroll: 1,
        cubes: 2,
    };

    /// For images, whose keys become bf16 if `packed`.
    pub fn vision<R: CubeRuntime>(client: &ComputeClient<R>, packed: bool) -> Self {
        if packed && has_tensor_cores(client) {
            Self::TensorCore {
                planes: 4,
                tiles: 2,
                keys: 64,
                keep_query: false,
                asynchronous: false,
                cubes: 1,
            }
        } else if packed && has_cooperative_matrices(client) {
            Self::Cooperative {
                heads: 1,
                planes: 8,
                tiles: 1,
                keys: 16,
                cubes: 1,
            }
        } else {
            Self::EXACT
        }
    }

    /// For whole prompts, whose keys are bf16 if `packed`.
    pub fn whole<R: CubeRuntime>(client: &ComputeClient<R>, packed: bool) -> Self {
        if packed && !has_tensor_cores(client) && has_cooperative_matrices(client) {
            return Self::Cooperative {
                heads: 1,
                planes: 8,
                tiles: 1,
                keys: 32,
                cubes: 1,
            };
        }
        if !packed || !has_tensor_cores(client) {
            return Self::EXACT;
        }
        // Twice the queries per plane read half as much of shared memory, but leave no registers for what is on its way.
        let asynchronous = client.properties().features.copy_async;
        let [planes, tiles] = if asynchronous { [4, 2] } else { [8, 1] };
        Self::TensorCore {
            planes,
            tiles,
            keys: 64,
            keep_query: !asynchronous,
            asynchronous,
            cubes: 1,
        }
    }

    /// For action tokens over a cache, whose keys are bf16 if `packed`.
    pub fn expert<R: CubeRuntime>(client: &ComputeClient<R>, packed: bool) -> Self {
        if packed && has_tensor_cores(client) {
            let asynchronous = client.properties().features.copy_async;
            Self::TensorCore {
                planes: 4,
                tiles: 1,
                keys: if asynchronous { 64 } else { 32 },
                keep_query: true,
                asynchronous,
                cubes: 1,
            }
        } else if packed && has_cooperative_matrices(client) {
            Self::Cooperative {
                heads: 1,
                planes: 4,
                tiles: 1,
                keys: 16,
                cubes: 1,
            }
        } else {
            Self::EXACT
        }
    }

    /// For so many queries per key-value head of a clip.
    pub fn decode<R: CubeRuntime>(client: &ComputeClient<R>, queries: usize) -> Self {
        if queries > 64 || plane_size(client).is_none() {
            return Self::EXACT;
        }
        // What measured best through CUDA, and through Vulkan for one sample. More queries would share more than the 32 KB that Apple's
        // GPUs have.
        if has_tensor_cores(client) || queries > 4 {
            Self::Stream {
                planes: 4,
                unroll: 4,
                cubes: 3,
            }
        } else {
            Self::Tiles { planes: 8, keys: 12 }
        }
    }

    /// This plan, or the one for what tiles don't take.
    pub(super) fn without_tiles(self) -> Self {
        match self {
            Self::Tiles { .. } => Self::STREAM,
            plan => plan,
        }
    }

    /// This plan, or the given one where the common kernels have to do a native plan's work.
    pub(super) fn or(self, common: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Native => common(),
            plan => plan,
        }
    }

    /// Whether queries, keys and values have to be bf16.
    pub(super) fn is_packed(self) -> bool {
        matches!(self, Self::TensorCore { .. } | Self::Cooperative { .. })
    }
}

/// Whether the device multiplies bf16 matrices and loads them from shared memory as they are multiplied.
fn has_tensor_cores<R: Runtime>(client: &ComputeClient<R>) -> bool {
    let bf16 = ElemType::Float(FloatKind::BF16).into();
    client.properties().features.matmul.ldmatrix.contains(&bf16) && has_bf16_tensor_cores(client)
}

/// The width of a plane, where all have the same and plane operations exist.
pub(super) fn plane_size<R: Runtime>(client: &ComputeClient<R>) -> Option<usize> {
    let properties = client.properties();
    let (least, most) = (properties.hardware.plane_size_min, properties.hardware.plane_size_max);
    (least == most && most.is_power_of_two() && properties.features.plane.contains(Plane::Ops)).then_some(most as usize)
}
