//! Kernels to pipelines, where CubeCL's server keeps its own to itself.

#[cfg(feature = "vulkan")]
use std::collections::HashSet;
use std::sync::Arc;

use cubecl::ir::StorageType;
use cubecl::prelude::{CompiledKernel, ExecutionMode, KernelId, KernelMetadata};
use cubecl::server::{KernelArguments, MetadataBindingInfo, ServerUtilities};
#[cfg(feature = "vulkan")]
use cubecl::wgpu::AutoRepresentation;
use cubecl::wgpu::{AutoCompiler, AutoRepresentationRef, WgpuServer};
use cubecl::{CompilationError, CubeTask, WgpuCompilationOptions};
use cubecl_runtime::validation::{validate_cube_dim, validate_units};
use wgpu::{Backend, ComputePipeline, ShaderModule};

use super::commands::Gpu;
use super::overlapping::Overlappable;
use super::server::Server;
#[cfg(feature = "vulkan")]
use super::{packed_dots, read_only, rolled_loops, waiting};

/// A kernel before it is compiled.
pub(super) type Kernel = Box<dyn CubeTask<AutoCompiler>>;

/// A kernel that is launched more than once.
pub(super) struct Shared(pub(super) Arc<Kernel>);

impl KernelMetadata for Shared {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn id(&self) -> KernelId {
        self.0.id()
    }

    fn address_type(&self) -> StorageType {
        self.0.address_type()
    }
}

impl CubeTask<AutoCompiler> for Shared {
    fn compile(
        &self,
        compiler: &mut AutoCompiler,
        options: &WgpuCompilationOptions,
        mode: ExecutionMode,
        address_type: StorageType,
    ) -> Result<CompiledKernel<AutoCompiler>, CompilationError> {
        code(&self.0, compiler, options, mode, address_type).map(between_barriers)
    }
}

/// The kernel's code, in the way that drivers do best with.
fn code(
    kernel: &Kernel,
    compiler: &mut AutoCompiler,
    options: &WgpuCompilationOptions,
    mode: ExecutionMode,
    address_type: StorageType,
) -> Result<CompiledKernel<AutoCompiler>, CompilationError> {
    let compiled = kernel.as_ref().compile(compiler, options, mode, address_type)?;
    #[cfg(feature = "vulkan")]
    let compiled = rewritten(compiled);
    Ok(compiled)
}

#[cfg(feature = "vulkan")]
fn rewritten(mut compiled: CompiledKernel<AutoCompiler>) -> CompiledKernel<AutoCompiler> {
    if let Some(AutoRepresentation::SpirV(code)) = &mut compiled.repr {
        packed_dots::pack(&mut code.assembled_module);
        rolled_loops::keep(&mut code.assembled_module);
    }
    compiled
}

/// The kernel for launches that have barriers in front and behind: it needn't wait by itself.
fn between_barriers(compiled: CompiledKernel<AutoCompiler>) -> CompiledKernel<AutoCompiler> {
    #[cfg(feature = "vulkan")]
    let compiled = parted(compiled);
    compiled
}

#[cfg(feature = "vulkan")]
fn parted(mut compiled: CompiledKernel<AutoCompiler>) -> CompiledKernel<AutoCompiler> {
    if let Some(AutoRepresentation::SpirV(code)) = &mut compiled.repr {
        waiting::part(&mut code.assembled_module);
    }
    compiled
}

/// The same arguments once more.
pub(super) fn same(arguments: &KernelArguments) -> KernelArguments {
    let info = &arguments.info;
    KernelArguments::new()
        .with_buffers(arguments.buffers.clone())
        .with_info(MetadataBindingInfo::new(
            info.data.clone(),
            info.dynamic_metadata_offset,
        ))
}

/// The kernel's pipeline, `None` where the device can't run it or it doesn't compile.
pub(super) fn compile(
    server: &WgpuServer,
    utilities: &ServerUtilities<Server>,
    kernel: &Kernel,
    mode: ExecutionMode,
    arguments: &KernelArguments,
) -> Option<Arc<ComputePipeline>> {
    let compiled = between_barriers(compiled(server, utilities, kernel, mode)?);
    let module = module(server, &compiled, mode)?;
    let code = compiled.repr.as_ref().map(|code| code.as_ref());
    Some(server.create_pipeline(&compiled.entrypoint_name, code, module, arguments))
}

/// What the kernel is where launches overlap, `None` where it doesn't wait for the one in front by itself.
#[cfg(feature = "vulkan")]
pub(super) fn compile_overlapping(
    server: &WgpuServer,
    utilities: &ServerUtilities<Server>,
    (gpu, kernel): (&Gpu, &Kernel),
    mode: ExecutionMode,
    arguments: &KernelArguments,
) -> Option<Overlappable> {
    let mut compiled = compiled(server, utilities, kernel, mode)?;
    let Some(AutoRepresentation::SpirV(code)) = &mut compiled.repr else {
        return None;
    };
    let accesses = waiting::overlap(&mut code.assembled_module)?;
    let uniform = (!arguments.info.data.is_empty()).then_some(code.uniform_info);
    let module = module(server, &compiled, mode)?;
    let buffers = arguments.buffers.len();
    let numbers = |of: &HashSet<u32>| (0..buffers).filter(|&it| of.contains(&(it as u32))).collect();
    Some(Overlappable {
        pipeline: read_only::pipeline(&gpu.device, (&compiled.entrypoint_name, &module), buffers, uniform),
        reads: numbers(&accesses.loaded),
        writes: numbers(&accesses.stored),
    })
}

/// Other compilers' kernels aren't understood.
#[cfg(not(feature = "vulkan"))]
pub(super) fn compile_overlapping(
    _server: &WgpuServer,
    _utilities: &ServerUtilities<Server>,
    _gpu_and_kernel: (&Gpu, &Kernel),
    _mode: ExecutionMode,
    _arguments: &KernelArguments,
) -> Option<Overlappable> {
    None
}

fn compiled(
    server: &WgpuServer,
    utilities: &ServerUtilities<Server>,
    kernel: &Kernel,
    mode: ExecutionMode,
) -> Option<CompiledKernel<AutoCompiler>> {
    let (id, properties) = (kernel.id(), &utilities.properties);
    validate_cube_dim(properties, &id).ok()?;
    validate_units(properties, &id).ok()?;
    let options = &server.compilation_options;
    let mut compiler = compiler(utilities.info, options);
    let compiled = code(kernel, &mut compiler, options, mode, kernel.address_type()).ok()?;
    let code = compiled.repr.as_ref().map(|code| code.as_ref());
    (code.map_or(0, shared_bytes) <= properties.hardware.max_shared_memory_size).then_some(compiled)
}

fn module(server: &WgpuServer, compiled: &CompiledKernel<AutoCompiler>, mode: ExecutionMode) -> Option<ShaderModule> {
    let code = compiled.repr.as_ref().map(|code| code.as_ref());
    (server.create_module(&compiled.entrypoint_name, code, &compiled.source, mode)).ok()
}

fn compiler(backend: Backend, options: &WgpuCompilationOptions) -> AutoCompiler {
    match (backend, options.supports_vulkan) {
        #[cfg(feature = "vulkan")]
        (Backend::Vulkan, true) => AutoCompiler::SpirV(Default::default()),
        #[cfg(feature = "metal")]
        (Backend::Metal, _) => AutoCompiler::Msl(Default::default()),
        _ => AutoCompiler::Wgsl(Default::default()),
    }
}

/// Bytes of shared memory that a cube takes.
fn shared_bytes(code: AutoRepresentationRef<'_>) -> usize {
    match code {
        AutoRepresentationRef::Wgsl(code) => code.shared_memory_bytes(),
        #[cfg(feature = "vulkan")]
        AutoRepresentationRef::SpirV(code) => code.shared_size,
        #[cfg(feature = "metal")]
        AutoRepresentationRef::Msl(code) => code.shared_memory_size(),
    }
}
