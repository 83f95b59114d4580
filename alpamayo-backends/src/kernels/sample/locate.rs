//! The token at which the running sum over ids passes a target.

use cubecl::prelude::*;

use super::problem::Vocabulary;
use super::wide::{PIECE, Pieces, Scan, SharedWides, UNITS, Wide, add, is_within, join, pieces, subtract};

/// The least token that is kept: by its weight, then by its id.
#[derive(CubeType, Clone, Copy)]
pub struct Bound {
    /// Where the row's weights begin.
    pub row_start: usize,
    /// The bits of its weight.
    pub cut: u32,
    pub id: u32,
}

#[cube]
impl Bound {
    /// A token's weight where it is counted, or else zero: where `ties`, tokens of the bound's weight, otherwise those not below it.
    fn weight(&self, weights: &Array<u32>, vocabulary: &Vocabulary, id: u32, #[comptime] ties: bool) -> Pieces {
        let bits = vocabulary.read(weights, self.row_start, id);
        let own = pieces(f32::reinterpret(bits));
        let mut counts = bits == self.cut;
        if comptime!(!ties) {
            counts = bits > self.cut || (bits == self.cut && id >= self.id);
        }
        Pieces {
            low: select(counts, own.low, 0u32.runtime()),
            high: select(counts, own.high, 0u32.runtime()),
        }
    }
}

/// A token.
#[derive(CubeType, Clone, Copy)]
pub struct Located {
    pub id: u32,
    /// The cube of the launches before whose token it is.
    pub cube: usize,
    /// The sum of that cube's tokens before it.
    pub before: Wide,
}

/// Finds the token at which the running sum over the counted tokens passes `target`. `own` is the sum of the cube with this unit's
/// number, `scan` the sums over all of them.
#[cube]
pub fn locate(
    weights: &Array<u32>,
    bound: &Bound,
    vocabulary: &Vocabulary,
    scan: Scan,
    own: Wide,
    target: Wide,
    sums: &mut SharedWides,
    #[comptime] ties: bool,
    #[comptime] rounds: usize,
) -> Located {
    let mut found = SharedMemory::<u32>::new(6usize);
    if UNIT_POS == 0 {
        #[unroll]
        for i in 0..6usize {
            found[i] = 0u32;
        }
    }
    sync_cube();
    if is_within(target, scan.before, own) {
        let rest = subtract(target, scan.before);
        found[0] = UNIT_POS;
        found[1] = rest.low;
        found[2] = rest.high;
    }
    sync_cube();
    let cube = found[0];
    let target = Wide {
        low: found[1],
        high: found[2],
    };
    let first = cube * comptime!((rounds * UNITS) as u32) + UNIT_POS * comptime!(rounds as u32);
    let mut sum_low = 0u32;
    let mut sum_high = 0u32;
    #[unroll]
    for i in 0..rounds {
        let own = bound.weight(weights, vocabulary, first + comptime!(i as u32), ties);
        sum_low += own.low;
        sum_high += own.high;
    }
    let run = join(sum_high, sum_low, PIECE);
    let scan = sums.scan(run);
    if is_within(target, scan.before, run) {
        let mut passed_low = scan.before.low;
        let mut passed_high = scan.before.high;
        // One unit's work, with weights that it has just read.
        for i in 0..rounds {
            let passed = Wide {
                low: passed_low,
                high: passed_high,
            };
            let own = bound.weight(weights, vocabulary, first + i as u32, ties);
            let own = join(own.high, own.low, PIECE);
            if is_within(target, passed, own) {
                found[3] = first + i as u32;
                found[4] = passed.low;
                found[5] = passed.high;
            }
            let passed = add(passed, own);
            passed_low = passed.low;
            passed_high = passed.high;
        }
    }
    sync_cube();
    Located {
        id: found[3],
        cube: cube as usize,
        before: Wide {
            low: found[4],
            high: found[5],
        },
    }
}
