//! Large products by cuBLASLt, where its library is found at run time.
//!
//! bf16 products accumulate in f32; f32 products are true f32, without the tensor cores' shortened mantissa. Weights of few bits are
//! widened to bf16 a part at a time, each part's product being some columns of the result.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::{LazyLock, Mutex};

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use burn_cuda::CudaDevice;
use cubecl::cuda::CudaRuntime;
use cudarc::cublaslt::result as lt;
use cudarc::cublaslt::sys;
use cudarc::driver::DriverError;
use cudarc::driver::sys::{CUresult, CUstream};

use super::buffers::{self, is_of_this_stream};
use super::client_stream::client_stream;
use super::stream::OrderedStream;
use crate::instances::cuda_libraries;
use crate::kernels::linear::LibraryProduct;
use crate::kernels::product::{Element, StoredWeight};
use crate::kernels::quantized;
use crate::kernels::round::round;
use crate::kernels::tensors::{empty, extents};
use crate::layers::Activation;

/// Scratch memory that an algorithm may ask for: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// Streams of CubeCL's that have scratch memory of their own; a thread has one. Products of further ones wait for each other.
const MAX_WORKSPACES: usize = 4;

/// The library's enumerator for a transposed operand, which the bindings of its light interface leave out.
const CUBLAS_OP_T: i32 = 1;

type Tensor = CubeTensor<CudaRuntime>;

/// One library per device, `None` where it can't be had.
static LIBRARIES: LazyLock<Mutex<HashMap<usize, Option<Library>>>> = LazyLock::new(Mutex::default);

/// Whether the library is there for this device.
pub fn is_present(device: &CudaDevice) -> bool {
    with_library(device, |_| Some(())).is_some()
}

/// The product, or `None` where the library is missing or refuses it.
pub fn product(product: &LibraryProduct<'_, CudaRuntime>) -> Option<Tensor> {
    let weight = &product.product.weight;
    let expected = match weight.element {
        Element::Bf16 => DType::BF16,
        Element::F32 => DType::F32,
        Element::Int8 | Element::Int4 if quantized::widens(weight) => DType::BF16,
        Element::F16 | Element::Int8 | Element::Int4 => return None,
    };
    if product.x.dtype != expected {
        return None;
    }
    // On the client's own thread addresses are had without waiting for it, one after another.
    let client = &product.x.client;
    let run = || with_library(&product.x.device, |library| library.product(product));
    client.exclusive(run).ok().flatten()
}

fn with_library<T>(device: &CudaDevice, run: impl FnOnce(&mut Library) -> Option<T>) -> Option<T> {
    let mut libraries = LIBRARIES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let library = libraries
        .entry(device.index)
        .or_insert_with(|| Library::open(device.index));
    library.as_mut().and_then(run)
}

/// What an algorithm is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    tokens: usize,
    columns: usize,
    /// Rows of the weight, and what a row of the result has: more where the weight is a part of one.
    rows: usize,
    width: usize,
    input: Type,
    output: Type,
    bias: bool,
    gelu: bool,
    accumulate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Type {
    F32,
    Bf16,
}

impl Type {
    fn new(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    fn data(self) -> sys::cudaDataType {
        match self {
            Self::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Self::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        }
    }
}

/// Descriptors and algorithm of a shape, kept as long as the process runs.
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
    /// Factor of what is added to the product.
    beta: f32,
}

struct Library {
    handle: sys::cublasLtHandle_t,
    stream: OrderedStream,
    workspaces: Workspaces,
    plans: HashMap<Shape, Option<Plan>>,
}

// SAFETY: cuBLASLt's handle and descriptors may be used from any thread; the mutex lets one at a time.
unsafe impl Send for Library {}

impl Library {
    fn open(index: usize) -> Option<Self> {
        if !cuda_libraries::has_products() {
            return None;
        }
        let stream = OrderedStream::new(i32::try_from(index).ok()?)?;
        let ordered = stream.allocate(WORKSPACE).ok()?;
        Some(Self {
            handle: lt::create_handle().ok()?,
            stream,
            workspaces: Workspaces {
                ordered,
                own: Vec::new(),
            },
            plans: HashMap::new(),
        })
    }

    fn product(&mut self, request: &LibraryProduct<'_, CudaRuntime>) -> Option<Tensor> {
        let product = request.product;
        let shape = Shape::of(request)?;
        // All are there before anything is written: a part that the library refuses would leave a residual half added.
        let parts = parts(&product.weight);
        for part in &parts {
            self.plan(shape.part(part.len()))?;
        }
        // A bias is read in the type of the result.
        let bias = match (&product.bias, shape.output) {
            (Some(bias), Type::Bf16) => Some(round(bias)),
            (bias, _) => bias.clone(),
        };
        let out = match &product.residual {
            Some(residual) if residual.can_mut() => residual.clone(),
            _ => empty(request.x, shape.tokens, shape.width, request.dtype),
        };
        let target = address(&out)?;
        let whole = Addresses {
            weight: 0,
            x: address(request.x)?,
            residual: product.residual.as_ref().map_or(Some(target), address)?,
            out: target,
            bias: match &bias {
                Some(bias) => Some(address(bias)?),
                None => None,
            },
        };
        let packed = product.weight.element.quantization().is_some();
        let buffer = packed.then(|| quantized::part_buffer(&product.weight));
        for part in parts {
            let first = part.start;
            let plan = shape.part(part.len());
            let weight = match &buffer {
                Some(buffer) => quantized::widened_rows(&product.weight, part, buffer).values,
                None => product.weight.values.clone(),
            };
            let weight = address(&weight)?;
            let addresses = whole.at_row(first, shape.output.size());
            self.enqueue(request, &plan, Addresses { weight, ..addresses })?;
        }
        Some(out)
    }

    /// How a shape is computed, where the library can.
    fn plan(&mut self, shape: Shape) -> Option<&Plan> {
        let handle = self.handle;
        let plan = self.plans.entry(shape);
        plan.or_insert_with(|| Plan::new(handle, &shape)).as_ref()
    }

    /// Enqueues a product of a shape that [has a plan](Self::plan), behind everything that its operands wait for.
    fn enqueue(
        &mut self,
        request: &LibraryProduct<'_, CudaRuntime>,
        shape: &Shape,
        addresses: Addresses,
    ) -> Option<()> {
        let handle = self.handle;
        let plan = self.plans.get(shape)?.as_ref()?;
        let enqueue = |stream, workspace| {
            // SAFETY: the buffers have the extents of the plan, stay alive until the work is enqueued, and CubeCL reuses
            // them only for work that comes after it.
            unsafe {
                plan.enqueue(handle, addresses, workspace, stream)
                    .map_err(|_| DriverError(CUresult::CUDA_ERROR_UNKNOWN))
            }
        };
        let inputs = [Some(request.x), request.product.residual.as_ref()];
        let stream = (inputs
            .into_iter()
            .flatten()
            .all(|input| is_of_this_stream(&input.handle)))
        .then(|| client_stream(&request.x.client, &request.x.device))
        .flatten();
        match stream.and_then(|stream| Some((stream, self.workspaces.of(stream, &self.stream)?))) {
            Some((stream, workspace)) => enqueue(stream, workspace),
            None => (self.stream).ordered(|stream| enqueue(stream, self.workspaces.ordered)),
        }
        .ok()
    }
}

/// The weight's rows that are multiplied at once, in order: all of them, or parts of few bits that are widened one after another.
fn parts(weight: &StoredWeight<CudaRuntime>) -> Vec<Range<usize>> {
    match weight.element.quantization() {
        Some(_) => quantized::parts(weight.rows, weight.columns).collect(),
        None => std::iter::once(0..weight.rows).collect(),
    }
}

impl Shape {
    /// That of the whole product, or `None` where the library has no such.
    fn of(request: &LibraryProduct<'_, CudaRuntime>) -> Option<Self> {
        let product = request.product;
        let (tokens, columns) = extents(request.x);
        Some(Self {
            tokens,
            columns,
            rows: product.weight.rows,
            width: product.weight.rows,
            input: Type::new(request.x.dtype)?,
            output: Type::new(request.dtype)?,
            bias: product.bias.is_some(),
            gelu: match product.activation {
                Activation::None => false,
                Activation::GeluTanh => true,
                _ => return None,
            },
            accumulate: product.residual.is_some(),
        })
    }

    /// That of so many of the weight's rows.
    fn part(self, rows: usize) -> Self {
        Self { rows, ..self }
    }
}

/// Where a product's operands are.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    weight: u64,
    x: u64,
    residual: u64,
    out: u64,
    bias: Option<u64>,
}

impl Addresses {
    /// Those of the result's columns from the weight's row `first` on, elements of so many bytes.
    fn at_row(self, first: usize, size: usize) -> Self {
        let offset = (first * size) as u64;
        Self {
            residual: self.residual + offset,
            out: self.out + offset,
            bias: self.bias.map(|bias| bias + offset),
            ..self
        }
    }
}

/// Scratch memory: products on different streams may run at the same time and can't share it.
struct Workspaces {
    /// That of products that wait for everything before them.
    ordered: u64,
    /// Those of CubeCL's streams.
    own: Vec<(CUstream, u64)>,
}

impl Workspaces {
    /// That of a stream, where it has one or can have one.
    fn of(&mut self, stream: CUstream, context: &OrderedStream) -> Option<u64> {
        if let Some((_, workspace)) = self.own.iter().find(|(known, _)| *known == stream) {
            return Some(*workspace);
        }
        if self.own.len() == MAX_WORKSPACES {
            return None;
        }
        let workspace = context.allocate(WORKSPACE).ok()?;
        self.own.push((stream, workspace));
        Some(workspace)
    }
}

fn address(tensor: &Tensor) -> Option<u64> {
    buffers::address(&tensor.client, &tensor.handle)
}

impl Plan {
    /// In the library's column-major view: `out [rows, tokens] = weight [columns, rows]ᵀ · x [columns, tokens]`, where `out` has
    /// columns of `width` elements.
    fn new(handle: sys::cublasLtHandle_t, shape: &Shape) -> Option<Self> {
        let Shape {
            tokens, columns, rows, ..
        } = *shape;
        let layout = |kind: Type, height: usize, width: usize, stride: usize| {
            lt::create_matrix_layout(kind.data(), height as u64, width as u64, stride as i64).ok()
        };
        let mut plan = Self {
            operation: operation(shape)?,
            weight: layout(shape.input, columns, rows, columns)?,
            x: layout(shape.input, columns, tokens, columns)?,
            out: layout(shape.output, rows, tokens, shape.width)?,
            // SAFETY: plain old data, filled in below before it is used.
            algorithm: unsafe { std::mem::zeroed() },
            workspace: 0,
            beta: if shape.accumulate { 1.0 } else { 0.0 },
        };
        let preference = lt::create_matmul_pref().ok()?;
        // SAFETY: all descriptors were just made.
        let found = unsafe {
            lt::set_matmul_pref_attribute(
                preference,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&WORKSPACE as *const usize).cast(),
                size_of::<usize>(),
            )
            .ok()?;
            let found = lt::get_matmul_algo_heuristic(
                handle,
                plan.operation,
                plan.weight,
                plan.x,
                plan.out,
                plan.out,
                preference,
            );
            let _ = lt::destroy_matmul_pref(preference);
            found.ok()?
        };
        plan.algorithm = found.algo;
        plan.workspace = found.workspaceSize;
        Some(plan)
    }

    /// # Safety
    /// The addresses are of buffers with the plan's extents.
    unsafe fn enqueue(
        &self,
        handle: sys::cublasLtHandle_t,
        addresses: Addresses,
        workspace: u64,
        stream: CUstream,
    ) -> Result<(), lt::CublasError> {
        let alpha = 1.0_f32;
        // SAFETY: as above; the bias pointer is read before the next product sets it.
        unsafe {
            if let Some(bias) = addresses.bias {
                set(
                    self.operation,
                    sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                    &bias,
                )?;
            }
            lt::matmul(
                handle,
                self.operation,
                (&alpha as *const f32).cast(),
                (&self.beta as *const f32).cast(),
                addresses.weight as *const c_void,
                self.weight,
                addresses.x as *const c_void,
                self.x,
                addresses.residual as *const c_void,
                self.out,
                addresses.out as *mut c_void,
                self.out,
                &self.algorithm,
                workspace as *mut c_void,
                self.workspace,
                stream.cast(),
            )
        }
    }
}

/// The operation of a shape: the weight transposed, sums in f32, and what follows.
fn operation(shape: &Shape) -> Option<sys::cublasLtMatmulDesc_t> {
    use sys::cublasLtEpilogue_t::{
        CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS,
    };
    use sys::cublasLtMatmulDescAttributes_t::{
        CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_TRANSA,
    };
    let operation = lt::create_matmul_desc(
        sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        sys::cudaDataType_t::CUDA_R_32F,
    )
    .ok()?;
    let epilogue = match (shape.bias, shape.gelu) {
        (false, false) => CUBLASLT_EPILOGUE_DEFAULT,
        (true, false) => CUBLASLT_EPILOGUE_BIAS,
        (false, true) => CUBLASLT_EPILOGUE_GELU,
        (true, true) => CUBLASLT_EPILOGUE_GELU_BIAS,
    };
    // SAFETY: the descriptor was just made; the attributes have their documented types.
    unsafe {
        set(operation, CUBLASLT_MATMUL_DESC_TRANSA, &CUBLAS_OP_T).ok()?;
        set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue).ok()?;
        if shape.bias {
            set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &shape.output.data()).ok()?;
        }
    }
    Some(operation)
}

/// # Safety
/// The descriptor is alive and the value of the attribute's type.
unsafe fn set<T>(
    operation: sys::cublasLtMatmulDesc_t,
    attribute: sys::cublasLtMatmulDescAttributes_t,
    value: &T,
) -> Result<(), lt::CublasError> {
    // SAFETY: by the caller's promise.
    unsafe { lt::set_matmul_desc_attribute(operation, attribute, (value as *const T).cast(), size_of::<T>()) }
}
