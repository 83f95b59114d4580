//! The product of one row with a bf16 weight, by `row_product.cu`.

use cubecl::cuda::CudaRuntime;

use super::Tensor;
use super::few_rows::{COLUMNS, Launch, activation, multiply, takes_bf16};
use super::module::Kernel;
use crate::kernels::linear::LibraryProduct;
use crate::kernels::tensors::extents;

/// Shared memory that a block takes for weights on their way: less than half of what there is, so that the next kernel's blocks
/// find room beside it.
const RING: usize = 96 << 10;

/// Most stages of the ring: short rows need no more.
const MAX_STAGES: usize = 16;

/// Most columns that a thread keeps in registers.
const MAX_SLICES: usize = 4;

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
    /// What measured best on an H100, or `None` for rows that are too long. Of four rows more columns are less than two stages.
    fn choose(columns: usize) -> Option<Self> {
        let [threads, group] = if columns <= RING / 16 { [256, 4] } else { [512, 2] };
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
    let (rows, columns) = extents(request.x);
    if rows != 1 || !takes_bf16(request) {
        return None;
    }
    let (product, cut) = (request.product, Cut::choose(columns)?);
    let kernel = kernel(cut, columns, product.gated, activation(product)?);
    let shape = Launch {
        // One more group of 32 threads streams the weights.
        threads: cut.threads + 32,
        parts: 1,
        counter: true,
        exchange: None,
        columns: true,
    };
    multiply(request, kernel.function(&request.x.device)?, shape)
}

fn kernel(cut: Cut, columns: usize, gated: bool, activation: usize) -> Kernel<6> {
    Kernel {
        source: concat!(
            include_str!("activation.cu"),
            include_str!("weight_ring.cu"),
            include_str!("row_product.cu")
        ),
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
