//! Products of two to eight rows with a weight of few bits, by `quantized_rows_product.cu`.

use cubecl::cuda::CudaRuntime;

use super::Tensor;
use super::few_rows::{COLUMNS, Launch, activation, multiply, takes};
use super::module::Kernel;
use crate::kernels::linear::LibraryProduct;
use crate::kernels::tensors::extents;
use crate::layers::Quantization;

/// Threads that multiply.
const THREADS: usize = 512;

/// Columns that their registers have room for.
const PART_COLUMNS: usize = COLUMNS * THREADS;

/// Weight rows of a stage.
const ROWS: usize = 16;

/// Most stages of the ring.
const MAX_STAGES: usize = 6;

/// Shared memory that a block can have, beside a little of fixed size.
const SHARED: usize = 226 << 10;

/// How the work is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// Rows of `x`.
    tokens: usize,
    /// Blocks over the columns of the same outputs.
    parts: usize,
    /// Bytes of a weight row in the ring: of its part, where there are several.
    row_bytes: usize,
    /// Stages of the ring.
    stages: usize,
}

impl Cut {
    /// As many stages as fit, or `None` where two don't.
    fn choose(tokens: usize, columns: usize, quantization: Quantization) -> Option<Self> {
        let cut = |stages| Self {
            tokens,
            parts: columns.div_ceil(PART_COLUMNS),
            row_bytes: 4 * quantization.row_words(columns.min(PART_COLUMNS)),
            stages,
        };
        (2..=MAX_STAGES).rev().map(cut).find(|cut| cut.shared() <= SHARED)
    }

    fn shared(self) -> usize {
        let groups = THREADS / 32;
        let sums = 4 * ROWS * self.tokens * (groups + 4);
        self.stages * (ROWS * self.row_bytes + sums) + 256 * self.tokens * groups
    }

    /// Bytes by which blocks exchange the sums of so many outputs.
    fn exchange(self, outputs: usize) -> usize {
        128 * self.parts * (ROWS * self.tokens).div_ceil(32) * outputs.div_ceil(ROWS)
    }
}

/// The product, or `None` where the kernel doesn't take it.
pub fn run(request: &LibraryProduct<'_, CudaRuntime>) -> Option<Tensor> {
    let (tokens, columns) = extents(request.x);
    if !(2..=8).contains(&tokens) || !takes(request) {
        return None;
    }
    let product = request.product;
    let quantization = product.weight.element.quantization()?;
    let cut = Cut::choose(tokens, columns, quantization)?;
    if cut.parts > 1 && (product.gated || product.norm.is_some()) {
        return None;
    }
    let kernel = kernel(cut, columns, quantization, product.gated, activation(product)?);
    let exchange = if cut.parts > 1 {
        cut.exchange(product.out_features())
    } else {
        0
    };
    let shape = Launch {
        // One more group of 32 threads streams the weights.
        threads: THREADS + 32,
        parts: cut.parts,
        counter: false,
        exchange: Some(exchange),
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
            include_str!("quantized_rows_product.cu")
        ),
        entry: "quantized_rows_product",
        definitions: [
            ("BITS", quantization.bits()),
            ("TOKENS", cut.tokens),
            ("COLUMNS", columns),
            ("PARTS", cut.parts),
            ("STAGES", cut.stages),
            ("THREADS", THREADS),
            ("GATED", usize::from(gated)),
            ("ACTIVATION", activation),
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
        for quantization in [Quantization::Int8, Quantization::Int4] {
            for (tokens, columns, gated, activation) in [
                (2, 520, false, 1),
                (6, 4096, true, 2),
                (8, 4096, false, 0),
                (6, 12_288, false, 0),
                (8, 8256, false, 0),
            ] {
                let cut = Cut::choose(tokens, columns, quantization).unwrap();
                assert_compiles(&kernel(cut, columns, quantization, gated, activation));
            }
        }
    }
}
