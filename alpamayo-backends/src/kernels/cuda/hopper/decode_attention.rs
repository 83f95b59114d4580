//! One decoded token per row, by `decode_attention.cu`.

use burn::tensor::DType;
use cubecl::server::Handle;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::tokens::{Attention, HEAD_DIM, Parameters, Prepared, inputs, output};
use super::{Queue, Tensor, queue};
use crate::kernels::apart;
use crate::kernels::attention::buffers::Buffers;

/// Blocks that share the keys of a head.
const SPLITS: usize = 16;

/// Threads of a block.
const THREADS: usize = 512;

/// Rows of a clip that a launch takes.
const MAX_SAMPLES: usize = 6;

/// Query heads of a key-value head.
pub(super) const GROUP: usize = 4;

/// Tiles of 16 keys of the prompt that a block holds at once.
const PROMPT_TILES: usize = 12;

/// Positions that a cache has room for, where its rows, heads and entries follow each other without gaps.
fn capacity(buffers: &Buffers, heads: usize) -> Option<usize> {
    let contiguous = buffers.row_stride == HEAD_DIM
        && buffers.head_stride.is_multiple_of(HEAD_DIM)
        && buffers.entry_stride == heads * buffers.head_stride;
    contiguous.then_some(buffers.head_stride / HEAD_DIM)
}

fn kernel(samples: usize) -> Kernel<3> {
    Kernel {
        source: concat!(
            include_str!("bf16_products.cu"),
            include_str!("decode_parts.cu"),
            include_str!("decode_attention.cu")
        ),
        entry: "decode_attention",
        definitions: [("ROWS", samples), ("SPLITS", SPLITS), ("PROMPT_TILES", PROMPT_TILES)],
        shared: (PROMPT_TILES + samples) * 8192 + samples * (PROMPT_TILES * 384 + 4352) + 32,
    }
}

/// Whether both kernels of decoded tokens take the problem's kind.
pub(super) fn takes(prepare: &Prepared<'_>, request: &Attention<'_>) -> bool {
    let packed = request.prompt.packed && request.suffix.as_ref().is_some_and(|suffix| suffix.packed);
    prepare.qkv.dtype == DType::F32
        && (1..=MAX_SAMPLES).contains(&request.samples)
        && request.tokens == 1
        && request.problem.heads == GROUP * request.problem.key_value_heads
        && packed
}

/// What both kernels read, and the suffix that they append to.
pub(super) struct Operands<'a> {
    prepare: &'a Prepared<'a>,
    request: &'a Attention<'a>,
    parameters: Parameters<'a>,
    suffix: &'a Buffers,
    start: &'a Handle,
    /// Positions that the prompt's cache and the suffix have room for.
    pub(super) capacities: [usize; 2],
}

impl<'a> Operands<'a> {
    /// `None` where a kernel can't read them.
    pub(super) fn of(prepare: &'a Prepared<'_>, request: &'a Attention<'_>) -> Option<Self> {
        let key_value_heads = request.problem.key_value_heads;
        let (suffix, start) = (request.suffix.as_ref()?, prepare.start.as_ref()?);
        Some(Self {
            parameters: Parameters::of(prepare)?,
            capacities: [
                capacity(&request.prompt, key_value_heads)?,
                capacity(suffix, key_value_heads)?,
            ],
            prepare,
            request,
            suffix,
            start,
        })
    }

    /// The first arguments of both kernels.
    pub(super) fn arguments(&self, queue: &Queue<'_>) -> Option<Vec<Argument>> {
        let (prepare, prompt) = (self.prepare, &self.request.prompt);
        Some(vec![
            queue.argument(&prepare.qkv.handle)?,
            queue.argument(&self.parameters.weights[0].handle)?,
            queue.argument(&self.parameters.weights[1].handle)?,
            Argument::Float(self.parameters.epsilon),
            queue.argument(&prepare.cos.handle)?,
            queue.argument(&prepare.sin.handle)?,
            Argument::int(self.parameters.angle_stride)?,
            queue.argument(&prompt.key)?,
            queue.argument(&prompt.value)?,
            Argument::int(self.capacities[0])?,
            Argument::int(self.request.prompt_length)?,
            queue.argument(&self.suffix.key)?,
            queue.argument(&self.suffix.value)?,
            Argument::int(self.capacities[1])?,
            queue.argument(self.start)?,
        ])
    }
}

/// One token per row, or `None` where the kernel doesn't take the problem.
pub(super) fn decode(prepare: &Prepared<'_>, request: &Attention<'_>) -> Option<Tensor> {
    if !takes(prepare, request) {
        return None;
    }
    let operands = Operands::of(prepare, request)?;
    let function = kernel(request.samples).function(&prepare.qkv.device)?;
    let (heads, key_value_heads) = (request.problem.heads, request.problem.key_value_heads);
    let client = &prepare.qkv.client;
    let parts = request.entries * key_value_heads * SPLITS * request.samples * GROUP;
    let workspace = apart::empty(client, 4 * parts * (HEAD_DIM + 2));
    let out = apart::empty(client, 4 * prepare.rows() * heads * HEAD_DIM);
    let inputs = inputs(prepare, request);
    queue(client, &prepare.qkv.device, &inputs, |queue| {
        let mut arguments = operands.arguments(queue)?;
        arguments.extend([
            queue.argument(&out)?,
            queue.argument(&workspace)?,
            queue.counters(request.entries * key_value_heads)?,
        ]);
        let grid = Grid {
            blocks: [SPLITS, key_value_heads, request.entries],
            threads: THREADS,
        };
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(output(prepare, out, DType::F32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn any_number_of_samples_compiles() {
        (1..=MAX_SAMPLES).for_each(|samples| assert_compiles(&kernel(samples)));
    }
}
