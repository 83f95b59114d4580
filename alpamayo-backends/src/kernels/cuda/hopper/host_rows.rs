//! Rows of a table that lies in the host's memory, read by the device itself, by `host_rows.cu`.

use burn::tensor::DType;
use burn_cuda::CudaDevice;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::{Tensor, queue};
use crate::kernels::cuda::mapped;
use crate::kernels::tensors::empty;
use crate::layers::HostRows;

/// Threads of a row: at 4096 columns each has one load under way, and the bus is waited for once.
const THREADS: usize = 512;

/// Columns that a thread reads at a time.
const COLUMNS: usize = 8;

/// The rows `(rows, columns)` of bf16 where the kernel reads them, or `None` where it can't.
pub fn store_host_rows(device: &CudaDevice, bytes: &[u8], shape: (usize, usize)) -> Option<HostRows> {
    kernel().function(device).filter(|_| takes(shape))?;
    mapped::host_rows(device.index, bytes, shape)
}

/// The rows of the ids, widened to f32, or `None` where the kernel doesn't take them.
pub fn run(ids: &Tensor, table: &HostRows) -> Option<Tensor> {
    let (rows, columns) = table.shape();
    let count = ids.meta.num_elements();
    if ids.dtype != DType::I32 || count == 0 || !takes(table.shape()) {
        return None;
    }
    let address = table.address(ids.device.index)?;
    let function = kernel().function(&ids.device)?;
    let out = empty(ids, count, columns, DType::F32);
    queue(&ids.client, &ids.device, &[&ids.handle], |queue| {
        let arguments = [
            queue.argument(&ids.handle)?,
            Argument::Address(address),
            queue.argument(&out.handle)?,
            Argument::int(rows)?,
            Argument::int(columns)?,
        ];
        let grid = Grid {
            blocks: [count, 1, 1],
            threads: THREADS,
        };
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told; the table is freed once
        // the device has done what it was told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(out)
}

fn takes((rows, columns): (usize, usize)) -> bool {
    let fits = |extent: usize| i32::try_from(extent).is_ok();
    fits(rows) && fits(columns) && columns.is_multiple_of(COLUMNS)
}

fn kernel() -> Kernel<1> {
    Kernel {
        source: include_str!("host_rows.cu"),
        entry: "host_rows",
        definitions: [("THREADS", THREADS)],
        shared: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn the_lookup_compiles() {
        assert_compiles(&kernel());
    }

    #[test]
    fn rows_are_read_by_whole_vectors() {
        assert!(takes((155_697, 4096)));
        assert!(takes((1, 8)));
        assert!(!takes((155_697, 4092)));
        assert!(!takes((1 << 31, 8)));
    }
}
