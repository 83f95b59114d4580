//! The kernel: a cube's queries are prepared while its keys and values are on their way; then every plane attends to its tile.

use cubecl::prelude::*;

use super::fresh::{Features, LANE_PAIRS, ROWS, Row, lane_pair, new_key, new_value};
use super::sums::{Weights, merge_planes, weigh};
use super::tile::{Cache, Pair, Span, Tile, half};
use super::{QUERIES, TilesConfig};
use crate::kernels::attention::element::{Chunk, HIDDEN, Quad, widen};
use crate::kernels::attention::head_norm_rope_append::Tables;
use crate::kernels::attention::problem::Queries;
use crate::kernels::signals::{self, Signals};

/// The extents of a problem.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Extents {
    /// Keys in a clip's prompt.
    pub prompt: u32,
    /// Tiles of a prompt, tiles that a suffix has room for. The new token's own is behind them.
    pub prompt_tiles: u32,
    pub suffix_tiles: u32,
    /// Parts of every query's result.
    pub slots: u32,
    /// Pairs from one row of `q | k | v` to the next.
    pub qkv_stride: u32,
}

/// Cube `(entry · key-value heads, tiles of as many planes)`, units `(plane, planes)`: from rows `q | k | v`, f32, one token per entry, not yet
/// normalised nor rotated, to sums of values and statistics of every part.
///
/// `lengths[0]` tokens of every suffix are there already.
#[cube(launch_unchecked)]
pub(super) fn attend(
    qkv: &Array<Features>,
    tables: &Tables,
    cache: &mut Cache,
    lengths: &Array<i32>,
    extents: &Extents,
    sums: &mut Array<Quad>,
    statistics: &mut Array<f32>,
    signals: &mut Signals,
    #[comptime] config: TilesConfig,
) {
    let heads = comptime!(config.problem.key_value_heads);
    let (entry, head) = (CUBE_POS_X as usize / heads, CUBE_POS_X as usize % heads);
    let prompt_tiles = extents.prompt_tiles as usize;
    let number = CUBE_POS_Y as usize * config.planes + UNIT_POS_Y as usize;
    let new = prompt_tiles + extents.suffix_tiles as usize;
    let (tail, is_new) = (number >= prompt_tiles, number == new);
    let index = select(tail, number - prompt_tiles, number);
    let suffix = lengths[0] as usize;

    let prompt = extents.prompt as usize;
    let window = (number * config.keys).min(prompt - config.keys);
    let mut tile = Tile::new(config);
    tile.fetch_prompt(cache, entry, head, window, config);
    signals::wait(signals);
    let row = Row::fetch(qkv, tables, extents.qkv_stride as usize, entry, head, config);
    // The queries, the new key, the new value.
    let mut fresh = SharedMemory::<Features>::new(comptime!(ROWS * 2 * config.plane));
    row.prepare(&mut fresh, tables, config);
    sync_cube();

    // The new token is a tile of its own, of one key.
    let begin = select(is_new, 0usize, index * config.keys);
    let end = select(is_new, 1usize, select(tail, suffix, prompt).min(begin + config.keys));
    let first = select(tail, begin, window);
    let span = Span { first, begin, end };
    // Few planes have a tail: theirs comes late, since what two branches ask for is waited for where they meet.
    if tail {
        if is_new {
            let (key, value) = (new_key(&fresh, config), new_value(&fresh, config));
            tile.set(key, value, config);
            append(cache, entry, head, suffix, key, value, config);
        } else {
            tile.fetch_suffix(cache, entry, head, begin, suffix, config);
        }
    }
    let mut weights = Weights::new(config);
    let mut own = Array::<Quad>::new(QUERIES);
    let scores = scores(&fresh, &tile, &span, config);
    weigh(scores, &tile, &span, &mut weights, &mut own, config);
    let queries = Queries {
        entry,
        head,
        sample: 0usize,
        first: 0usize,
        last: QUERIES.runtime(),
        token: entry,
        tokens: 1usize,
        slot: CUBE_POS_Y as usize,
    };
    merge_planes(
        &weights,
        &own,
        &queries,
        extents.slots as usize,
        sums,
        statistics,
        config,
    );
    signals::done(signals);
}

/// A lane's scores, each of one query and one of the tile's keys ([`key_of_score`]).
///
/// A lane keeps the queries in an order of its own, so that as many are summed over the lanes of a key at once.
#[cube]
fn scores(fresh: &SharedMemory<Features>, tile: &Tile, span: &Span, #[comptime] config: TilesConfig) -> Array<f32> {
    let lanes = comptime!(config.lanes());
    let lane = UNIT_POS_X as usize;
    let mut heads = Array::<Features>::new(comptime!(LANE_PAIRS * QUERIES));
    #[unroll]
    for slot in 0..QUERIES {
        #[unroll]
        for pair in 0..LANE_PAIRS {
            heads[comptime!(LANE_PAIRS * slot + pair)] = lane_pair(fresh, slot ^ (lane % QUERIES), pair, config);
        }
    }
    let mut scores = Array::<f32>::new(comptime!(config.scores()));
    #[unroll]
    for round in 0..comptime!(config.scores()) {
        let mut score = four_lanes(&heads, tile.keys[comptime!(config.loads_of_score() * round)]);
        if comptime!(config.pairs()) {
            let first = score;
            let second = four_lanes(&heads, tile.keys[comptime!(2 * round + 1)]);
            let is_second = lane & 4 != 0;
            score = select(is_second, second, first) + plane_shuffle_xor(select(is_second, first, second), 4u32);
            #[unroll]
            for level in 3..comptime!(lanes.ilog2()) {
                score += plane_shuffle_xor(score, comptime!(1u32 << level));
            }
        }
        let key = span.first + key_of_score(round, config);
        let counts = key >= span.begin && key < span.end;
        scores[round] = select(counts, score, HIDDEN.runtime());
    }
    scores
}

/// Which of its tile's keys a lane's score is of.
#[cube]
pub(super) fn key_of_score(#[comptime] round: usize, #[comptime] config: TilesConfig) -> usize {
    if comptime!(config.pairs()) {
        half(config) + ((UNIT_POS_X as usize >> 1) & 2) + comptime!(4 * round)
    } else {
        half(config) + comptime!(2 * round)
    }
}

/// The products of a lane's features with those of all queries, summed over four lanes: every lane ends with the query of its own number.
#[cube]
fn four_lanes(heads: &Array<Features>, key: Chunk) -> f32 {
    let mut products = Array::<f32>::new(QUERIES);
    let quads = (widen(key, 0usize, true), widen(key, 1usize, true));
    #[unroll]
    for slot in 0..QUERIES {
        let mut product = 0.0f32;
        #[unroll]
        for feature in 0..4usize {
            let head = heads[comptime!(LANE_PAIRS * slot + feature / 2)][comptime!(feature % 2)];
            product = fma(head, quads.0[feature], product);
        }
        #[unroll]
        for feature in 0..4usize {
            let head = heads[comptime!(LANE_PAIRS * slot + 2 + feature / 2)][comptime!(feature % 2)];
            product = fma(head, quads.1[feature], product);
        }
        products[slot] = product;
    }
    let own = products[0] + plane_shuffle_xor(products[2], 2u32);
    let other = products[1] + plane_shuffle_xor(products[3], 2u32);
    own + plane_shuffle_xor(other, 1u32)
}

/// Writes the new key and value behind the suffix's others.
#[cube]
fn append(
    cache: &mut Cache,
    entry: usize,
    head: usize,
    position: usize,
    key: Chunk,
    value: Pair,
    #[comptime] config: TilesConfig,
) {
    let row = comptime!(config.lanes());
    let place = entry * cache.suffix_entry as usize + head * cache.suffix_head as usize + position * row;
    if UNIT_POS_X < comptime!(config.lanes() as u32) {
        cache.suffix_key[place + UNIT_POS_X as usize] = key;
    }
    cache.suffix_value[2 * place + UNIT_POS_X as usize] = value;
}
