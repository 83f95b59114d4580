//! What all kernels of a draw know: the vocabulary, how it is cut up, and where cubes leave what they found.

use cubecl::prelude::*;

use super::keys::{Best, SharedBest};
use super::wide::{UNITS, Wide};

/// Most cubes of a row, so that bins' words can be added up in 32 bits.
pub const CUBES: usize = 64;
/// Most tokens of a cube per unit, so that a cube's pieces can be.
const ROUNDS: usize = 15;
/// Words of a cube's state: key and id of its best token; sums of its weights above the cut's and of those equal to it.
const CUBE_WORDS: usize = 6;
/// Words of a row's state: for each level the leading bits of the weights in the cut's bin, and what the limit leaves there.
const ROW_WORDS: usize = 9;

/// How a vocabulary is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plan {
    /// Tokens of a cube per unit.
    pub rounds: usize,
    /// Cubes of a row.
    pub cubes: usize,
}

impl Plan {
    /// As many cubes as can be; none where the vocabulary is empty or too large.
    pub fn new(vocabulary: usize) -> Option<Self> {
        let rounds = vocabulary.div_ceil(CUBES * UNITS);
        let cubes = vocabulary.div_ceil((rounds * UNITS).max(1));
        (1..=ROUNDS).contains(&rounds).then_some(Self { rounds, cubes })
    }

    /// Words of a row's state.
    pub fn words(&self) -> usize {
        self.cubes * CUBE_WORDS + ROW_WORDS
    }
}

/// The rows of logits, which ids can be drawn, and into how many cubes' tokens they are cut.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Vocabulary {
    /// Rows of logits.
    pub rows: u32,
    /// Tokens.
    pub tokens: u32,
    /// The first id that can't be drawn.
    pub masked_start: u32,
    /// One past the last id that can't be drawn.
    pub masked_end: u32,
    /// Cubes of a row.
    pub cubes: u32,
}

#[cube]
impl Vocabulary {
    /// Whether a token exists and can be drawn.
    pub fn allows(&self, id: u32) -> bool {
        id < self.tokens && (id < self.masked_start || id >= self.masked_end)
    }

    /// A token's word in a row that begins at `row_start`, 0 where there is no such token. Something is loaded all the same: loads that
    /// depend on a condition are waited for one by one.
    pub fn read(&self, words: &Array<u32>, row_start: usize, id: u32) -> u32 {
        let word = words[row_start + min(id, self.tokens - 1) as usize];
        select(id < self.tokens, word, 0u32.runtime())
    }
}

/// A row's part of the state.
#[derive(CubeType, Clone, Copy)]
pub struct State {
    base: usize,
    cubes: usize,
}

#[cube]
impl State {
    pub fn of_row(row: usize, cubes: u32) -> State {
        let cubes = cubes as usize;
        State {
            base: row * (cubes * CUBE_WORDS + ROW_WORDS),
            cubes,
        }
    }

    pub fn write_best(&self, state: &mut Array<u32>, cube: usize, best: Best) {
        let at = self.base + cube * CUBE_WORDS;
        state[at] = best.key;
        state[at + 1] = best.id;
    }

    /// The row's best token.
    pub fn best(&self, state: &Array<u32>, shared: &mut SharedBest) -> Best {
        let cube = UNIT_POS as usize;
        let mut key = 0u32;
        let mut id = 0u32;
        if cube < self.cubes {
            let at = self.base + cube * CUBE_WORDS;
            key = state[at];
            id = state[at + 1];
        }
        shared.reduce(Best { key, id })
    }

    /// Writes a cube's sums of what is above the cut (0) or equal to it (1).
    pub fn write_sum(&self, state: &mut Array<u32>, cube: usize, sum: Wide, #[comptime] which: usize) {
        let at = self.base + cube * CUBE_WORDS + comptime!(2 + 2 * which);
        state[at] = sum.low;
        state[at + 1] = sum.high;
    }

    /// Such a sum; 0 where there is no such cube.
    pub fn sum(&self, state: &Array<u32>, cube: usize, #[comptime] which: usize) -> Wide {
        let mut low = 0u32;
        let mut high = 0u32;
        if cube < self.cubes {
            let at = self.base + cube * CUBE_WORDS + comptime!(2 + 2 * which);
            low = state[at];
            high = state[at + 1];
        }
        Wide { low, high }
    }

    pub fn write_cut(&self, state: &mut Array<u32>, leading: u32, rest: Wide, #[comptime] level: usize) {
        let at = self.base + self.cubes * CUBE_WORDS + comptime!(3 * level);
        state[at] = leading;
        state[at + 1] = rest.low;
        state[at + 2] = rest.high;
    }

    /// The leading bits of the weights in a level's bin that holds the cut.
    pub fn leading(&self, state: &Array<u32>, #[comptime] level: usize) -> u32 {
        state[self.base + self.cubes * CUBE_WORDS + comptime!(3 * level)]
    }

    /// What the limit leaves in that bin.
    pub fn rest(&self, state: &Array<u32>, #[comptime] level: usize) -> Wide {
        let at = self.base + self.cubes * CUBE_WORDS + comptime!(3 * level + 1);
        Wide {
            low: state[at],
            high: state[at + 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::sample::wide::PIECE;

    proptest! {
        #[test]
        fn a_plan_has_room_for_all_tokens_and_sums_for_their_pieces(vocabulary in 1..=CUBES * ROUNDS * UNITS) {
            let plan = Plan::new(vocabulary).unwrap();
            let chunk = plan.rounds * UNITS;
            prop_assert!(plan.cubes * chunk >= vocabulary && (plan.cubes - 1) * chunk < vocabulary);
            prop_assert!(plan.cubes <= CUBES);
            prop_assert!((chunk as u64) << PIECE <= u64::from(u32::MAX));
        }
    }

    #[test]
    fn what_is_too_large_or_empty_has_no_plan() {
        assert_eq!(Plan::new(0), None);
        assert_eq!(Plan::new(CUBES * ROUNDS * UNITS + 1), None);
        assert_eq!(Plan::new(155_697), Some(Plan { rounds: 10, cubes: 61 }));
    }
}
