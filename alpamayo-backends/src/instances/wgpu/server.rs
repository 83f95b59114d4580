//! CubeCL's server for wgpu, but for launches, which it binds and submits by itself and keeps while it records.

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
use wgpu::{Backend, ComputePipeline, SubmissionIndex};

use super::bindings::{Bindings, Bound};
use super::byte_dots;
use super::commands::{Commands, Dispatch, Gpu, Pace};
use super::compile::{Kernel, Shared, compile, compile_overlapping, same};
use super::host_rows::Table;
use super::overlapping::{Overlappable, Overlapping, again, is_same};
use super::reading::{Reading, Staging, is_whole};

/// How many launches wait to be submitted together, at most: behind a read, when the device has little left to do, and at any time. Where
/// the host takes as long for a launch as the device, the device still has the last ones together to do when the host is done.
const TOGETHER: [usize; 2] = [8, 32];

/// A server around CubeCL's, which has its memory and its transfers, and launches with less ado: what is bound again is not made again,
/// and scalars are written for many launches at once.
#[derive(Debug)]
pub struct Server {
    inner: WgpuServer,
    /// Absent where CubeCL opened the device itself and keeps it.
    gpu: Option<Gpu>,
    pipelines: HashMap<KernelId, Arc<ComputePipeline>>,
    /// Kernels of launches that may begin before the one in front is done.
    overlapping: HashMap<KernelId, Option<Arc<Overlappable>>>,
    /// The words that launches wait for where they needn't, on devices where they may.
    signals: Option<WgpuResource>,
    bindings: Bindings,
    /// What was launched and not submitted.
    waiting: Vec<Dispatch>,
    /// How many are submitted together next.
    together: usize,
    /// Whether the last that was submitted is a recording: the device is busy while the next one is encoded.
    is_busy: bool,
    pace: Pace,
    recording: Recording,
    /// What was submitted since the recording began.
    recorded: Option<Commands>,
    staging: Staging,
    /// How many times CubeCL's server was asked to measure and is not done.
    profiles: usize,
    utilities: Arc<ServerUtilities<Self>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recording {
    Off,
    On,
    /// There was work that can't be recorded.
    Interrupted,
}

/// What became of a recording, all of which has run.
pub(super) enum Ended {
    /// It can be submitted again.
    Recorded(Commands),
    /// It can't.
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
        let properties = byte_dots::checked(known.properties.clone(), &inner.compilation_options);
        Self {
            utilities: Arc::new(utilities(&properties, known.info, inner.logger())),
            inner,
            gpu,
            pipelines: HashMap::new(),
            overlapping: HashMap::new(),
            signals: None,
            bindings: Bindings::default(),
            waiting: Vec::new(),
            together: TOGETHER[0],
            is_busy: false,
            pace: Pace::default(),
            recording: Recording::Off,
            recorded: None,
            staging: Staging::default(),
            profiles: 0,
        }
    }

    /// The device and its queue, `None` where CubeCL keeps them to itself.
    pub(super) fn gpu(&self) -> Option<Gpu> {
        self.gpu.clone()
    }

    /// Keeps what is launched from now on; whether it can.
    pub(super) fn begin_recording(&mut self) -> bool {
        self.submit_waiting();
        self.recorded = None;
        let can = self.gpu.is_some();
        self.recording = if can { Recording::On } else { Recording::Off };
        can
    }

    /// What was launched since a recording began, `None` where none did.
    pub(super) fn end_recording(&mut self) -> Option<Ended> {
        self.submit_waiting();
        let recorded = self.recorded.take();
        match std::mem::replace(&mut self.recording, Recording::Off) {
            Recording::Off => None,
            Recording::On => {
                let recorded = recorded.or_else(|| self.commands())?;
                Some(Ended::Recorded(recorded.overlapping(&mut self.bindings)))
            }
            Recording::Interrupted => Some(Ended::Interrupted),
        }
    }

    /// Submits commands behind what the stream was told before.
    pub(super) fn submit(&mut self, commands: &Commands, stream: StreamId) {
        // Asked for its memory, a stream hands over what it has queued, and keeps its errors for whoever waits for it. What waits here
        // came later.
        let _ = self.inner.memory_usage(stream);
        let waiting = self.commands();
        commands.submit_behind(waiting.as_ref(), !self.is_busy);
        self.is_busy = true;
    }

    /// All that waits, to be submitted.
    fn commands(&mut self) -> Option<Commands> {
        let gpu = self.gpu.as_ref()?;
        Some(Commands::new(gpu, &mut self.bindings, self.waiting.drain(..)))
    }

    fn submit_waiting(&mut self) {
        let dispatches = self.waiting.len();
        if dispatches > 0
            && let Some(commands) = self.commands()
            && let Some(gpu) = &self.gpu
        {
            self.pace.submitted(gpu, dispatches, commands.submit());
            if self.recording == Recording::On {
                match &mut self.recorded {
                    Some(recorded) => recorded.extend(&commands),
                    None => self.recorded = Some(commands),
                }
            }
        }
    }

    /// Has small results copied behind what waits, or `None` where that is left to CubeCL's server: on the web, where nobody may wait, as
    /// well.
    fn begin_reading(&mut self, from: &[CopyDescriptor], stream: StreamId) -> Option<(Reading, SubmissionIndex)> {
        if cfg!(target_family = "wasm") || self.profiles > 0 || !from.iter().all(is_whole) {
            return None;
        }
        let gpu = self.gpu.clone()?;
        let results = from.iter().map(|part| self.resource(&part.handle, stream));
        let results: Vec<WgpuResource> = results.collect::<Option<_>>()?;
        let reading = Reading::new(&gpu, &self.staging, &results)?;
        self.stop_recording();
        let dispatches = self.waiting.len();
        let submitted = self
            .commands()?
            .submit_before(|encoder| reading.copy(&results, encoder));
        self.pace.submitted(&gpu, dispatches, submitted.clone());
        Some((reading, submitted))
    }

    /// Submits what waits, before work of CubeCL's server. That can't be recorded.
    fn interrupt(&mut self) {
        self.stop_recording();
        self.submit_waiting();
    }

    fn stop_recording(&mut self) {
        if self.recording == Recording::On {
            self.recording = Recording::Interrupted;
            self.recorded = None;
        }
    }

    /// Takes a launch, if all is known and well; whether it did.
    fn take(
        &mut self,
        kernel: &Arc<Kernel>,
        count: &CubeCount,
        arguments: &KernelArguments,
        mode: ExecutionMode,
        stream: StreamId,
    ) -> bool {
        let (CubeCount::Static(x, y, z), 0, Some(_)) = (count.clone(), self.profiles, &self.gpu) else {
            return false;
        };
        let buffers = arguments.buffers.iter();
        let Some(buffers) = buffers
            .map(|buffer| self.resource(buffer, stream))
            .collect::<Option<Vec<_>>>()
        else {
            return false;
        };
        let Some(pipeline) = self.pipeline(kernel, arguments, mode, stream) else {
            return false;
        };
        if !count.is_empty() {
            let overlapping = self.overlapping(kernel, &buffers, arguments, mode);
            let info = arguments.info.data.clone();
            self.queue(Dispatch {
                bound: Bound {
                    pipeline,
                    buffers,
                    info,
                },
                cubes: [x, y, z],
                overlapping,
            });
        }
        true
    }

    /// What a launch of a recording binds where it may begin before the one in front is done, which those do that know the words to wait for.
    fn overlapping(
        &mut self,
        kernel: &Arc<Kernel>,
        buffers: &[WgpuResource],
        arguments: &KernelArguments,
        mode: ExecutionMode,
    ) -> Option<Arc<Overlapping>> {
        let (Recording::On, Some(signals), Some(gpu)) = (self.recording, &self.signals, &self.gpu) else {
            return None;
        };
        let words = (buffers.iter()).position(|buffer| is_same(buffer, signals))?;
        let mut id = kernel.id();
        id.mode(mode);
        let kernel = match self.overlapping.get(&id) {
            Some(known) => known.clone(),
            None => {
                let compiled = compile_overlapping(&self.inner, &self.utilities, (gpu, kernel), mode, arguments);
                let compiled = compiled.map(Arc::new);
                self.overlapping.insert(id, compiled.clone());
                compiled
            }
        };
        Some(Arc::new(Overlapping {
            kernel: kernel?,
            buffers: buffers.iter().map(again).collect(),
            info: arguments.info.data.clone(),
            words,
        }))
    }

    /// Has launches that know these words begin before those in front are done.
    pub(super) fn keep_signals(&mut self, words: &Binding, stream: StreamId) {
        self.signals = self.resource(words, stream);
    }

    /// Launches the lookup of so many ids in a table, all of them in the first buffer and the rows in the second; whether it did.
    pub(super) fn look_up(&mut self, table: &Table, buffers: [Binding; 2], count: u32, stream: StreamId) -> bool {
        let [ids, out] = buffers.map(|buffer| self.resource(&buffer, stream));
        let (Some(ids), Some(out), Some(_), 0) = (ids, out, &self.gpu, self.profiles) else {
            return false;
        };
        self.queue(table.dispatch([ids, out], count));
        true
    }

    /// Where a buffer lies. Whatever CubeCL's server was told to do with it is submitted by this.
    fn resource(&mut self, buffer: &Binding, stream: StreamId) -> Option<WgpuResource> {
        let managed = self.inner.get_resource(buffer.clone(), stream).ok()?;
        let found = managed.resource();
        Some(WgpuResource::new(found.buffer.clone(), found.offset, found.size))
    }

    /// Has a dispatch wait for others.
    fn queue(&mut self, dispatch: Dispatch) {
        self.waiting.push(dispatch);
        if self.waiting.len() >= self.together {
            self.submit_waiting();
            self.together = TOGETHER[1].min(2 * self.together);
            self.is_busy = false;
        }
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
        let kernel = Arc::new(kernel);
        if self.take(&kernel, &count, &arguments, mode, stream) {
            return;
        }
        self.interrupt();
        let kernel = Box::new(Shared(kernel));
        // SAFETY: by the caller's promise.
        unsafe { self.inner.launch(kernel, count, arguments, mode, stream) }
    }

    fn read(&mut self, from: Vec<CopyDescriptor>, stream: StreamId) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        self.together = TOGETHER[0];
        self.is_busy = false;
        if let Some((reading, submitted)) = self.begin_reading(&from, stream) {
            return Box::pin(async move { reading.finish(submitted) });
        }
        self.interrupt();
        self.inner.read(from, stream)
    }

    fn write(&mut self, to: Vec<(CopyDescriptor, Bytes)>, stream: StreamId) {
        self.interrupt();
        self.inner.write(to, stream);
    }

    fn sync(&mut self, stream: StreamId) -> DynFut<Result<(), ServerError>> {
        self.interrupt();
        self.inner.sync(stream)
    }

    fn get_resource(&mut self, of: Binding, stream: StreamId) -> Result<ManagedResource<WgpuResource>, ServerError> {
        self.interrupt();
        self.inner.get_resource(of, stream)
    }

    fn start_profile(&mut self, stream: StreamId) -> Result<ProfilingToken, ServerError> {
        self.interrupt();
        let token = self.inner.start_profile(stream)?;
        self.profiles += 1;
        Ok(token)
    }

    fn end_profile(&mut self, stream: StreamId, token: ProfilingToken) -> Result<ProfileDuration, ProfileError> {
        self.interrupt();
        self.profiles = self.profiles.saturating_sub(1);
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
        self.submit_waiting();
        self.inner.flush(stream)
    }

    fn memory_usage(&mut self, stream: StreamId) -> Result<MemoryUsage, ServerError> {
        self.inner.memory_usage(stream)
    }

    fn memory_cleanup(&mut self, stream: StreamId) {
        self.bindings.clear();
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
