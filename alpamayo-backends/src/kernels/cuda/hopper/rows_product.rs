//! Products of two to eight rows with a bf16 weight, by `rows_product.cu`.

use burn::tensor::DType;
use cubecl::cuda::CudaRuntime;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::row_product::{MIN_OUTPUTS, activation};
use super::{Tensor, processors, queue};
use crate::kernels::linear::LibraryProduct;
use crate::kernels::product::Element;
use crate::kernels::tensors::{empty, extents};

/// Threads of a block.
const THREADS: usize = 512;

/// Shared memory that a block can have.
const SHARED: usize = 227 << 10;

/// How the work is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    rows: usize,
    /// Weight rows of a stage.
    tile: usize,
    /// Columns of a stage.
    chunk: usize,
    /// Stages of the ring.
    stages: usize,
}

impl Cut {
    /// What measured best on an H100 of what fits so many rows.
    fn choose(weight_rows: usize, rows: usize) -> Option<Self> {
        let cuts = if weight_rows > 4096 {
            [[48, 512, 3], [48, 256, 5]]
        } else {
            [[32, 512, 4], [32, 256, 8]]
        };
        let cuts = cuts.map(|[tile, chunk, stages]| Self {
            rows,
            tile,
            chunk,
            stages,
        });
        cuts.into_iter().find(|cut| cut.shared() <= SHARED)
    }

    fn shared(self) -> usize {
        let stage = self.tile * (2 * self.chunk + 16) + (self.rows + 1) * (4 * self.chunk + 32);
        self.stages * stage + THREADS * (self.tile + 5)
    }
}

/// The product, or `None` where the kernel doesn't take it.
pub fn run(request: &LibraryProduct<'_, CudaRuntime>) -> Option<Tensor> {
    let product = request.product;
    let (rows, columns) = extents(request.x);
    let outputs = product.out_features();
    let takes = (2..=8).contains(&rows)
        && product.weight.element == Element::Bf16
        && [request.x.dtype, request.dtype] == [DType::F32; 2]
        && outputs >= MIN_OUTPUTS
        && columns.is_multiple_of(8);
    if !takes {
        return None;
    }
    let cut = Cut::choose(product.weight.rows, rows)?;
    let x = request.x;
    let kernel = kernel(cut, product.gated, activation(product)?);
    let function = kernel.function(&x.device)?;
    let out = empty(x, rows, outputs, DType::F32);
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
            Argument::int(outputs)?,
            Argument::int(columns)?,
            Argument::Float(epsilon),
        ];
        let grid = Grid {
            blocks: [processors(&x.client), 1, 1],
            threads: THREADS,
        };
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(out)
}

fn kernel(cut: Cut, gated: bool, activation: usize) -> Kernel<8> {
    Kernel {
        source: include_str!("rows_product.cu"),
        entry: "rows_product",
        definitions: [
            ("ROWS", cut.rows),
            ("TILE", cut.tile),
            ("CHUNK", cut.chunk),
            ("STAGES", cut.stages),
            ("THREADS", THREADS),
            ("GATED", usize::from(gated)),
            ("ACTIVATION", activation),
            // Dependents are launched at once.
            ("LEAD", 10_000),
        ],
        shared: cut.shared(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn every_cut_fits_and_compiles() {
        for rows in 2..=8 {
            for (weight_rows, gated, activation) in [(24_576, true, 2), (4096, false, 0)] {
                let cut = Cut::choose(weight_rows, rows).unwrap();
                assert_compiles(&kernel(cut, gated, activation));
            }
        }
    }
}
