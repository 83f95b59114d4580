//! The product of one row with a bf16 weight, by `row_product.cu`.

use burn::tensor::DType;
use cubecl::cuda::CudaRuntime;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::{Tensor, processors, queue};
use crate::kernels::linear::LibraryProduct;
use crate::kernels::product::{Element, Product};
use crate::kernels::tensors::{empty, extents};
use crate::layers::Activation;

/// Shared memory that a block takes for weights on their way: less than half of what there is, so that the next kernel's blocks
/// find room beside it.
const RING: usize = 96 << 10;

/// Most stages of the ring: short rows need no more.
const MAX_STAGES: usize = 16;

/// Columns that a thread multiplies at a time.
const COLUMNS: usize = 8;

/// Most columns that a thread keeps in registers.
const MAX_SLICES: usize = 4;

/// Fewest outputs that keep all processors busy.
pub(super) const MIN_OUTPUTS: usize = 1024;

/// How the work is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// Threads that multiply.
    threads: usize,
    /// Weight rows of a stage.
    group: usize,
    /// Parts of a thread's columns.
    slices: usize,
    /// Stages of the ring.
    stages: usize,
}

impl Cut {
    /// What measured best on an H100, or `None` for rows that are too long.
    fn choose(columns: usize) -> Option<Self> {
        let [threads, group] = if columns <= 8192 { [256, 4] } else { [512, 2] };
        let slices = columns.div_ceil(threads * COLUMNS);
        let stages = (RING / (2 * group * columns)).min(MAX_STAGES);
        (slices <= MAX_SLICES && stages > 1).then_some(Self {
            threads,
            group,
            slices,
            stages,
        })
    }
}

/// The product, or `None` where the kernel doesn't take it.
pub fn run(request: &LibraryProduct<'_, CudaRuntime>) -> Option<Tensor> {
    let product = request.product;
    let (tokens, columns) = extents(request.x);
    let outputs = product.out_features();
    let takes = tokens == 1
        && product.weight.element == Element::Bf16
        && [request.x.dtype, request.dtype] == [DType::F32; 2]
        && outputs >= MIN_OUTPUTS
        && columns.is_multiple_of(COLUMNS);
    if !takes {
        return None;
    }
    let cut = Cut::choose(columns)?;
    let kernel = kernel(cut, columns, product.gated, activation(product)?);
    let function = kernel.function(&request.x.device)?;
    let x = request.x;
    let out = empty(x, 1, outputs, DType::F32);
    let (norm, epsilon) = match &product.norm {
        Some((norm, epsilon)) => (Some(norm), *epsilon as f32),
        None => (None, 0.0),
    };
    let inputs: Vec<_> = [Some(x), product.residual.as_ref()]
        .into_iter()
        .flatten()
        .map(|input| &input.handle)
        .collect();
    queue(&x.client, &x.device, &inputs, |queue| {
        let arguments = [
            queue.argument(&x.handle)?,
            queue.argument(&product.weight.values.handle)?,
            Argument::Address(queue.optional(norm)?),
            Argument::Address(queue.optional(product.bias.as_ref())?),
            Argument::Address(queue.optional(product.residual.as_ref())?),
            queue.argument(&out.handle)?,
            queue.counters(1)?,
            Argument::int(outputs)?,
            Argument::int(columns)?,
            Argument::Float(epsilon),
        ];
        let grid = Grid {
            blocks: [processors(&x.client), 1, 1],
            threads: cut.threads + 32,
        };
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(out)
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

fn kernel(cut: Cut, columns: usize, gated: bool, activation: usize) -> Kernel<6> {
    Kernel {
        source: include_str!("row_product.cu"),
        entry: "row_product",
        definitions: [
            ("SLICES", cut.slices),
            ("GROUP", cut.group),
            ("STAGES", cut.stages),
            ("THREADS", cut.threads),
            ("GATED", usize::from(gated)),
            ("ACTIVATION", activation),
        ],
        shared: 2 * cut.stages * cut.group * columns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn every_cut_compiles() {
        for columns in [8, 520, 2048, 4096, 8192, 8256, 12_288] {
            let cut = Cut::choose(columns).unwrap();
            assert!(cut.slices * cut.threads * COLUMNS >= columns, "{columns}: {cut:?}");
            for (gated, activation) in [(true, 2), (false, 0), (false, 1)] {
                assert_compiles(&kernel(cut, columns, gated, activation));
            }
        }
        assert_eq!(Cut::choose(100_000), None);
    }
}
