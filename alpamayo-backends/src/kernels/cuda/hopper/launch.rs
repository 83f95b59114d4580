//! One launch of a kernel on CubeCL's stream.

use std::ffi::c_void;

use cudarc::driver::sys;

use super::module::Function;

/// An argument as the kernel's parameter list has it.
#[derive(Debug, Clone)]
pub enum Argument {
    /// An address in device memory; zero where an optional operand is missing.
    Address(u64),
    /// `int`.
    Int(i32),
    /// `long long`.
    Long(i64),
    /// `float`.
    Float(f32),
    /// A tensor map, by value; aside, since it is twelve times as large as the others.
    Map(Box<sys::CUtensorMap>),
}

impl Argument {
    /// An extent; `None` where it is too large.
    pub fn int(value: usize) -> Option<Self> {
        i32::try_from(value).ok().map(Self::Int)
    }

    /// A stride; `None` where it is too large.
    pub fn long(value: usize) -> Option<Self> {
        i64::try_from(value).ok().map(Self::Long)
    }

    /// A tensor map.
    pub fn map(map: sys::CUtensorMap) -> Self {
        Self::Map(Box::new(map))
    }

    fn pointer(&self) -> *mut c_void {
        match self {
            Self::Address(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Int(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Long(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Float(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::Map(value) => std::ptr::from_ref(&**value).cast_mut().cast(),
        }
    }
}

/// How many blocks of how many threads. Clusters of blocks are part of the kernels.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Blocks.
    pub blocks: [usize; 3],
    /// Threads of a block.
    pub threads: usize,
}

/// Queues a launch that may begin before its predecessor on the stream has ended: the kernel itself waits for what it reads.
///
/// # Safety
/// The arguments are those of the kernel's parameter list, their buffers have the extents that it expects, and the stream belongs to
/// the context of the function.
pub unsafe fn launch(stream: sys::CUstream, function: Function, grid: Grid, arguments: &[Argument]) -> Option<()> {
    if arguments.len() != function.parameters {
        return None;
    }
    let extent = |value: usize| u32::try_from(value).ok();
    let mut attributes = [programmatic()];
    let config = sys::CUlaunchConfig {
        gridDimX: extent(grid.blocks[0])?,
        gridDimY: extent(grid.blocks[1])?,
        gridDimZ: extent(grid.blocks[2])?,
        blockDimX: extent(grid.threads)?,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: extent(function.shared)?,
        hStream: stream,
        attrs: attributes.as_mut_ptr(),
        numAttrs: extent(attributes.len())?,
    };
    let mut pointers: Vec<_> = arguments.iter().map(Argument::pointer).collect();
    // SAFETY: by the caller's promise; all pointers outlive the call, which copies what they point to.
    unsafe { sys::cuLaunchKernelEx(&config, function.raw, pointers.as_mut_ptr(), std::ptr::null_mut()) }
        .result()
        .ok()
}

fn programmatic() -> sys::CUlaunchAttribute {
    // SAFETY: plain old data, of which the part that the kind names is filled in below.
    let mut attribute: sys::CUlaunchAttribute = unsafe { std::mem::zeroed() };
    attribute.id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    attribute
}
