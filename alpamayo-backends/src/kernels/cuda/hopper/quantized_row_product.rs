//! The product of one row with a weight of few bits, by `quantized_row_product.cu`.

use cubecl::cuda::CudaRuntime;

use super::Tensor;
use super::few_rows::{Launch, activation, multiply, takes};
use super::module::Kernel;
use crate::kernels::linear::LibraryProduct;
use crate::kernels::tensors::extents;
use crate::layers::Quantization;

/// Shared memory that a block takes for weights on their way: less than half of what there is, so that the next kernel's blocks
/// find room beside it.
const RING: usize = 108 << 10;

/// Threads of a block that multiply.
const THREADS: usize = 256;

/// Most stages of the ring: short rows need no more.
const MAX_STAGES: usize = 8;

/// Most columns that a row can have: a thread keeps its part of them in registers.
const MAX_COLUMNS: usize = 12_288;

/// How the work is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// Weight rows of a stage.
    rows: usize,
    /// Stages of the ring.
    stages: usize,
}

impl Cut {
    /// The largest stages of which two fit; those of a gated product are two pieces, which should not be small. `None` for rows that
    /// are too long.
    fn choose(columns: usize, gated: bool, quantization: Quantization) -> Option<Self> {
        let sizes: &[usize] = if gated { &[16, 8, 4] } else { &[8, 4] };
        let cuts = sizes.iter().map(|&rows| Self {
            rows,
            stages: (RING / (rows * row_bytes(columns, quantization))).min(MAX_STAGES),
        });
        cuts.into_iter().find(|cut| cut.stages > 1 && columns <= MAX_COLUMNS)
    }
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
    let cut = Cut::choose(columns, product.gated, quantization)?;
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

fn kernel(cut: Cut, columns: usize, quantization: Quantization, gated: bool, activation: usize) -> Kernel<7> {
    Kernel {
        source: include_str!("quantized_row_product.cu"),
        entry: "quantized_row_product",
        definitions: [
            ("BITS", quantization.bits()),
            ("COLUMNS", columns),
            ("ROWS", cut.rows),
            ("STAGES", cut.stages),
            ("THREADS", THREADS),
            ("GATED", usize::from(gated)),
            ("ACTIVATION", activation),
        ],
        shared: cut.stages * cut.rows * row_bytes(columns, quantization),
    }
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
                    let cut = Cut::choose(columns, gated, quantization).unwrap();
                    assert_compiles(&kernel(cut, columns, quantization, gated, activation));
                }
            }
            assert_eq!(Cut::choose(12_296, false, quantization), None);
        }
    }

    #[test]
    fn two_blocks_fit_a_processor() {
        for quantization in [Quantization::Int8, Quantization::Int4] {
            for columns in [2048, 4096, 12_288] {
                let cut = Cut::choose(columns, false, quantization).unwrap();
                assert!(
                    cut.stages * cut.rows * row_bytes(columns, quantization) <= RING,
                    "{cut:?}"
                );
            }
        }
    }
}
