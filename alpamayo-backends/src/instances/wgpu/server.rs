//! CubeCL's server for wgpu, which keeps what is launched instead of queueing it while it records.

use std::collections::HashMap;
use std::sync::Arc;

use cubecl::bytes::Bytes;
use cubecl::device::{DeviceId, DeviceService, ServerUtilitiesHandle};
use cubecl::future::DynFut;
use cubecl::ir::DeviceProperties;
use cubecl::prelude::{CubeCount, ExecutionMode, KernelId};
use cubecl::profile::ProfileDuration;
use cubecl::server::{
    Binding, ComputeServer, CopyDescriptor, KernelArguments, ProfileError, ProfilingToken, ServerCommunication,
    ServerError, ServerUtilities,
};
use cubecl::stream_id::StreamId;
use cubecl::wgpu::{RuntimeOptions, WgpuResource, WgpuServer, WgpuSetup, WgpuStorage};
use cubecl::{MemoryAllocationMode, MemoryUsage, WgpuCompilationOptions};
use cubecl_runtime::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_runtime::logging::ServerLogger;
use cubecl_runtime::memory_management::ManagedMemoryHandle;
use cubecl_runtime::storage::ManagedResource;
use wgpu::{Backend, ComputePipeline};

use super::commands::{Commands, Dispatch, Gpu};
use super::compile::{Kernel, Shared, compile, same};

/// A server of CubeCL's, and what is being recorded of its launches.
#[derive(Debug)]
pub struct Server {
    inner: WgpuServer,
    /// Absent where CubeCL opened the device itself and keeps it.
    gpu: Option<Gpu>,
    pipelines: HashMap<KernelId, Arc<ComputePipeline>>,
    recording: Option<Unfinished>,
    utilities: Arc<ServerUtilities<Self>>,
}

/// A recording that has begun.
#[derive(Debug)]
enum Unfinished {
    /// So far nothing but dispatches, none of which has run.
    Dispatches(Vec<Dispatch>),
    /// There was work that can't be recorded: it has run, and what came before it and after it.
    Interrupted,
}

/// What became of a recording.
pub(super) enum Ended {
    /// Nothing of it has run.
    Recorded(Commands),
    /// All of it has run.
    Interrupted,
}

impl Server {
    /// A server on a device that was opened, whose properties and way of compiling are known.
    pub(super) fn new(setup: WgpuSetup, properties: DeviceProperties, compilation: WgpuCompilationOptions) -> Self {
        let options = RuntimeOptions::default();
        let logger = Arc::new(ServerLogger::default());
        let inner = WgpuServer::new(
            properties.memory.clone(),
            options.memory_config,
            compilation,
            setup.device.clone(),
            setup.queue.clone(),
            options.tasks_max,
            setup.backend,
            properties.timing_method,
            utilities(&properties, setup.backend, logger),
        );
        let gpu = Gpu {
            device: setup.device,
            queue: setup.queue,
        };
        Self::around(inner, Some(gpu))
    }

    fn around(inner: WgpuServer, gpu: Option<Gpu>) -> Self {
        let known = ComputeServer::utilities(&inner);
        Self {
            utilities: Arc::new(utilities(&known.properties, known.info, inner.logger())),
            inner,
            gpu,
            pipelines: HashMap::new(),
            recording: None,
        }
    }

    /// Keeps what is launched from now on; whether it can.
    pub(super) fn begin_recording(&mut self) -> bool {
        self.recording = self.gpu.as_ref().map(|_| Unfinished::Dispatches(Vec::new()));
        self.recording.is_some()
    }

    /// What was launched since a recording began, `None` where none did.
    pub(super) fn end_recording(&mut self) -> Option<Ended> {
        match (self.recording.take()?, &self.gpu) {
            (Unfinished::Dispatches(dispatches), Some(gpu)) => Some(Ended::Recorded(Commands::new(gpu, dispatches))),
            _ => Some(Ended::Interrupted),
        }
    }

    /// Submits commands behind what the stream was told before.
    pub(super) fn submit(&mut self, commands: &Commands, stream: StreamId) {
        // Asked for its memory, a stream hands over what it has queued, and keeps its errors for whoever waits for it.
        let _ = self.inner.memory_usage(stream);
        commands.submit();
    }

    /// Runs what was recorded so far, before work that can't be.
    fn interrupt(&mut self, stream: StreamId) {
        if let Some(Unfinished::Dispatches(dispatches)) = &mut self.recording
            && let Some(gpu) = &self.gpu
        {
            let commands = Commands::new(gpu, std::mem::take(dispatches));
            self.submit(&commands, stream);
            self.recording = Some(Unfinished::Interrupted);
        }
    }

    /// Keeps a launch, if all is known and well; whether it did.
    fn keep(
        &mut self,
        kernel: &Arc<Kernel>,
        count: &CubeCount,
        arguments: &KernelArguments,
        mode: ExecutionMode,
        stream: StreamId,
    ) -> bool {
        let CubeCount::Static(x, y, z) = *count else {
            return false;
        };
        let mut buffers = Vec::with_capacity(arguments.buffers.len());
        for buffer in &arguments.buffers {
            let Ok(managed) = self.inner.get_resource(buffer.clone(), stream) else {
                return false;
            };
            let found = managed.resource();
            buffers.push(WgpuResource::new(found.buffer.clone(), found.offset, found.size));
        }
        let Some(pipeline) = self.pipeline(kernel, arguments, mode, stream) else {
            return false;
        };
        if let Some(Unfinished::Dispatches(dispatches)) = &mut self.recording
            && !count.is_empty()
        {
            dispatches.push(Dispatch {
                pipeline,
                buffers,
                info: arguments.info.data.clone(),
                cubes: [x, y, z],
            });
        }
        true
    }

    /// The kernel's pipeline. CubeCL shows its own to nobody: this is a second one of the same code.
    fn pipeline(
        &mut self,
        kernel: &Arc<Kernel>,
        arguments: &KernelArguments,
        mode: ExecutionMode,
        stream: StreamId,
    ) -> Option<Arc<ComputePipeline>> {
        let mut id = kernel.id();
        id.mode(mode);
        if let Some(pipeline) = self.pipelines.get(&id) {
            return Some(pipeline.clone());
        }
        let mut kept = self.inner.load_cached_pipeline(&id, arguments, mode).ok()?;
        if let Some(Err(_)) = kept {
            // A launch of no cubes compiles the kernel and keeps its code for the next run, and does nothing else.
            let (task, none) = (Box::new(Shared(kernel.clone())), CubeCount::Static(0, 0, 0));
            // SAFETY: nothing runs.
            unsafe { self.inner.launch(task, none, same(arguments), mode, stream) };
            kept = self.inner.load_cached_pipeline(&id, arguments, mode).ok()?;
        }
        let pipeline = match kept {
            Some(Ok(pipeline)) => pipeline,
            _ => compile(&self.inner, &self.utilities, kernel, mode, arguments)?,
        };
        self.pipelines.insert(id, pipeline.clone());
        Some(pipeline)
    }
}

impl DeviceService for Server {
    fn init(device: DeviceId) -> Self {
        // Reached only by who asks CubeCL for a client past the runtime: a server, but one that records nothing.
        Self::around(<WgpuServer as DeviceService>::init(device), None)
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl ServerCommunication for Server {
    const SERVER_COMM_ENABLED: bool = WgpuServer::SERVER_COMM_ENABLED;
}

impl ComputeServer for Server {
    type Kernel = Kernel;
    type Storage = WgpuStorage;
    type MemoryLayoutPolicy = ContiguousMemoryLayoutPolicy;
    type Info = Backend;

    unsafe fn launch(
        &mut self,
        kernel: Kernel,
        count: CubeCount,
        arguments: KernelArguments,
        mode: ExecutionMode,
        stream: StreamId,
    ) {
        let mut kernel = kernel;
        if matches!(self.recording, Some(Unfinished::Dispatches(_))) {
            let shared = Arc::new(kernel);
            if self.keep(&shared, &count, &arguments, mode, stream) {
                return;
            }
            self.interrupt(stream);
            kernel = Box::new(Shared(shared));
        }
        // SAFETY: by the caller's promise.
        unsafe { self.inner.launch(kernel, count, arguments, mode, stream) }
    }

    fn read(&mut self, from: Vec<CopyDescriptor>, stream: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        self.interrupt(stream);
        self.inner.read(from, stream)
    }

    fn write(&mut self, to: Vec<(CopyDescriptor, Bytes)>, stream: StreamId) {
        self.interrupt(stream);
        self.inner.write(to, stream);
    }

    fn sync(&mut self, stream: StreamId) -> DynFut<Result<(), ServerError>> {
        self.interrupt(stream);
        self.inner.sync(stream)
    }

    fn get_resource(&mut self, of: Binding, stream: StreamId) -> Result<ManagedResource<WgpuResource>, ServerError> {
        self.interrupt(stream);
        self.inner.get_resource(of, stream)
    }

    fn start_profile(&mut self, stream: StreamId) -> Result<ProfilingToken, ServerError> {
        self.interrupt(stream);
        self.inner.start_profile(stream)
    }

    fn end_profile(&mut self, stream: StreamId, token: ProfilingToken) -> Result<ProfileDuration, ProfileError> {
        self.interrupt(stream);
        self.inner.end_profile(stream, token)
    }

    fn initialize_memory(&mut self, memory: ManagedMemoryHandle, size: u64, stream: StreamId) {
        self.inner.initialize_memory(memory, size, stream);
    }

    fn staging(&mut self, sizes: &[usize], stream: StreamId) -> Result<Vec<Bytes>, ServerError> {
        self.inner.staging(sizes, stream)
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.inner.logger()
    }

    fn utilities(&self) -> Arc<ServerUtilities<Self>> {
        self.utilities.clone()
    }

    fn flush(&mut self, stream: StreamId) -> Result<(), ServerError> {
        self.inner.flush(stream)
    }

    fn memory_usage(&mut self, stream: StreamId) -> Result<MemoryUsage, ServerError> {
        self.inner.memory_usage(stream)
    }

    fn memory_cleanup(&mut self, stream: StreamId) {
        self.inner.memory_cleanup(stream);
    }

    fn allocation_mode(&mut self, mode: MemoryAllocationMode, stream: StreamId) {
        self.inner.allocation_mode(mode, stream);
    }
}

/// What a server of this kind tells its clients.
fn utilities<S>(properties: &DeviceProperties, backend: Backend, logger: Arc<ServerLogger>) -> ServerUtilities<S>
where
    S: ComputeServer<Info = Backend, MemoryLayoutPolicy = ContiguousMemoryLayoutPolicy>,
{
    let layout = ContiguousMemoryLayoutPolicy::new(properties.memory.alignment as usize);
    ServerUtilities::new(properties.clone(), logger, backend, layout)
}
