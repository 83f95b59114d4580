//! The last launch, one cube per row: the token that a number points at.

use cubecl::prelude::*;

use super::keys::{SharedBest, fault, largest};
use super::locate::{Bound, locate};
use super::problem::{State, Vocabulary};
use super::wide::{SharedWides, Wide, add, share, subtract};

/// Writes each row's best id and what is wrong with its logits, `[rows, 2]`.
#[cube(launch_unchecked)]
pub fn sample_best(state: &Array<u32>, out: &mut Array<u32>, rows: u32, repeats: u32, cubes: u32) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let mut shared = SharedBest::new();
    let best = State::of_row(row / repeats as usize, cubes).best(state, &mut shared);
    if UNIT_POS == 0 {
        out[2 * row] = best.id;
        out[2 * row + 1] = fault(best.key);
    }
}

/// Writes the id that each row's uniform number draws, and what is wrong with its logits, `[rows, 2]`. `repeats` rows share the logits.
#[cube(launch_unchecked)]
pub fn sample_pick(
    weights: &Array<u32>,
    state: &Array<u32>,
    uniforms: &Array<u32>,
    out: &mut Array<u32>,
    rows: u32,
    repeats: u32,
    vocabulary: &Vocabulary,
    temperature: f32,
    #[comptime] rounds: usize,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
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
    let target = share(scan.total, uniforms[row]);
    let token = locate(
        weights, &bound, vocabulary, scan, kept, target, &mut sums, false, rounds,
    );
    if UNIT_POS == 0 {
        out[2 * row] = token.id;
        out[2 * row + 1] = largest(best.key, temperature).fault;
    }
}
