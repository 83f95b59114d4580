//! The action tokens of every row, by `expert_attention.cu`.

use burn::tensor::DType;
use cubecl::server::Handle;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::tensor_map::bf16_map;
use super::tokens::{Attention, HEAD_DIM, Parameters, Prepared, inputs, output};
use super::{Queue, Tensor, queue};
use crate::kernels::apart;

/// Blocks of a cluster: with more, not all clusters fit on the chip at once.
const SPLITS: usize = 8;

/// Threads of a block.
const THREADS: usize = 384;

/// Most action tokens of a row.
const MAX_TOKENS: usize = 64;

/// Keys of one copy of the prompt.
const BOX_KEYS: usize = 40;

/// Rows of a clip that a cluster takes in turn, with the prompt read once.
const MAX_ROWS_PER_CLUSTER: usize = 2;

fn kernel(heads: usize, key_value_heads: usize, bf16: bool) -> Kernel<5> {
    const BUFFERS: usize = 4;
    Kernel {
        source: concat!(
            include_str!("hopper.cu"),
            include_str!("expert_parts.cu"),
            include_str!("expert_attention.cu")
        ),
        entry: "expert_attention",
        definitions: [
            ("HEADS", heads),
            ("KEY_VALUE_HEADS", key_value_heads),
            ("QKV_BF16", usize::from(bf16)),
            ("SPLITS", SPLITS),
            ("BUFFERS", BUFFERS),
        ],
        shared: 67_616 + 40_992 * BUFFERS,
    }
}

/// A prompt's keys or values as the copy engine reads them.
fn prompt_map(queue: &Queue<'_>, handle: &Handle, request: &Attention<'_>) -> Option<Argument> {
    let prompt = &request.prompt;
    let map = bf16_map(
        queue.address(handle)?,
        [
            HEAD_DIM,
            request.prompt_length,
            request.problem.key_value_heads,
            request.entries,
        ],
        [1, prompt.row_stride, prompt.head_stride, prompt.entry_stride],
        [HEAD_DIM / 2, BOX_KEYS, 1, 1],
    )?;
    Some(Argument::map(map))
}

/// The action tokens of every row, or `None` where the kernel doesn't take the problem.
pub(super) fn expert(prepare: &Prepared<'_>, request: &Attention<'_>) -> Option<Tensor> {
    let problem = request.problem;
    let (suffix, lengths) = (request.suffix.as_ref()?, request.lengths.as_ref()?);
    let strides = [suffix.entry_stride, suffix.head_stride, suffix.row_stride];
    let takes = matches!(prepare.qkv.dtype, DType::F32 | DType::BF16)
        && (1..=MAX_TOKENS).contains(&request.tokens)
        && problem.heads <= 8 * problem.key_value_heads
        && problem.heads.is_multiple_of(problem.key_value_heads)
        && request.prompt_length > 0
        && request.prompt.packed
        && suffix.packed
        && strides.iter().all(|stride| stride.is_multiple_of(4));
    if !takes {
        return None;
    }
    let rows_per_cluster = request.samples.min(MAX_ROWS_PER_CLUSTER);
    let parameters = Parameters::of(prepare)?;
    let kernel = kernel(problem.heads, problem.key_value_heads, prepare.qkv.dtype == DType::BF16);
    let function = kernel.function(&prepare.qkv.device)?;
    let out = apart::empty(&prepare.qkv.client, 2 * prepare.rows() * problem.heads * HEAD_DIM);
    let inputs = inputs(prepare, request);
    queue(&prepare.qkv.client, &prepare.qkv.device, &inputs, |queue| {
        let arguments = [
            prompt_map(queue, &request.prompt.key, request)?,
            prompt_map(queue, &request.prompt.value, request)?,
            queue.argument(&prepare.qkv.handle)?,
            queue.argument(&prepare.cos.handle)?,
            queue.argument(&prepare.sin.handle)?,
            Argument::long(parameters.angle_stride)?,
            queue.argument(&parameters.weights[0].handle)?,
            queue.argument(&parameters.weights[1].handle)?,
            Argument::Float(parameters.epsilon),
            queue.argument(&suffix.key)?,
            queue.argument(&suffix.value)?,
            queue.argument(lengths)?,
            Argument::long(strides[0])?,
            Argument::long(strides[1])?,
            Argument::long(strides[2])?,
            queue.argument(&out)?,
            Argument::int(request.samples)?,
            Argument::int(rows_per_cluster)?,
            Argument::int(request.tokens)?,
            Argument::int(request.prompt_length)?,
        ];
        let grid = Grid {
            blocks: [
                SPLITS,
                problem.key_value_heads,
                request.entries * request.samples.div_ceil(rows_per_cluster),
            ],
            threads: THREADS,
        };
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(output(prepare, out, DType::BF16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn groups_of_all_sizes_compile() {
        for (heads, key_value_heads) in [(16, 8), (8, 8), (6, 2), (8, 1)] {
            for bf16 in [false, true] {
                assert_compiles(&kernel(heads, key_value_heads, bf16));
            }
        }
    }
}
