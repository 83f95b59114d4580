//! One decoded token of each clip, by `decode_row_attention.cu`.

use burn::tensor::DType;

use super::decode_attention::{GROUP, Operands, takes};
use super::launch::{Grid, launch};
use super::module::Kernel;
use super::tokens::{Attention, HEAD_DIM, Prepared, inputs, output};
use super::{Tensor, processors, queue};
use crate::kernels::apart;

/// Blocks that share the keys of a head.
const SPLITS: usize = 16;

/// Threads of a block.
const THREADS: usize = 512;

/// Keys of a tile.
const TILE: usize = 16;

/// Tiles of the prompt that a block holds.
const PROMPT_TILES: usize = 12;

/// Bytes of shared memory that a block needs.
const SHARED: usize = (PROMPT_TILES + 1) * 8192 + 3792;

/// Bytes of which no two blocks share a processor: half of its 228 KB, but for the 1 KB that each block costs, and a little more. A
/// block of a product of few bits still fits beside one.
const MORE_THAN_HALF: usize = (113 << 10) + 128;

/// How blocks may share a processor. On an H200 a layer with 4 bits takes 40.6 µs if no two of these do and 42.0 otherwise, with 8 bits
/// 60.8 and 62.1; with bf16, whose products leave more room, 100 and 98.2.
fn kernel(beside_few_bits: bool) -> Kernel<2> {
    Kernel {
        source: concat!(
            include_str!("bf16_products.cu"),
            include_str!("decode_parts.cu"),
            include_str!("decode_row_attention.cu")
        ),
        entry: "decode_row_attention",
        definitions: [("SPLITS", SPLITS), ("PROMPT_TILES", PROMPT_TILES)],
        shared: if beside_few_bits { MORE_THAN_HALF } else { SHARED },
    }
}

/// One token of one sample of each clip, or `None` where the kernel doesn't take the problem.
pub(super) fn decode_row(prepare: &Prepared<'_>, request: &Attention<'_>) -> Option<Tensor> {
    let (heads, key_value_heads) = (request.problem.heads, request.problem.key_value_heads);
    let client = &prepare.qkv.client;
    let operands = Operands::of(prepare, request)?;
    // Blocks wait for each other, so that all of them have to be there at once.
    let fits = request.samples == 1
        && SPLITS * key_value_heads * request.entries <= processors(client)
        && request.prompt_length <= SPLITS * PROMPT_TILES * TILE
        && operands.capacities[1] <= SPLITS * TILE;
    if !(fits && takes(prepare, request)) {
        return None;
    }
    let functions = [
        kernel(false).function(&prepare.qkv.device)?,
        kernel(true).function(&prepare.qkv.device)?,
    ];
    let out = apart::empty(client, 4 * prepare.rows() * heads * HEAD_DIM);
    let inputs = inputs(prepare, request);
    queue(client, &prepare.qkv.device, &inputs, |queue| {
        let mut arguments = operands.arguments(queue)?;
        arguments.extend([
            queue.argument(&out)?,
            queue.exchange(exchanged_bytes(request.entries * key_value_heads))?,
        ]);
        let grid = Grid {
            blocks: [SPLITS, key_value_heads, request.entries],
            threads: THREADS,
        };
        let function = functions[usize::from(queue.follows_few_bits())];
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(output(prepare, out, DType::F32))
}

/// What the blocks of so many heads exchange: every block a part of all columns of the group and, for each block, its statistics.
fn exchanged_bytes(heads: usize) -> usize {
    4 * heads * SPLITS * (GROUP * HEAD_DIM + 2 * SPLITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;
    use crate::kernels::cuda::hopper::quantized_row_product;

    #[test]
    fn either_size_compiles() {
        for beside_few_bits in [false, true] {
            assert_compiles(&kernel(beside_few_bits));
        }
    }

    #[test]
    fn one_fits_a_processor_beside_a_product_of_few_bits_and_two_do_not() {
        let processor = 228 << 10;
        let own = MORE_THAN_HALF + 1024;
        let products = [4096, 12_288].map(quantized_row_product::block_bytes);
        assert!(2 * own > processor);
        assert!(products.into_iter().all(|product| own + product + 1024 <= processor));
        assert!(SHARED <= MORE_THAN_HALF && 2 * (SHARED + 1024) <= processor);
    }
}
