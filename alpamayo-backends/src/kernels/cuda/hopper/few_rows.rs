//! What the products of one row and of two to eight rows have in common.

use burn::tensor::DType;
use cubecl::cuda::CudaRuntime;

use super::launch::{Argument, Grid, launch};
use super::module::Function;
use super::{Tensor, processors, queue};
use crate::kernels::linear::LibraryProduct;
use crate::kernels::product::{Element, Product};
use crate::kernels::tensors::{empty, extents};
use crate::layers::Activation;

/// Columns that a thread multiplies at a time.
pub(super) const COLUMNS: usize = 8;

/// Fewest outputs that keep all processors busy.
const MIN_OUTPUTS: usize = 1024;

/// Whether the product is one of f32 rows, long and wide enough.
pub(super) fn takes(request: &LibraryProduct<'_, CudaRuntime>) -> bool {
    let product = request.product;
    [request.x.dtype, request.dtype] == [DType::F32; 2]
        && product.out_features() >= MIN_OUTPUTS
        && product.weight.columns.is_multiple_of(COLUMNS)
}

/// Whether the product is one that a kernel [takes], with a bf16 weight.
pub(super) fn takes_bf16(request: &LibraryProduct<'_, CudaRuntime>) -> bool {
    request.product.weight.element == Element::Bf16 && takes(request)
}

/// How a kernel is launched, where they differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Launch {
    /// Threads of a block.
    pub threads: usize,
    /// Blocks that share the columns of the same outputs.
    pub parts: usize,
    /// Whether it has a counter that blocks draw their work from.
    pub counter: bool,
    /// Bytes by which blocks exchange sums, where it has a parameter for them.
    pub exchange: Option<usize>,
    /// Whether it is told the columns, for which others are compiled.
    pub columns: bool,
}

/// The kernels' number of an activation, `None` where they lack it. A gated product's is that of its gate.
pub(super) fn activation(product: &Product<CudaRuntime>) -> Option<usize> {
    match (product.gated, product.activation) {
        (true, _) | (false, Activation::Silu) => Some(2),
        (false, Activation::None) => Some(0),
        (false, Activation::GeluTanh) => Some(1),
        (false, Activation::GeluErf) => None,
    }
}

/// Launches a product by one block per processor.
pub(super) fn multiply(request: &LibraryProduct<'_, CudaRuntime>, function: Function, shape: Launch) -> Option<Tensor> {
    let (x, product) = (request.x, request.product);
    let (rows, columns) = extents(x);
    let outputs = product.out_features();
    let out = empty(x, rows, outputs, DType::F32);
    let (norm, epsilon) = match &product.norm {
        Some((norm, epsilon)) => (Some(norm), *epsilon as f32),
        None => (None, 0.0),
    };
    let inputs = [Some(x), product.residual.as_ref()].into_iter().flatten();
    let inputs: Vec<_> = inputs.map(|input| &input.handle).collect();
    queue(&x.client, &x.device, &inputs, |queue| {
        let mut arguments = vec![
            queue.argument(&x.handle)?,
            queue.argument(&product.weight.values.handle)?,
            queue.optional(norm)?,
            queue.optional(product.bias.as_ref())?,
            queue.optional(product.residual.as_ref())?,
            queue.argument(&out.handle)?,
        ];
        if shape.counter {
            arguments.push(queue.counters(1)?);
        }
        if let Some(bytes) = shape.exchange {
            arguments.push(queue.exchange(bytes)?);
        }
        arguments.push(Argument::int(outputs)?);
        if shape.columns {
            arguments.push(Argument::int(columns)?);
        }
        arguments.push(Argument::Float(epsilon));
        let grid = Grid {
            blocks: [processors(&x.client) / shape.parts * shape.parts, 1, 1],
            threads: shape.threads,
        };
        queue.precede(product.weight.element.quantization().is_some());
        // SAFETY: the arguments are those that the sources document, over buffers of the extents they are told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(out)
}
