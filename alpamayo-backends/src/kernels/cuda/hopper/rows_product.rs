//! Products of two to eight rows with a bf16 weight, by `rows_product.cu`.

use cubecl::cuda::CudaRuntime;

use super::Tensor;
use super::few_rows::{Launch, activation, multiply, takes_bf16};
use super::module::Kernel;
use crate::kernels::linear::LibraryProduct;
use crate::kernels::tensors::extents;

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
    let (rows, product) = (extents(request.x).0, request.product);
    if !(2..=8).contains(&rows) || !takes_bf16(request) {
        return None;
    }
    let kernel = kernel(
        Cut::choose(product.weight.rows, rows)?,
        product.gated,
        activation(product)?,
    );
    let shape = Launch {
        threads: THREADS,
        parts: 1,
        counter: false,
        exchange: None,
        columns: true,
    };
    multiply(request, kernel.function(&request.x.device)?, shape)
}

fn kernel(cut: Cut, gated: bool, activation: usize) -> Kernel<8> {
    Kernel {
        source: concat!(
            include_str!("activation.cu"),
            include_str!("bf16_products.cu"),
            include_str!("rows_product.cu")
        ),
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
