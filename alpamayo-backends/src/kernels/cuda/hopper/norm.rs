//! RMSNorm of a few rows in front of a product, by `norm.cu`.

use burn::tensor::DType;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::{Tensor, queue};
use crate::kernels::native::RmsNormRows;
use crate::kernels::tensors::{empty, extents};

/// Threads of a row.
const THREADS: usize = 256;

/// Most parts of a thread's columns.
const MAX_SLICES: usize = 8;

/// Rows up to which a launch costs more than the memory that it reads.
const MAX_ROWS: usize = 512;

/// The rows, normalised and rounded to bf16, or `None` where the kernel doesn't take them.
pub fn run(request: &RmsNormRows<'_, cubecl::cuda::CudaRuntime>) -> Option<Tensor> {
    let (rows, columns) = extents(request.x);
    let slices = columns.div_ceil(4 * THREADS);
    let takes = matches!(request.x.dtype, DType::F32 | DType::BF16)
        && request.dtype == DType::BF16
        && (1..=MAX_ROWS).contains(&rows)
        && columns.is_multiple_of(4)
        && slices <= MAX_SLICES;
    if !takes {
        return None;
    }
    let x = request.x;
    let function = kernel(slices, x.dtype == DType::BF16).function(&x.device)?;
    let out = empty(x, rows, columns, DType::BF16);
    queue(&x.client, &x.device, &[&x.handle], |queue| {
        let arguments = [
            queue.argument(&x.handle)?,
            queue.argument(&request.weight.handle)?,
            queue.argument(&out.handle)?,
            Argument::int(columns)?,
            Argument::Float(request.epsilon as f32),
        ];
        let grid = Grid {
            blocks: [rows, 1, 1],
            threads: THREADS,
        };
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(out)
}

fn kernel(slices: usize, bf16: bool) -> Kernel<3> {
    Kernel {
        source: include_str!("norm.cu"),
        entry: "rms_norm",
        definitions: [("THREADS", THREADS), ("SLICES", slices), ("X_BF16", usize::from(bf16))],
        shared: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn rows_of_any_length_compile() {
        for slices in 1..=MAX_SLICES {
            for bf16 in [false, true] {
                assert_compiles(&kernel(slices, bf16));
            }
        }
    }
}
