//! Kernels to pipelines, where CubeCL's server keeps its own to itself.

use std::sync::Arc;

use cubecl::ir::StorageType;
use cubecl::prelude::{CompiledKernel, ExecutionMode, KernelId, KernelMetadata};
use cubecl::server::{KernelArguments, MetadataBindingInfo, ServerUtilities};
#[cfg(feature = "vulkan")]
use cubecl::wgpu::AutoRepresentation;
use cubecl::wgpu::{AutoCompiler, AutoRepresentationRef, WgpuServer};
use cubecl::{CompilationError, CubeTask, WgpuCompilationOptions};
use cubecl_runtime::validation::{validate_cube_dim, validate_units};
use wgpu::{Backend, ComputePipeline};

use super::server::Server;
#[cfg(feature = "vulkan")]
use super::{packed_dots, rolled_loops};

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
        code(&self.0, compiler, options, mode, address_type)
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
    let (id, properties) = (kernel.id(), &utilities.properties);
    validate_cube_dim(properties, &id).ok()?;
    validate_units(properties, &id).ok()?;
    let options = &server.compilation_options;
    let mut compiler = compiler(utilities.info, options);
    let compiled = code(kernel, &mut compiler, options, mode, kernel.address_type()).ok()?;
    let code = compiled.repr.as_ref().map(|code| code.as_ref());
    if code.map_or(0, shared_bytes) > properties.hardware.max_shared_memory_size {
        return None;
    }
    let name = &compiled.entrypoint_name;
    let module = server.create_module(name, code, &compiled.source, mode).ok()?;
    Some(server.create_pipeline(name, code, module, arguments))
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
