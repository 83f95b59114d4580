//! A device of paper: it compiles every kernel that is launched on it and keeps the source and the sizes, but has no memory and runs
//! nothing.
//!
//! The released model runs on it in seconds, on any machine, and what it would ask of a GPU that isn't at hand can be read off:
//! every kernel's source in that GPU's language, its shared memory, its buffers, its dispatches.

mod server;
mod targets;

pub use server::PaperServer;
pub use targets::{Cuda, Metal, Wgsl};

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alpamayo_backends::instances::KernelRuntime;
use alpamayo_backends::layers::CacheFormat;
use burn::tensor::backend::DeviceOps;
use burn_cubecl::CubeBackend;
use cubecl::Compiler;
use cubecl::device::{Device, DeviceId};
use cubecl::ir::{DeviceProperties, MmaProperties, TargetProperties};
use cubecl::prelude::*;
use cubecl::zspace::{Shape, Strides};

/// A language that kernels are compiled to, for a GPU with given limits.
pub trait Target: Clone + std::fmt::Debug + Default + PartialEq + Eq + Send + Sync + 'static {
    /// CubeCL's compiler.
    type Compiler: Compiler;

    /// The number of its device. Devices of one number share one thread of CubeCL's, and two targets that do can wait for each other:
    /// who opens a device holds CubeCL's list of them until the thread has time, and a stage that runs on the thread may need the list.
    const NUMBER: u16;

    /// A compiler.
    fn compiler() -> Self::Compiler;

    /// The limits and the features of the GPU.
    fn properties() -> DeviceProperties;

    /// How kernels lay out the registers of matrix units, where they do that themselves.
    fn matrix_units() -> MmaProperties {
        MmaProperties::default()
    }

    /// How a cache of packed weights' keys and values is stored.
    fn cache_format() -> CacheFormat {
        CacheFormat::F32
    }

    /// Bytes of memory that a workgroup of a compiled kernel shares.
    fn shared_bytes(kernel: &<Self::Compiler as Compiler>::Representation) -> usize;

    /// Where the kernels that were launched are kept.
    fn kept() -> &'static Mutex<Kernels>;

    /// The kernels that were launched in this process.
    fn kernels() -> MutexGuard<'static, Kernels> {
        Self::kept().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kernels by an identifier of everything that they were compiled for.
pub type Kernels = BTreeMap<String, Kernel>;

/// A kernel and how it was launched.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The function's name.
    pub name: String,
    /// Its source, or the compiler's words where it has none.
    pub source: Result<String, String>,
    /// Bytes that a workgroup shares.
    pub shared_bytes: usize,
    /// Units of a workgroup in each dimension.
    pub units: [u32; 3],
    /// Buffers, that of the scalars included.
    pub buffers: usize,
    /// Bytes of its largest buffer in any launch.
    pub largest_buffer: u64,
    /// The largest number of workgroups in each dimension in any launch.
    pub workgroups: [u32; 3],
    /// Launches.
    pub launches: usize,
}

impl Kernel {
    /// A kernel that hasn't been launched.
    fn new(name: String, source: Result<String, String>) -> Self {
        Self {
            name,
            source,
            shared_bytes: 0,
            units: [0; 3],
            buffers: 0,
            largest_buffer: 0,
            workgroups: [0; 3],
            launches: 0,
        }
    }
}

/// The only device of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaperDevice<T>(PhantomData<T>);

impl<T: Target> Device for PaperDevice<T> {
    fn from_id(_: DeviceId) -> Self {
        Self::default()
    }

    fn to_id(&self) -> DeviceId {
        DeviceId::new(T::NUMBER, 0)
    }
}

impl<T: Target> DeviceOps for PaperDevice<T> {}

/// CubeCL's runtime of paper.
#[derive(Debug, Clone)]
pub struct PaperRuntime<T: Target>(PhantomData<T>);

/// Burn's backend of paper.
pub type Paper<T> = CubeBackend<PaperRuntime<T>, f32, i32, u32>;

impl<T: Target> KernelRuntime for PaperRuntime<T> {
    fn cache_format(_device: &Self::Device) -> CacheFormat {
        T::cache_format()
    }
}

impl<T: Target> Runtime for PaperRuntime<T> {
    type Compiler = T::Compiler;
    type Server = PaperServer<T>;
    type Device = PaperDevice<T>;

    fn client(device: &PaperDevice<T>) -> ComputeClient<Self> {
        ComputeClient::load(device)
    }

    fn name(_: &ComputeClient<Self>) -> &'static str {
        "paper"
    }

    fn max_cube_count() -> (u32, u32, u32) {
        T::properties().hardware.max_cube_count
    }

    fn can_read_tensor(shape: &Shape, strides: &Strides) -> bool {
        let mut expected = 1;
        shape.iter().zip(strides.iter()).rev().all(|(&extent, &stride)| {
            let contiguous = stride == expected;
            expected *= extent;
            contiguous
        })
    }

    fn target_properties() -> TargetProperties {
        TargetProperties { mma: T::matrix_units() }
    }

    fn enumerate_devices(_: u16, (): &()) -> Vec<DeviceId> {
        vec![PaperDevice::<T>::default().to_id()]
    }
}
