//! What a cube multiplies at once.

use super::packed::code_vectors;
use crate::kernels::cooperative::{PLANE, SIDE};
use crate::kernels::product::Element;

/// A block of results and the columns that pass through shared memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Tokens of the block.
    pub tokens: usize,
    /// Weight rows of the block.
    pub rows: usize,
    /// Planes over the tokens, and over the weight rows.
    pub planes: [usize; 2],
    /// Columns per step, a multiple of 16; 64 or 128 where the weight is of few bits.
    pub depth: usize,
    /// Stages of each operand, one or two.
    pub stages: usize,
    /// Steps whose operands are on their way in registers.
    pub ahead: usize,
    /// Most cubes that share a block's columns.
    pub parts: usize,
}

impl Tile {
    /// Shared memory that the chosen tiles need at most, in bytes: what every such device has.
    pub const MOST_SHARED_BYTES: usize = 48 << 10;

    /// Tokens up to which weights of few bits are read as they are: beyond, widening them once is cheaper than for every block of tokens.
    pub const FEW: usize = 64;

    /// What measured best through Vulkan for so many tokens and a weight of so many rows. Weights of few bits are read in the same tiles.
    pub fn choose(tokens: usize, rows: usize) -> Self {
        if tokens <= 64 && rows >= Self::MANY_ROWS {
            return Self::SMALL;
        }
        if tokens <= 64 {
            // So few rows per cube that there is one for every processor, without parts to be summed by a launch of its own.
            return Self {
                rows: 32,
                planes: [4, 2],
                depth: 128,
                ahead: 2,
                ..Self::SMALL
            };
        }
        // One deep stage hides more of the memory's latency than two of half its depth.
        Self {
            tokens: 128,
            rows: 128,
            planes: [2, 4],
            depth: 64,
            stages: 1,
            ahead: 1,
            parts: usize::MAX,
        }
    }

    /// As [`Self::choose`] where a launch sums parts anyway: there are some even for a weight of few rows.
    pub fn choose_summed(tokens: usize, rows: usize) -> Self {
        if tokens > 64 {
            return Self::choose(tokens, rows);
        }
        Self {
            parts: 8,
            ..Self::SMALL
        }
    }

    /// Weight rows from which on tiles of [`Self::SMALL`] are enough for a device.
    const MANY_ROWS: usize = 8192;

    /// For up to 64 tokens, two cubes per processor, one of which waits for memory while the other multiplies. One cube of twice the rows
    /// with two steps on their way is as fast alone, but in a layer, whose kernels push each other's instructions out of the caches, the
    /// smaller kernel is.
    const SMALL: Self = Self {
        tokens: 64,
        rows: 64,
        planes: [2, 2],
        depth: 64,
        stages: 1,
        ahead: 1,
        parts: usize::MAX,
    };

    /// Whether a plane can hold gates and what they belong to side by side.
    pub(super) fn takes_gate(self, rows: usize) -> bool {
        self.matrices()[1].is_multiple_of(2) && rows.is_multiple_of(2)
    }

    /// Units per cube.
    pub fn units(self) -> usize {
        PLANE * self.planes[0] * self.planes[1]
    }

    /// Shared memory of a cube, in bytes.
    pub fn shared_bytes(self) -> usize {
        16 * self.stages * (self.tokens + self.rows) * self.stride()
            + 4 * self.planes[0] * self.planes[1] * SIDE * self.result_stride()
    }

    /// f32 from a row of a plane's results to the next: neighbours read different banks where there is room.
    pub(super) fn result_stride(self) -> usize {
        if self.stages == 1 { SIDE + 8 } else { SIDE }
    }

    /// Matrices of a plane over its tokens, and over its weight rows.
    pub(super) fn matrices(self) -> [usize; 2] {
        [self.tokens / self.planes[0] / SIDE, self.rows / self.planes[1] / SIDE]
    }

    /// Chunks of eight elements per staged row.
    pub(super) fn width(self) -> usize {
        self.depth / 8
    }

    /// Chunks from a staged row to the next: odd, so that rows fall on different banks.
    pub(super) fn stride(self) -> usize {
        self.width() + 1
    }

    /// Chunks that a unit stages of so many rows per step.
    pub(super) fn fetches(self, rows: usize) -> usize {
        rows * self.width() / self.units()
    }

    /// Pieces of few bits, sixteen columns each, of a staged row.
    pub(super) fn row_pieces(self) -> usize {
        self.width() / 2
    }

    /// Pieces of few bits that a unit stages per step.
    pub(super) fn pieces(self) -> usize {
        self.row_pieces() * self.rows / self.units()
    }

    /// Chunks that a unit holds of both operands per step, of `x` alone where the weight is of few bits.
    pub(super) fn slot(self, element: Element) -> usize {
        let of_weight = match element.quantization() {
            Some(_) => 0,
            None => self.fetches(self.rows),
        };
        self.fetches(self.tokens) + of_weight
    }

    /// Vectors that a unit holds of a weight of few bits per step; one that is never used for other weights, since nothing is no array.
    pub(super) fn packed_slot(self, element: Element) -> usize {
        match element.quantization() {
            Some(quantization) => self.pieces() * (code_vectors(quantization) + 1),
            None => 1,
        }
    }

    /// Columns of a round of steps, after which registers take up what they did before.
    pub(super) fn round(self) -> usize {
        self.ahead * self.depth
    }

    /// How many cubes share a block's columns of `(tokens, rows, columns)` so that a few blocks keep the device busy, each with
    /// four steps at least, in whole rounds.
    pub(super) fn parts(self, (tokens, rows, columns): (usize, usize, usize), processors: usize) -> usize {
        let blocks = rows.div_ceil(self.rows) * tokens.div_ceil(self.tokens);
        let rounds = columns.div_ceil(self.round());
        if 2 * blocks > processors {
            return 1;
        }
        let wanted = (2 * processors / blocks)
            .min(self.ahead * rounds / 4)
            .clamp(1, self.parts);
        // As many as have work once every part has whole rounds.
        rounds.div_ceil(rounds.div_ceil(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chosen tiles of a product, alone and where a launch sums parts anyway.
    fn chosen(tokens: usize, rows: usize) -> [Tile; 2] {
        [Tile::choose(tokens, rows), Tile::choose_summed(tokens, rows)]
    }

    #[test]
    fn chosen_tiles_fit_and_are_whole() {
        for tokens in [1, 64, 65, 384, 3006, 11_520] {
            for tile in [2048, 16_512].into_iter().flat_map(|rows| chosen(tokens, rows)) {
                assert!(tile.shared_bytes() <= Tile::MOST_SHARED_BYTES, "{tile:?}");
                assert_eq!(tile.tokens, tile.planes[0] * tile.matrices()[0] * SIDE);
                assert_eq!(tile.rows, tile.planes[1] * tile.matrices()[1] * SIDE);
                assert!(tile.units().is_multiple_of(tile.width()), "{tile:?}");
                assert!(
                    [64, 128].contains(&tile.depth),
                    "{tile:?}: groups of 128 columns are steps or pairs of them"
                );
                assert_eq!(tile.pieces() * tile.units(), tile.row_pieces() * tile.rows, "{tile:?}");
                for rows in [tile.tokens, tile.rows] {
                    assert_eq!(tile.fetches(rows) * tile.units(), rows * tile.width(), "{tile:?}");
                }
            }
        }
    }

    #[test]
    fn every_part_of_the_columns_has_work() {
        for (tokens, rows, columns) in [(64, 2048, 8256), (64, 4096, 2048), (64, 16, 72), (3006, 4096, 4096)] {
            for tile in chosen(tokens, rows) {
                let parts = tile.parts((tokens, rows, columns), 132);
                let rounds = columns.div_ceil(tile.round());
                assert!((parts - 1) * rounds.div_ceil(parts) < rounds, "{tile:?}: {parts} parts");
            }
        }
    }
}
