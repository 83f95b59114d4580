//! The launches of many cubes per row: the maximum, the weights, the cut, and sums of what lies above it.

use cubecl::prelude::*;

use super::histogram::{BINS, Cut, SharedHistogram, bin_of, find_cut, leading, leading_of};
use super::keys::{Best, SharedBest, largest, order_key, weight};
use super::problem::{State, Vocabulary};
use super::wide::{PIECE, SharedWides, UNITS, Wide, join, pieces};

/// Leaves every cube's best token in the state, and empties the histograms.
#[cube(launch_unchecked)]
pub fn sample_maxima(
    logits: &Array<u32>,
    state: &mut Array<u32>,
    first_level: &mut Array<u32>,
    second_level: &mut Array<u32>,
    third_level: &mut Array<u32>,
    vocabulary: &Vocabulary,
    #[comptime] rounds: usize,
) {
    let cubes = vocabulary.cubes as usize;
    let (row, cube) = (CUBE_POS / cubes, CUBE_POS % cubes);
    if row >= vocabulary.rows as usize {
        terminate!();
    }
    clear_rows(first_level, row, cube, cubes, comptime!(2 * BINS[0]));
    clear_rows(second_level, row, cube, cubes, comptime!(2 * BINS[1]));
    clear_rows(third_level, row, cube, cubes, comptime!(2 * BINS[2]));
    let row_start = row * vocabulary.tokens as usize;
    let first = (cube * comptime!(rounds * UNITS)) as u32 + UNIT_POS;
    let mut keys = Array::<u32>::new(rounds);
    #[unroll]
    for i in 0..rounds {
        let id = first + comptime!((i * UNITS) as u32);
        let bits = vocabulary.read(logits, row_start, id);
        keys[i] = select(vocabulary.allows(id), order_key(bits), 0u32.runtime());
    }
    let mut best = 0u32;
    let mut best_id = 0u32;
    #[unroll]
    for i in 0..rounds {
        if keys[i] > best {
            best = keys[i];
            best_id = first + comptime!((i * UNITS) as u32);
        }
    }
    let mut shared = SharedBest::new();
    let best = shared.reduce(Best { key: best, id: best_id });
    if UNIT_POS == 0 {
        State::of_row(row, vocabulary.cubes).write_best(state, cube, best);
    }
}

/// Zeroes a row of so many words, together with the row's other cubes.
#[cube]
fn clear_rows(words: &mut Array<u32>, row: usize, cube: usize, cubes: usize, #[comptime] count: usize) {
    let mut word = cube * UNITS + UNIT_POS as usize;
    while word < count {
        words[row * count + word] = 0u32;
        word += cubes * UNITS;
    }
}

/// Writes the bits of every token's weight, zero where it can't be drawn, and adds them up in the first level's bins.
#[cube(launch_unchecked)]
pub fn sample_weights(
    logits: &Array<u32>,
    state: &Array<u32>,
    weights: &mut Array<u32>,
    first_level: &mut Array<Atomic<u32>>,
    vocabulary: &Vocabulary,
    temperature: f32,
    #[comptime] rounds: usize,
) {
    let cubes = vocabulary.cubes as usize;
    let (row, cube) = (CUBE_POS / cubes, CUBE_POS % cubes);
    if row >= vocabulary.rows as usize {
        terminate!();
    }
    let row_start = row * vocabulary.tokens as usize;
    let first = (cube * comptime!(rounds * UNITS)) as u32 + UNIT_POS;
    let mut values = Array::<u32>::new(rounds);
    #[unroll]
    for i in 0..rounds {
        let id = first + comptime!((i * UNITS) as u32);
        values[i] = vocabulary.read(logits, row_start, id);
    }
    let histogram = SharedHistogram::new(comptime!(BINS[0]));
    let mut shared = SharedBest::new();
    let best = State::of_row(row, vocabulary.cubes).best(state, &mut shared);
    let largest = largest(best.key, temperature);
    #[unroll]
    for i in 0..rounds {
        let id = first + comptime!((i * UNITS) as u32);
        let mut own = 0.0f32;
        if vocabulary.allows(id) && largest.fault == 0 {
            own = weight(f32::reinterpret(values[i]), temperature, largest.scaled);
        }
        if id < vocabulary.tokens {
            weights[row_start + id as usize] = u32::reinterpret(own);
        }
        histogram.add(bin_of(u32::reinterpret(own), 0usize), pieces(own));
    }
    sync_cube();
    histogram.flush(first_level, row * comptime!(BINS[0]));
}

/// Finds the bin of a level that holds the cut, and adds the weights in it up in the next level's bins.
#[cube(launch_unchecked)]
pub fn sample_narrow(
    weights: &Array<u32>,
    histogram: &Array<u32>,
    next: &mut Array<Atomic<u32>>,
    state: &mut Array<u32>,
    vocabulary: &Vocabulary,
    dropped_share: u32,
    #[comptime] level: usize,
    #[comptime] rounds: usize,
) {
    let cubes = vocabulary.cubes as usize;
    let (row, cube) = (CUBE_POS / cubes, CUBE_POS % cubes);
    if row >= vocabulary.rows as usize {
        terminate!();
    }
    let values = own_weights(weights, vocabulary, row, cube, rounds);
    let shared = SharedHistogram::new(comptime!(BINS[level + 1]));
    let mut sums = SharedWides::new();
    let cut = row_cut(histogram, state, vocabulary, row, dropped_share, &mut sums, level);
    #[unroll]
    for i in 0..rounds {
        if leading(values[i], level) == cut.bin {
            shared.add(
                bin_of(values[i], comptime!(level + 1)),
                pieces(f32::reinterpret(values[i])),
            );
        }
    }
    sync_cube();
    shared.flush(next, row * comptime!(BINS[level + 1]));
    if UNIT_POS == 0 && cube == 0 {
        State::of_row(row, vocabulary.cubes).write_cut(state, cut.bin, cut.rest, level);
    }
}

/// Finds the weight at which the cut falls, and adds up what every cube has above it, and of this weight.
#[cube(launch_unchecked)]
pub fn sample_sums(
    weights: &Array<u32>,
    histogram: &Array<u32>,
    state: &mut Array<u32>,
    vocabulary: &Vocabulary,
    #[comptime] rounds: usize,
) {
    let cubes = vocabulary.cubes as usize;
    let (row, cube) = (CUBE_POS / cubes, CUBE_POS % cubes);
    if row >= vocabulary.rows as usize {
        terminate!();
    }
    let values = own_weights(weights, vocabulary, row, cube, rounds);
    let mut sums = SharedWides::new();
    let cut = row_cut(histogram, state, vocabulary, row, 0u32.runtime(), &mut sums, 2usize);
    let mut low = 0u32;
    let mut high = 0u32;
    let mut tie_low = 0u32;
    let mut tie_high = 0u32;
    #[unroll]
    for i in 0..rounds {
        let own = pieces(f32::reinterpret(values[i]));
        if values[i] > cut.bin {
            low += own.low;
            high += own.high;
        }
        if values[i] == cut.bin {
            tie_low += own.low;
            tie_high += own.high;
        }
    }
    let above = sums.scan(join(high, low, PIECE)).total;
    let ties = sums.scan(join(tie_high, tie_low, PIECE)).total;
    if UNIT_POS == 0 {
        let row_state = State::of_row(row, vocabulary.cubes);
        row_state.write_sum(state, cube, above, 0usize);
        row_state.write_sum(state, cube, ties, 1usize);
        if cube == 0 {
            row_state.write_cut(state, cut.bin, cut.rest, 2usize);
        }
    }
}

/// The bits of the weights of this unit's tokens, 0 where there are none.
#[cube]
fn own_weights(
    weights: &Array<u32>,
    vocabulary: &Vocabulary,
    row: usize,
    cube: usize,
    #[comptime] rounds: usize,
) -> Array<u32> {
    let first = (cube * comptime!(rounds * UNITS)) as u32 + UNIT_POS;
    let mut values = Array::<u32>::new(rounds);
    #[unroll]
    for i in 0..rounds {
        let id = first + comptime!((i * UNITS) as u32);
        values[i] = vocabulary.read(weights, row * vocabulary.tokens as usize, id);
    }
    values
}

/// The row's cut on a level: the leading bits of the weights in its bin, and what the limit leaves there.
#[cube]
fn row_cut(
    histogram: &Array<u32>,
    state: &Array<u32>,
    vocabulary: &Vocabulary,
    row: usize,
    dropped_share: u32,
    sums: &mut SharedWides,
    #[comptime] level: usize,
) -> Cut {
    let row_state = State::of_row(row, vocabulary.cubes);
    let mut above = 0u32;
    let mut limit_low = dropped_share;
    let mut limit_high = 0u32;
    if comptime!(level > 0) {
        let rest = row_state.rest(state, comptime!(level.saturating_sub(1)));
        above = row_state.leading(state, comptime!(level.saturating_sub(1)));
        limit_low = rest.low;
        limit_high = rest.high;
    }
    let limit = Wide {
        low: limit_low,
        high: limit_high,
    };
    let cut = find_cut(histogram, row, limit, sums, level);
    Cut {
        bin: leading_of(above, cut.bin, level),
        rest: cut.rest,
    }
}
