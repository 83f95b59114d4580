//! Flash attention on the matrix units that a graphics API reaches too: bf16 queries, keys and values, f32 scores and sums.
//!
//! A plane owns rows of 16 queries of one head; a cube's planes share their keys, be they of one head or of several. What its matrices hold can't be read by row, so scores pass through shared
//! memory, where the two units of a row make weights of them. Sums stay in matrices: weights are relative to a maximum that is
//! raised only where a score exceeds it by [`weights::SLACK`], which hardly happens after the first keys, and only then do sums
//! pass through shared memory to be scaled.

mod config;
mod fresh;
mod products;
mod results;
mod weights;

use cubecl::cmma::Matrix;
use cubecl::prelude::*;
use half::bf16;

use super::element::{Chunk, Quad};
use super::problem::{Extents, HeadQueries, Keys, Sources, visible_keys};
use crate::kernels::cooperative::{Elements, SIDE, zeros};
pub(super) use config::CooperativeConfig;
pub(super) use fresh::{HEAD_DIM, cooperative_fresh};
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

#[cube]
impl Stages {
    fn new(#[comptime] config: CooperativeConfig) -> Stages {
        Stages {
            tile: SharedMemory::<Elements>::new_aligned(comptime!(4 * config.keys * config.stride()), 16usize),
            scores: SharedMemory::<Quad>::new(comptime!(config.rows() * config.score_stride())),
            weights: SharedMemory::<Elements>::new_aligned(
                comptime!(2 * config.rows() * config.weight_stride()),
                16usize,
            ),
            raised: SharedMemory::<u32>::new(1usize),
        }
    }
}

/// Up to which keys the cube and its planes see.
#[derive(CubeType)]
struct Window {
    /// The plane's first query.
    first: usize,
    /// What any query of the cube sees.
    end: usize,
    /// What any query of the plane sees.
    plane_end: usize,
    /// What every query of the plane sees.
    common_end: usize,
}

#[cube]
impl Window {
    fn new(queries: &HeadQueries, extents: &Extents, #[comptime] config: CooperativeConfig) -> Window {
        let problem = comptime!(config.problem);
        let keys = queries.keys;
        let first = queries.first + first_row(0usize, config) % comptime!(config.queries());
        let cube_last = queries.tokens.min(queries.first + comptime!(config.queries())) - 1;
        let plane_last = (queries.tokens - 1).min(first + comptime!(config.tiles * SIDE - 1));
        Window {
            first,
            end: visible_keys(extents, &keys, cube_last, problem),
            plane_end: visible_keys(extents, &keys, plane_last, problem),
            common_end: visible_keys(extents, &keys, first.min(queries.tokens - 1), problem),
        }
    }
}

/// Cube `(row · groups of heads, block of queries from the last, part of the keys)`, units `(32, planes)`.
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
    let heads = comptime!(config.heads);
    let queries = HeadQueries::of_cube(sources, extents, heads, comptime!(config.queries()), problem);
    if queries.is_empty {
        terminate!();
    }
    let mut stages = Stages::new(config);
    fill_columns(&mut stages, config);
    let kept = load_queries(query, &mut stages, &queries, config);
    let sums = no_sums(config);
    let mut rows = Rows::new(config);
    // Apart, so that no load depends on a condition: those that do are waited for one by one.
    if comptime!(problem.split) && queries.keys.tail {
        attend(
            sources,
            extents,
            &queries,
            &kept,
            &mut stages,
            &sums,
            &mut rows,
            true,
            config,
        );
    } else {
        attend(
            sources,
            extents,
            &queries,
            &kept,
            &mut stages,
            &sums,
            &mut rows,
            false,
            config,
        );
    }
    // Results pass through the scores, which other units may still read.
    sync_cube();
    write(&mut stages, &sums, &rows, &queries, extents, output, statistics, config);
}

/// Sums of zero for the plane's queries.
#[cube]
fn no_sums(#[comptime] config: CooperativeConfig) -> Sequence<Matrix<f32>> {
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(config.tiles * config.depth()) {
        sums.push(zeros());
    }
    sums
}

/// The cube's keys, one step after another, of a prompt or of a row's tail.
#[cube]
fn attend(
    sources: &Sources,
    extents: &Extents,
    queries: &HeadQueries,
    kept: &Sequence<Matrix<bf16>>,
    stages: &mut Stages,
    sums: &Sequence<Matrix<f32>>,
    rows: &mut Rows,
    #[comptime] tail: bool,
    #[comptime] config: CooperativeConfig,
) {
    let keys = queries.keys;
    let window = Window::new(queries, extents, config);
    // Values come to the stage a step after their keys: where they go is being read until then.
    let mut next_keys = Array::<Chunk>::new(comptime!(config.fetches()));
    let mut next_values = Array::<Chunk>::new(comptime!(config.fetches()));
    let mut begin = keys.begin;
    if begin < window.end {
        fetch(sources, &keys, &mut next_keys, begin, false, tail, config);
        store(stages, &next_keys, false, config);
        fetch(sources, &keys, &mut next_values, begin, true, tail, config);
        fetch(sources, &keys, &mut next_keys, begin + config.keys, false, tail, config);
    }
    sync_cube();
    while begin < window.end {
        let sees = begin < window.plane_end;
        if sees {
            multiply_queries(kept, stages, config);
        }
        sync_cube();
        store(stages, &next_keys, false, config);
        store(stages, &next_values, true, config);
        weigh_step(stages, rows, &keys, extents, &window, begin, config);
        sync_cube();
        let next = begin + config.keys;
        fetch(sources, &keys, &mut next_values, next, true, tail, config);
        fetch(sources, &keys, &mut next_keys, next + config.keys, false, tail, config);
        add_step(stages, sums, rows, &keys, &window, begin, config);
        begin = next;
    }
}

/// Makes weights of a step's scores.
#[cube]
fn weigh_step(
    stages: &mut Stages,
    rows: &mut Rows,
    keys: &Keys,
    extents: &Extents,
    window: &Window,
    begin: usize,
    #[comptime] config: CooperativeConfig,
) {
    rows.settle(config);
    if begin < window.plane_end {
        let hides = begin + config.keys > window.common_end;
        #[unroll]
        for tile in 0..config.tiles {
            let token = window.first + row_of_unit() + comptime!(tile * SIDE);
            let visible = visible_keys(extents, keys, token, config.problem);
            weigh(stages, rows, begin, visible, hides, tile, config);
        }
    }
}

/// Adds a step's weighted values to the sums. All planes of the cube take part.
#[cube]
fn add_step(
    stages: &mut Stages,
    sums: &Sequence<Matrix<f32>>,
    rows: &Rows,
    keys: &Keys,
    window: &Window,
    begin: usize,
    #[comptime] config: CooperativeConfig,
) {
    // The first step's sums are of nothing.
    if stages.raised[0] == begin as u32 + 1 && begin > keys.begin {
        scale(stages, sums, rows, config);
    }
    if begin < window.plane_end {
        add_values(stages, sums, config);
    }
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
