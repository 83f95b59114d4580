//! The last launch, one cube per row: the token that a number points at.

use cubecl::prelude::*;

use super::keys::{SharedBest, fault, largest};
use super::locate::{Bound, locate};
use super::problem::{State, Vocabulary};
use super::wide::{SharedWides, Wide, add, share, subtract};

/// Writes the rows' best ids, and behind them what is wrong with their logits: `[2, rows]`.
#[cube(launch_unchecked)]
pub fn sample_best(state: &Array<u32>, out: &mut Array<u32>, rows: u32, repeats: u32, cubes: u32) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let mut shared = SharedBest::new();
    let best = State::of_row(row / repeats as usize, cubes).best(state, &mut shared);
    if UNIT_POS == 0 {
        out[row] = best.id;
        out[rows as usize + row] = fault(best.key);
    }
}

/// Writes the ids that `count` rows' uniform numbers draw, from the row `first` on, and what is wrong with their logits, as
/// [`sample_best`] does. `repeats` rows share the logits.
///
/// The numbers are scalars: a buffer of theirs would be copied between two launches.
#[cube(launch_unchecked)]
pub fn sample_pick(
    weights: &Array<u32>,
    state: &Array<u32>,
    uniforms: &Sequence<u32>,
    out: &mut Array<u32>,
    first: u32,
    rows: u32,
    repeats: u32,
    vocabulary: &Vocabulary,
    temperature: f32,
    #[comptime] count: usize,
    #[comptime] rounds: usize,
) {
    if CUBE_POS >= count {
        terminate!();
    }
    let mut uniform = 0u32;
    #[unroll]
    for i in 0..count {
        if CUBE_POS == i {
            uniform = *uniforms.index(comptime!(i));
        }
    }
    let row = first as usize + CUBE_POS;
    let clip = row / repeats as usize;
    let cube = UNIT_POS as usize;
    let row_state = State::of_row(clip, vocabulary.cubes);
    let mut shared_best = SharedBest::new();
    let best = row_state.best(state, &mut shared_best);
    let mut sums = SharedWides::new();

    // Of the tokens with the cut's weight, those before this one are dropped.
    let cut = row_state.leading(state, 2usize);
    let tie = row_state.sum(state, cube, 1usize);
    let bound = Bound {
        row_start: clip * vocabulary.tokens as usize,
        cut,
        id: 0u32.runtime(),
    };
    let scan = sums.scan(tie);
    let rest = row_state.rest(state, 2usize);
    let first = locate(weights, &bound, vocabulary, scan, tie, rest, &mut sums, true, rounds);
    let mut tie_low = 0u32;
    let mut tie_high = 0u32;
    if cube > first.cube {
        tie_low = tie.low;
        tie_high = tie.high;
    }
    if cube == first.cube {
        let behind = subtract(tie, first.before);
        tie_low = behind.low;
        tie_high = behind.high;
    }
    let tie = Wide {
        low: tie_low,
        high: tie_high,
    };

    let kept = add(row_state.sum(state, cube, 0usize), tie);
    let bound = Bound {
        row_start: bound.row_start,
        cut,
        id: first.id,
    };
    let scan = sums.scan(kept);
    let target = share(scan.total, uniform);
    let token = locate(
        weights, &bound, vocabulary, scan, kept, target, &mut sums, false, rounds,
    );
    if UNIT_POS == 0 {
        out[row] = token.id;
        out[rows as usize + row] = largest(best.key, temperature).fault;
    }
}
