//! The product of one row with a weight of few bits, by `quantized_row_product.cu`.

use cubecl::cuda::CudaRuntime;

use super::Tensor;
use super::few_rows::{Launch, activation, multiply, takes};
use super::module::Kernel;
use crate::kernels::linear::LibraryProduct;
use crate::kernels::tensors::extents;
use crate::layers::Quantization;

/// Shared memory that a block can take: half of what there is, so that the next kernel's blocks find room beside it.
const SHARED: usize = 113 << 10;

/// Threads of a block that multiply.
const THREADS: usize = 256;

/// Groups of 32 threads that multiply.
const WARPS: usize = THREADS / 32;

/// What a block takes whatever its ring: parts of x on their way to registers, and what aligns the ring.
const FIXED: usize = 3072 + 256;

/// Most stages of the ring: short rows need no more.
const MAX_STAGES: usize = 6;

/// Most columns that a row can have: a thread keeps its part of them in registers.
const MAX_COLUMNS: usize = 12_288;

/// Columns of a group, whose codes lie together.
const GROUP: usize = 128;

/// How the work is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// Weight rows that are multiplied together.
    rows: usize,
    /// Stages that their columns take.
    parts: usize,
    /// Stages of the ring.
    stages: usize,
}

impl Cut {
    /// What measured best on an H200: large stages, which are one piece of memory where two of them fit. `None` for rows that are too
    /// long.
    fn choose(columns: usize, quantization: Quantization) -> Option<Self> {
        let rows_and_parts = [(16, 1, 3), (8, 1, 2), (8, 2, 3), (8, 3, 3)];
        let cuts = rows_and_parts.into_iter().map(|(rows, parts, least)| {
            let stage = rows * (ring_row_bytes(columns, parts, quantization) + 4 * WARPS) + 32;
            let stages = ((SHARED - FIXED) / stage).min(MAX_STAGES);
            (stages >= least).then_some(Self { rows, parts, stages })
        });
        cuts.flatten().find(|_| columns <= MAX_COLUMNS)
    }
}

/// Bytes of a weight's row, or of a part of one, in the ring.
fn ring_row_bytes(columns: usize, parts: usize, quantization: Quantization) -> usize {
    if parts == 1 {
        return row_bytes(columns, quantization);
    }
    let slice = 2 * WARPS; // groups
    let groups = columns.div_ceil(GROUP).div_ceil(slice * parts) * slice;
    // Neighbouring rows lie in different banks.
    row_bytes(groups * GROUP, quantization).next_multiple_of(128) + 64
}

fn row_bytes(columns: usize, quantization: Quantization) -> usize {
    4 * quantization.row_words(columns)
}

/// The product, or `None` where the kernel doesn't take it.
pub fn run(request: &LibraryProduct<'_, CudaRuntime>) -> Option<Tensor> {
    let (rows, columns) = extents(request.x);
    if rows != 1 || !takes(request) {
        return None;
    }
    let product = request.product;
    let quantization = product.weight.element.quantization()?;
    let cut = Cut::choose(columns, quantization)?;
    let kernel = kernel(cut, columns, quantization, product.gated, activation(product)?);
    let shape = Launch {
        // One more group of 32 threads streams the weights.
        threads: THREADS + 32,
        parts: 1,
        counter: true,
        exchange: None,
        columns: false,
    };
    multiply(request, kernel.function(&request.x.device)?, shape)
}

fn kernel(cut: Cut, columns: usize, quantization: Quantization, gated: bool, activation: usize) -> Kernel<8> {
    Kernel {
        source: concat!(
            include_str!("activation.cu"),
            include_str!("weight_ring.cu"),
            include_str!("few_bits.cu"),
            include_str!("quantized_row_product.cu")
        ),
        entry: "quantized_row_product",
        definitions: [
            ("BITS", quantization.bits()),
            ("COLUMNS", columns),
            ("ROWS", cut.rows),
            ("PARTS", cut.parts),
            ("STAGES", cut.stages),
            ("THREADS", THREADS),
            ("GATED", usize::from(gated)),
            ("ACTIVATION", activation),
        ],
        shared: cut.stages * cut.rows * ring_row_bytes(columns, cut.parts, quantization),
    }
}

/// Shared memory of a block for rows of so many columns, of whichever few bits takes more.
#[cfg(test)]
pub(super) fn block_bytes(columns: usize) -> usize {
    let bytes = |quantization| {
        let cut = Cut::choose(columns, quantization)?;
        Some(kernel(cut, columns, quantization, false, 0).shared + FIXED)
    };
    let formats = [Quantization::Int8, Quantization::Int4];
    formats.into_iter().filter_map(bytes).max().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn every_cut_compiles() {
        for quantization in [Quantization::Int8, Quantization::Int4] {
            for columns in [8, 520, 2048, 4096, 8256, 12_288] {
                for (gated, activation) in [(true, 2), (false, 0), (false, 1)] {
                    let cut = Cut::choose(columns, quantization).unwrap();
                    assert_compiles(&kernel(cut, columns, quantization, gated, activation));
                }
            }
            assert_eq!(Cut::choose(12_296, quantization), None);
        }
    }

    #[test]
    fn two_blocks_fit_a_processor() {
        let cut =
            |columns, quantization| Cut::choose(columns, quantization).map(|cut| (cut.rows, cut.parts, cut.stages));
        assert_eq!(cut(4096, Quantization::Int8), Some((8, 1, 3)));
        assert_eq!(cut(4096, Quantization::Int4), Some((16, 1, 3)));
        assert_eq!(cut(12_288, Quantization::Int8), Some((8, 3, 3)));
        assert_eq!(cut(12_288, Quantization::Int4), Some((8, 1, 2)));
    }
}
