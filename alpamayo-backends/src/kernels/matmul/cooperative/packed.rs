//! Weights of few bits, widened to bf16 on their way into shared memory, to the same values as
//! [`widened`](crate::kernels::quantized::widened) gives them.
//!
//! A step is a group of 128 columns, or half of one. A *piece* of a row is eight columns of each of two neighbouring blocks: as many as
//! two words of codes are, or two times two, and one word of steps.

use cubecl::prelude::*;

use super::kernel::{Block, weight_row};
use super::tile::Tile;
use crate::kernels::bits;
use crate::kernels::cooperative::{Chunk, Elements, store_chunk};
use crate::kernels::quantized::{Quad, run, step};
use crate::layers::Quantization;

/// Two words, which a weight of few bits is read by.
pub(super) const WORDS: usize = 2;

/// Chunks of eight columns in a group.
const GROUP: usize = Quantization::GROUP / 8;

/// Vectors from eight columns' codes to the next chunk's: those of a group's two halves.
const HALVES: usize = Quantization::BLOCKS / WORDS;

/// Vectors of codes of a piece.
pub(super) fn code_vectors(quantization: Quantization) -> usize {
    quantization.chunks() / Quantization::BLOCKS
}

/// The piece's eight columns of each block, and which half of the group its blocks are.
#[cube]
fn place_in_group(piece: usize, begin: usize, #[comptime] tile: Tile) -> (usize, usize) {
    if comptime!(tile.width() == GROUP) {
        (piece / HALVES, piece % HALVES)
    } else {
        (piece, begin / comptime!(tile.width()) % HALVES)
    }
}

/// Asks for this unit's pieces of the step at chunk `begin` of eight columns, of the row's last group past it: codes, then steps.
#[cube]
pub(super) fn fetch<P: Size>(
    weight: &Array<Vector<u32, P>>,
    packed: &mut Array<Vector<u32, P>>,
    block: &Block,
    begin: usize,
    #[comptime] slot: usize,
    #[comptime] gated: bool,
    #[comptime] tile: Tile,
    #[comptime] quantization: Quantization,
) {
    let codes = comptime!(code_vectors(quantization));
    let groups = block.chunks.div_ceil(GROUP);
    let steps = groups * comptime!(quantization.chunks() * HALVES);
    // Rows end on eight words.
    let row_vectors = (steps + groups).div_ceil(4usize) * 4;
    let group = (begin / GROUP).min(groups - 1);
    #[unroll]
    for piece in 0..tile.pieces() {
        let at = UNIT_POS as usize + comptime!(piece * tile.units());
        let start = weight_row(at / comptime!(tile.row_pieces()), block, gated, tile) * row_vectors;
        let (eight, half) = place_in_group(at % comptime!(tile.row_pieces()), begin, tile);
        let first = comptime!((slot * tile.pieces() + piece) * (codes + 1));
        #[unroll]
        for vector in 0..codes {
            let chunk = (group * codes + vector) * Quantization::BLOCKS + eight;
            packed[comptime!(first + vector)] = weight[start + chunk * HALVES + half];
        }
        packed[comptime!(first + codes)] = weight[start + steps + group];
    }
}

/// Puts the pieces of a slot, those of the step at chunk `begin`, into the stage at chunk `of_weight`.
#[cube]
pub(super) fn store<P: Size>(
    stage: &mut SharedMemory<Elements>,
    packed: &Array<Vector<u32, P>>,
    begin: usize,
    of_weight: usize,
    #[comptime] slot: usize,
    #[comptime] tile: Tile,
    #[comptime] quantization: Quantization,
) {
    let codes = comptime!(code_vectors(quantization));
    #[unroll]
    for piece in 0..tile.pieces() {
        let at = UNIT_POS as usize + comptime!(piece * tile.units());
        let first = comptime!((slot * tile.pieces() + piece) * (codes + 1));
        let (eight, half) = place_in_group(at % comptime!(tile.row_pieces()), begin, tile);
        let row = of_weight + at / comptime!(tile.row_pieces()) * comptime!(tile.stride());
        let first_block = if comptime!(tile.width() == GROUP) {
            half * WORDS
        } else {
            0usize.runtime()
        };
        let steps = packed[comptime!(first + codes)];
        let steps = select(half == 1, steps[1], steps[0]);
        #[unroll]
        for block in 0..WORDS {
            let step = Quad::new(step((steps >> comptime!(16 * block as u32)) & 0xffffu32));
            let low = run(packed[first][block], 0usize, quantization) * step;
            // The second four columns are in the same word, or in the other vector.
            let high = run(
                packed[comptime!(first + codes - 1)][block],
                comptime!(quantization.runs() - 1),
                quantization,
            ) * step;
            let mut chunk = Chunk::empty();
            chunk[0] = bits::pack(low[0], low[1]);
            chunk[1] = bits::pack(low[2], low[3]);
            chunk[2] = bits::pack(high[0], high[1]);
            chunk[3] = bits::pack(high[2], high[3]);
            store_chunk(stage, row + (first_block + block) * 4 + eight, chunk);
        }
    }
}
