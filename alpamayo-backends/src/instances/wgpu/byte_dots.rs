//! Whether kernels may multiply bytes.
//!
//! CubeCL announces dot products for every type that a device computes with and stores, though of its compilers for wgpu only that to
//! SPIR-V has them for bytes. They are part of SPIR-V since 1.6; devices that take that have the instruction, and wgpu turns it on.

use cubecl::WgpuCompilationOptions;
use cubecl::ir::features::TypeUsage;
use cubecl::ir::{DeviceProperties, ElemType, IntKind, StorageType};

const BYTE: StorageType = StorageType::Scalar(ElemType::Int(IntKind::I8));

/// Whether such products are among the properties.
pub(super) fn are_announced(properties: &DeviceProperties) -> bool {
    let types = &properties.features.types.storage;
    types
        .get(&BYTE)
        .is_some_and(|usage| usage.contains(TypeUsage::DotProduct))
}

/// The properties without such products where kernels that have them don't compile.
pub(super) fn checked(mut properties: DeviceProperties, options: &WgpuCompilationOptions) -> DeviceProperties {
    let compile = options.supports_vulkan && options.vulkan.max_spirv_version >= (1, 6);
    if let Some(usage) = properties.features.types.storage.get_mut(&BYTE)
        && !compile
    {
        usage.remove(TypeUsage::DotProduct);
    }
    properties
}
