//! Flash attention on the matrix units that a graphics API reaches too: bf16 queries, keys and values, f32 scores and sums.
//!
//! A plane owns rows of 16 queries of one head. What its matrices hold can't be read by row, so scores pass through shared
//! memory, where the two units of a row make weights of them. Sums stay in matrices: weights are relative to a maximum that is
//! raised only where a score exceeds it by [`weights::SLACK`], which hardly happens after the first keys, and only then do sums
//! pass through shared memory to be scaled.

mod config;
mod products;
mod results;
mod weights;

use cubecl::cmma::Matrix;
use cubecl::prelude::*;

use super::element::{Chunk, Quad};
use super::problem::{Extents, HeadQueries, Sources, visible_keys};
use crate::kernels::cooperative::{Elements, SIDE, zeros};
pub(super) use config::CooperativeConfig;
use products::{add_values, fetch, fill_columns, load_queries, multiply_queries, store};
use results::write;
use weights::{Rows, scale, weigh};

/// Shared memory of the cube.
#[derive(CubeType)]
struct Stages {
    /// Keys, then values.
    tile: SharedMemory<Elements>,
    scores: SharedMemory<Quad>,
    weights: SharedMemory<Elements>,
    /// The last step, counted by its keys, in which a maximum was raised.
    raised: SharedMemory<u32>,
}

/// Cube `(row · heads, block of queries from the last, part of the keys)`, units `(32, planes)`.
///
/// `query` is `[rows · tokens, heads, head_dim]` bf16, already scaled. Without a split, `output` is the result in the same layout,
/// bf16 or f32. With one it is `[rows · tokens, heads, parts, head_dim]` of unnormalised f32 sums, `statistics` their maxima and
/// weights.
#[cube(launch_unchecked)]
pub(super) fn cooperative(
    query: &Array<Chunk>,
    sources: &Sources,
    extents: &Extents,
    output: &mut Array<Chunk>,
    statistics: &mut Array<f32>,
    #[comptime] config: CooperativeConfig,
) {
    let problem = comptime!(config.problem);
    let queries = HeadQueries::of_cube(sources, extents, comptime!(config.queries()), problem);
    if queries.is_empty {
        terminate!();
    }
    let keys = queries.keys;
    let plane_first = queries.first + UNIT_POS_Y as usize * comptime!(config.tiles * SIDE);
    let cube_last = queries.tokens.min(queries.first + comptime!(config.queries())) - 1;
    let plane_last = (queries.tokens - 1).min(plane_first + comptime!(config.tiles * SIDE - 1));
    let end = visible_keys(extents, &keys, cube_last, problem);
    let plane_end = visible_keys(extents, &keys, plane_last, problem);
    let common_end = visible_keys(extents, &keys, plane_first.min(queries.tokens - 1), problem);

    let mut stages = Stages {
        tile: SharedMemory::<Elements>::new_aligned(comptime!(4 * config.keys * config.stride()), 16usize),
        scores: SharedMemory::<Quad>::new(comptime!(config.queries() * config.score_stride())),
        weights: SharedMemory::<Elements>::new_aligned(
            comptime!(2 * config.queries() * config.weight_stride()),
            16usize,
        ),
        raised: SharedMemory::<u32>::new(1usize),
    };
    fill_columns(&mut stages, config);
    let kept = load_queries(query, &mut stages, &queries, config);
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(config.tiles * config.depth()) {
        sums.push(zeros());
    }
    let mut rows = Rows::new(config);

    // Values come to the stage a step after their keys: where they go is being read until then.
    let mut next_keys = Array::<Chunk>::new(comptime!(config.fetches()));
    let mut next_values = Array::<Chunk>::new(comptime!(config.fetches()));
    let mut begin = keys.begin;
    if begin < end {
        fetch(sources, &keys, &mut next_keys, begin, false, config);
        store(&mut stages, &next_keys, false, config);
        fetch(sources, &keys, &mut next_values, begin, true, config);
        fetch(sources, &keys, &mut next_keys, begin + config.keys, false, config);
    }
    sync_cube();
    while begin < end {
        let sees = begin < plane_end;
        if sees {
            multiply_queries(&kept, &mut stages, config);
        }
        sync_cube();
        store(&mut stages, &next_keys, false, config);
        store(&mut stages, &next_values, true, config);
        rows.settle(config);
        if sees {
            let hides = begin + config.keys > common_end;
            #[unroll]
            for tile in 0..config.tiles {
                let token = plane_first + row_of_unit() + comptime!(tile * SIDE);
                let visible = visible_keys(extents, &keys, token, problem);
                weigh(&mut stages, &mut rows, begin, visible, hides, tile, config);
            }
        }
        sync_cube();
        let next = begin + config.keys;
        fetch(sources, &keys, &mut next_values, next, true, config);
        fetch(sources, &keys, &mut next_keys, next + config.keys, false, config);
        // The first step's sums are of nothing.
        if stages.raised[0] == begin as u32 + 1 && begin > keys.begin {
            scale(&mut stages, &sums, &rows, config);
        }
        if sees {
            add_values(&stages, &sums, config);
        }
        begin = next;
    }
    // Results pass through the scores, which other units may still read.
    sync_cube();
    write(&mut stages, &sums, &rows, &queries, extents, output, statistics, config);
}

/// The row of a tile that a unit shares with its neighbour.
#[cube]
fn row_of_unit() -> usize {
    UNIT_POS_X as usize / 2
}

/// The first of a tile's rows among the cube's.
#[cube]
fn first_row(#[comptime] tile: usize, #[comptime] config: CooperativeConfig) -> usize {
    UNIT_POS_Y as usize * comptime!(config.tiles * SIDE) + comptime!(tile * SIDE)
}
