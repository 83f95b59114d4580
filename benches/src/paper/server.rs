//! CubeCL's server of paper.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use cubecl::backtrace::BackTrace;
use cubecl::bytes::Bytes;
use cubecl::device::{DeviceId, DeviceService};
use cubecl::future::DynFut;
use cubecl::profile::ProfileDuration;
use cubecl::server::{
    Binding, ComputeServer, CopyDescriptor, ExecutionMode, IoError, KernelArguments, ProfileError, ProfilingToken,
    ServerCommunication, ServerError, ServerUtilities,
};
use cubecl::stream_id::StreamId;
use cubecl::{Compiler, CubeTask};
use cubecl::{CubeCount, MemoryAllocationMode, MemoryUsage};
use cubecl_runtime::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::ManagedMemoryHandle;
use cubecl_runtime::storage::{BytesResource, BytesStorage, ManagedResource};
use cubecl_runtime::timestamp_profiler::TimestampProfiler;

use super::{Kernel, Target};

/// Compiles what is launched and forgets what is written.
pub struct PaperServer<T: Target> {
    utilities: Arc<ServerUtilities<Self>>,
    profiler: TimestampProfiler,
    /// What a kernel's identifier is kept under.
    names: HashMap<String, String>,
}

impl<T: Target> std::fmt::Debug for PaperServer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PaperServer")
    }
}

impl<T: Target> DeviceService for PaperServer<T> {
    fn init(_: DeviceId) -> Self {
        let policy = ContiguousMemoryLayoutPolicy::new(T::properties().memory.alignment as usize);
        let utilities = ServerUtilities::new(T::properties(), Arc::new(ServerLogger::default()), (), policy);
        Self {
            utilities: Arc::new(utilities),
            profiler: TimestampProfiler::default(),
            names: HashMap::new(),
        }
    }

    fn utilities(&self) -> Arc<dyn Any + Send + Sync> {
        self.utilities.clone()
    }
}

impl<T: Target> ServerCommunication for PaperServer<T> {
    const SERVER_COMM_ENABLED: bool = false;
}

impl<T: Target> PaperServer<T> {
    fn compile(kernel: &dyn CubeTask<T::Compiler>, mode: ExecutionMode) -> Kernel {
        let options = <T::Compiler as Compiler>::CompilationOptions::default();
        let compiled = kernel.compile(&mut T::compiler(), &options, mode, kernel.address_type());
        match compiled {
            Ok(compiled) => Kernel {
                shared_bytes: compiled.repr.as_ref().map_or(0, T::shared_bytes),
                units: [compiled.cube_dim.x, compiled.cube_dim.y, compiled.cube_dim.z],
                ..Kernel::new(compiled.entrypoint_name, Ok(compiled.source))
            },
            Err(error) => Kernel::new(kernel.name().to_owned(), Err(error.to_string())),
        }
    }
}

impl<T: Target> ComputeServer for PaperServer<T> {
    type Kernel = Box<dyn CubeTask<T::Compiler>>;
    type Storage = BytesStorage;
    type MemoryLayoutPolicy = ContiguousMemoryLayoutPolicy;
    type Info = ();

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn initialize_memory(&mut self, _: ManagedMemoryHandle, _: u64, _: StreamId) {}

    fn read(&mut self, descriptors: Vec<CopyDescriptor>, _: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let zeros = |descriptor: CopyDescriptor| {
            let count: usize = descriptor.shape.iter().product();
            Bytes::from_bytes_vec(vec![0; count * descriptor.elem_size])
        };
        let zeros = descriptors.into_iter().map(zeros).collect();
        Box::pin(async move { Ok(zeros) })
    }

    fn write(&mut self, _: Vec<(CopyDescriptor, Bytes)>, _: StreamId) {}

    fn sync(&mut self, _: StreamId) -> DynFut<Result<(), ServerError>> {
        Box::pin(async { Ok(()) })
    }

    fn get_resource(&mut self, _: Binding, _: StreamId) -> Result<ManagedResource<BytesResource>, ServerError> {
        Err(IoError::UnsupportedIoOperation {
            backtrace: BackTrace::capture(),
        }
        .into())
    }

    unsafe fn launch(
        &mut self,
        kernel: Self::Kernel,
        count: CubeCount,
        bindings: KernelArguments,
        mode: ExecutionMode,
        _: StreamId,
    ) {
        let id = format!("{:?}", kernel.id());
        let mut kernels = T::kernels();
        let next = self.names.len();
        let name = self.names.entry(id).or_insert_with(|| format!("{next:04}"));
        let kept = kernels
            .entry(name.clone())
            .or_insert_with(|| Self::compile(kernel.as_ref(), mode));
        kept.launches += 1;
        kept.buffers = bindings.buffers.len() + usize::from(!bindings.info.data.is_empty());
        let sizes = bindings.buffers.iter().map(Binding::size_in_used);
        kept.largest_buffer = kept.largest_buffer.max(sizes.max().unwrap_or(0));
        if let CubeCount::Static(x, y, z) = count {
            for (kept, now) in kept.workgroups.iter_mut().zip([x, y, z]) {
                *kept = (*kept).max(now);
            }
        }
    }

    fn flush(&mut self, _: StreamId) -> Result<(), ServerError> {
        Ok(())
    }

    fn memory_usage(&mut self, _: StreamId) -> Result<MemoryUsage, ServerError> {
        Err(ServerError::Generic {
            reason: "paper has no memory".into(),
            backtrace: BackTrace::capture(),
        })
    }

    fn memory_cleanup(&mut self, _: StreamId) {}

    fn start_profile(&mut self, _: StreamId) -> Result<ProfilingToken, ServerError> {
        Ok(self.profiler.start())
    }

    fn end_profile(&mut self, _: StreamId, token: ProfilingToken) -> Result<ProfileDuration, ProfileError> {
        self.profiler.stop(token)
    }

    fn allocation_mode(&mut self, _: MemoryAllocationMode, _: StreamId) {}
}
