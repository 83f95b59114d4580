//! Languages, and the GPUs they are for.

use std::sync::Mutex;

use alpamayo_backends::layers::CacheFormat;
use cubecl::Compiler;
use cubecl::ir::features::{AtomicUsage, Features, Plane, TypeUsage};
use cubecl::ir::{
    AddressType, ContiguousElements, DeviceProperties, ElemType, FloatKind, HardwareProperties, IntKind, MatrixLayout,
    MemoryDeviceProperties, MmaProperties, StorageType, Type, UIntKind,
};
use cubecl::profile::TimingMethod;
use cubecl_cpp::cuda::CudaDialect;
use cubecl_cpp::cuda::arch::CudaArchitecture;
use cubecl_cpp::cuda::mma::{CudaWmmaCompiler, contiguous_elements_cuda};
use cubecl_cpp::metal::MslDialect;
use cubecl_cpp::metal::arch::MetalArchitecture;
use cubecl_cpp::shared::{CppCompiler, register_mma_features, register_wmma_features};
use cubecl_cpp::{DialectWmmaCompiler, register_supported_types};

use super::{Kernels, Target};

/// Metal's own language, on an M1: what wgpu and CubeCL tell of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metal;

static METAL: Mutex<Kernels> = Mutex::new(Kernels::new());

impl Target for Metal {
    type Compiler = CppCompiler<MslDialect>;

    const NUMBER: u16 = 0;

    fn compiler() -> Self::Compiler {
        Default::default()
    }

    fn properties() -> DeviceProperties {
        let mut properties = DeviceProperties::new(
            Features::default(),
            // A binding ends below 4 GiB.
            MemoryDeviceProperties {
                max_page_size: u64::from(u32::MAX) & !3,
                alignment: 256,
            },
            hardware(32 << 10, 1024),
            TimingMethod::System,
        );
        properties.register_address_type(AddressType::U32);
        properties.register_address_type(AddressType::U64);
        for kind in [UIntKind::U8, UIntKind::U16, UIntKind::U32, UIntKind::U64] {
            properties.register_type_usage(ElemType::UInt(kind), TypeUsage::all());
        }
        for kind in [IntKind::I8, IntKind::I16, IntKind::I32, IntKind::I64] {
            properties.register_type_usage(ElemType::Int(kind), TypeUsage::all());
        }
        for element in [
            ElemType::Float(FloatKind::F16),
            ElemType::Float(FloatKind::F32),
            ElemType::Bool,
        ] {
            properties.register_type_usage(element, TypeUsage::all());
        }
        register_atomics(&mut properties);
        let shapes = MslDialect::supported_wmma_combinations(&MetalArchitecture::Metal3);
        register_wmma_features(shapes, &mut properties);
        properties.features.alignment = true;
        properties.features.plane.insert(Plane::Ops);
        properties.features.plane.insert(Plane::Sync);
        properties
    }

    fn shared_bytes(kernel: &<Self::Compiler as Compiler>::Representation) -> usize {
        kernel.shared_memory_size()
    }

    fn kept() -> &'static Mutex<Kernels> {
        &METAL
    }
}

/// WebGPU's language, with the least that WebGPU promises of units and shared memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wgsl;

static WGSL: Mutex<Kernels> = Mutex::new(Kernels::new());

impl Target for Wgsl {
    type Compiler = cubecl::wgpu::WgslCompiler;

    const NUMBER: u16 = 1;

    fn compiler() -> Self::Compiler {
        Default::default()
    }

    fn properties() -> DeviceProperties {
        let mut properties = DeviceProperties::new(
            Features::default(),
            MemoryDeviceProperties {
                max_page_size: (1 << 31) - 4,
                alignment: 256,
            },
            HardwareProperties {
                plane_size_min: 8,
                plane_size_max: 128,
                ..hardware(16 << 10, 256)
            },
            TimingMethod::System,
        );
        properties.register_address_type(AddressType::U32);
        for element in [
            ElemType::UInt(UIntKind::U32),
            ElemType::Int(IntKind::I32),
            ElemType::Float(FloatKind::F32),
            ElemType::Bool,
        ] {
            properties.register_type_usage(element, TypeUsage::all());
        }
        register_atomics(&mut properties);
        properties
    }

    fn shared_bytes(kernel: &<Self::Compiler as Compiler>::Representation) -> usize {
        kernel.shared_memory_bytes()
    }

    fn kept() -> &'static Mutex<Kernels> {
        &WGSL
    }
}

/// CUDA's C++, on an H100 without NVIDIA's libraries of products.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cuda;

static CUDA: Mutex<Kernels> = Mutex::new(Kernels::new());

impl Target for Cuda {
    type Compiler = CppCompiler<CudaDialect<CudaWmmaCompiler>>;

    const NUMBER: u16 = 2;

    fn compiler() -> Self::Compiler {
        Default::default()
    }

    fn properties() -> DeviceProperties {
        let mut properties = DeviceProperties::new(
            Features::default(),
            MemoryDeviceProperties {
                max_page_size: 20 << 30,
                alignment: 512,
            },
            HardwareProperties {
                max_bindings: 1024,
                max_cube_count: (i32::MAX as u32, 65_535, 65_535),
                num_streaming_multiprocessors: Some(132),
                num_tensor_cores: Some(4),
                min_tensor_cores_dim: Some(8),
                max_vector_size: 8,
                ..hardware(227 << 10, 1024)
            },
            TimingMethod::System,
        );
        register_supported_types(&mut properties);
        let architecture = CudaArchitecture { version: 90 };
        let wmma = CudaWmmaCompiler::supported_wmma_combinations(&architecture);
        register_wmma_features(wmma, &mut properties);
        let mma = CudaWmmaCompiler::supported_mma_combinations(&architecture);
        register_mma_features(mma, &mut properties);
        for kind in [FloatKind::F16, FloatKind::BF16] {
            let matmul = &mut properties.features.matmul;
            matmul.ldmatrix.insert(ElemType::Float(kind).into());
            matmul.stmatrix.insert(ElemType::Float(kind).into());
        }
        properties.features.copy_async = true;
        properties.features.plane.insert(Plane::Ops);
        properties.features.plane.insert(Plane::Sync);
        properties
    }

    fn matrix_units() -> MmaProperties {
        MmaProperties {
            register_size_bits: 32,
            const_plane_size: 32,
            register_layout_a: MatrixLayout::RowMajor,
            register_layout_b: MatrixLayout::ColMajor,
            register_layout_acc: MatrixLayout::RowMajor,
            register_duplication_a: 1,
            register_duplication_b: 1,
            register_duplication_acc: 1,
            contiguous_elements: ContiguousElements::new(contiguous_elements_cuda),
        }
    }

    fn cache_format() -> CacheFormat {
        CacheFormat::Bf16
    }

    fn shared_bytes(kernel: &<Self::Compiler as Compiler>::Representation) -> usize {
        kernel.shared_memory_size()
    }

    fn kept() -> &'static Mutex<Kernels> {
        &CUDA
    }
}

/// Words that units add to together.
fn register_atomics(properties: &mut DeviceProperties) {
    properties.register_atomic_type_usage(
        Type::new(StorageType::Atomic(ElemType::UInt(UIntKind::U32))),
        AtomicUsage::LoadStore | AtomicUsage::Add,
    );
}

/// What Metal and WebGPU have in common.
fn hardware(shared_bytes: usize, units: u32) -> HardwareProperties {
    HardwareProperties {
        load_width: 128,
        plane_size_min: 32,
        plane_size_max: 32,
        // wgpu takes one of Metal's 31 for the lengths of buffers, CubeCL one.
        max_bindings: 29,
        max_shared_memory_size: shared_bytes,
        max_cube_count: (65_535, 65_535, 65_535),
        max_units_per_cube: units,
        max_cube_dim: (units, units, 64),
        num_streaming_multiprocessors: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        num_cpu_cores: None,
        max_vector_size: 4,
    }
}
