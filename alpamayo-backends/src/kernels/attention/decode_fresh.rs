//! Decoding by one token: what it adds is prepared where it is attended to, without a launch of its own.
//!
//! Every cube normalises and rotates the queries that it needs. Those of a row's tail do the same for the row's new key, and
//! append it and its value to the suffix.

use cubecl::prelude::*;

use super::decode::{DecodeConfig, State, Tile, attend, lane_quad, stream_of_lane, sum_lanes};
use super::element::{Chunk, Quad, chunk_elements, pack_bf16, widen};
use super::head_norm_rope_append::Tables;
use super::problem::{Extents, Keys, Queries, Sources, keys_of};

/// As [`decode`](super::decode::decode) from rows `q | k | v` `[rows, qkv_stride quads]`, f32, one token per row, not yet
/// normalised nor rotated; the suffix does not have the row's key and value yet.
#[cube(launch_unchecked)]
pub(super) fn decode_fresh(
    qkv: &Array<Quad>,
    tables: &Tables,
    sources: &mut Sources,
    extents: &Extents,
    output: &mut Array<Quad>,
    statistics: &mut Array<f32>,
    qkv_stride: u32,
    #[comptime] config: DecodeConfig,
) {
    let problem = comptime!(config.problem);
    let queries = Queries::of_cube(sources, extents, config.queries, problem);
    if queries.first >= queries.last {
        terminate!();
    }
    let split = CUBE_POS_Z as usize;
    let keys = keys_of(
        sources,
        extents,
        queries.entry,
        queries.head,
        split,
        queries.sample,
        problem,
    );

    let mut tile = Tile::fetch(sources, &keys, config);
    // The cube's queries, the new key, the new value.
    let mut fresh = SharedMemory::<Quad>::new(comptime!((config.queries + 2) * problem.head_dim / 4));
    let count = select(keys.tail, comptime!(config.queries + 2), config.queries.runtime());
    let mut row = UNIT_POS_Y as usize;
    while row < count {
        prepare(qkv, tables, &mut fresh, &queries, row, qkv_stride as usize, config);
        row += config.planes;
    }
    sync_cube();

    let mut state = State::new(config);
    #[unroll]
    for q in 0..config.queries {
        #[unroll]
        for c in 0..comptime!(config.lane_chunks()) {
            #[unroll]
            for quad in 0..comptime!(config.chunk_quads()) {
                let at = comptime!(q * config.lane_quads() + c * config.chunk_quads() + quad);
                state.heads[at] = fresh[comptime!(q * problem.head_dim / 4) + lane_quad(c, quad, config)];
            }
        }
    }
    if keys.tail {
        begin_with(&fresh, &mut state, config);
        if CUBE_POS_X == 0 {
            append(&fresh, sources, &keys, config);
        }
    }
    attend(
        sources, extents, &queries, &keys, &mut tile, &mut state, output, statistics, config,
    );
}

/// Prepares row `row` of the cube's: a query, or behind them the new key and the new value. A plane's work.
#[cube]
fn prepare(
    qkv: &Array<Quad>,
    tables: &Tables,
    fresh: &mut SharedMemory<Quad>,
    queries: &Queries,
    row: usize,
    stride: usize,
    #[comptime] config: DecodeConfig,
) {
    let problem = comptime!(config.problem);
    let columns = comptime!(problem.head_dim / 4);
    let half = comptime!(problem.head_dim / 8);
    let steps = comptime!((problem.head_dim / 8).div_ceil(config.plane));
    let lane = UNIT_POS_X as usize;
    let is_query = row < config.queries;
    let is_value = row > config.queries;
    let place = queries.place((queries.first + row).min(queries.last - 1), problem);
    let token = place / problem.heads;
    let mut head = place % problem.heads;
    if !is_query {
        let first = select(
            is_value,
            comptime!(problem.heads + problem.key_value_heads),
            problem.heads.runtime(),
        );
        head = first + queries.head;
    }
    let source = token * stride + head * columns;

    // Quads and their partners half a head further.
    let mut values = Array::<Quad>::new(comptime!(2 * steps));
    let mut square = Quad::new(0.0f32);
    #[unroll]
    for step in 0..steps {
        let quad = lane + comptime!(step * config.plane);
        #[unroll]
        for part in 0..2usize {
            let mut value = Quad::new(0.0f32);
            if quad < half {
                value = qkv[source + quad + comptime!(part * half)];
            }
            values[comptime!(2 * step + part)] = value;
            square = fma(value, value, square);
        }
    }
    let total = plane_sum(square[0] + square[1] + square[2] + square[3]);
    let epsilon = select(is_query, tables.query_epsilon, tables.key_epsilon);
    let factor = 1.0f32 / (total / comptime!(problem.head_dim as f32) + epsilon).sqrt();
    let scale = select(is_query, tables.scale, 1.0f32);
    #[unroll]
    for step in 0..steps {
        let quad = lane + comptime!(step * config.plane);
        if quad < half {
            let mut first = values[comptime!(2 * step)];
            let mut second = values[comptime!(2 * step + 1)];
            if !is_value {
                let angle = token * tables.stride as usize + 2 * quad;
                let cos = quad_of(&tables.cos, angle);
                let sin = quad_of(&tables.sin, angle);
                let mut first_weight = quad_of(&tables.key_weight, 2 * quad);
                let mut second_weight = quad_of(&tables.key_weight, 2 * (quad + half));
                if is_query {
                    first_weight = quad_of(&tables.query_weight, 2 * quad);
                    second_weight = quad_of(&tables.query_weight, 2 * (quad + half));
                }
                first = first * Quad::new(factor) * first_weight;
                second = second * Quad::new(factor) * second_weight;
                let turned = (first * cos - second * sin) * Quad::new(scale);
                second = (second * cos + first * sin) * Quad::new(scale);
                first = turned;
            }
            fresh[row * columns + quad] = first;
            fresh[row * columns + quad + half] = second;
        }
    }
}

/// Four values from pair `at` on.
#[cube]
pub(super) fn quad_of(pairs: &Array<Vector<f32, Const<2>>>, at: usize) -> Quad {
    let (low, high) = (pairs[at], pairs[at + 1]);
    let mut quad = Quad::empty();
    #[unroll]
    for i in 0..2usize {
        quad[i] = low[i];
        quad[comptime!(i + 2)] = high[i];
    }
    quad
}

/// Chunk `column` of the new key (`part` 0) or value (1), as the suffix stores it.
#[cube]
fn stored(
    fresh: &SharedMemory<Quad>,
    column: usize,
    #[comptime] part: usize,
    #[comptime] config: DecodeConfig,
) -> Chunk {
    let first =
        comptime!((config.queries + part) * config.problem.head_dim / 4) + column * comptime!(config.chunk_quads());
    let mut chunk = Chunk::empty();
    if comptime!(config.problem.packed) {
        #[unroll]
        for quad in 0..2usize {
            let values = fresh[first + quad];
            chunk[comptime!(2 * quad)] = pack_bf16(values[0], values[1]);
            chunk[comptime!(2 * quad + 1)] = pack_bf16(values[2], values[3]);
        }
    } else {
        let values = fresh[first];
        #[unroll]
        for i in 0..4usize {
            chunk[i] = u32::reinterpret(values[i]);
        }
    }
    chunk
}

/// The new key as the first of the cube's first stream: its score is the maximum, its value the sum.
#[cube]
fn begin_with(fresh: &SharedMemory<Quad>, state: &mut State, #[comptime] config: DecodeConfig) {
    let lane = UNIT_POS_X as usize % comptime!(config.lanes());
    let is_first = stream_of_lane(config) == 0;
    let mut products = Array::<Quad>::new(config.queries);
    #[unroll]
    for q in 0..config.queries {
        products[q] = Quad::new(0.0f32);
    }
    #[unroll]
    for c in 0..comptime!(config.lane_chunks()) {
        let column = lane + comptime!(c * config.lanes());
        let key = stored(fresh, column, 0usize, config);
        let value = stored(fresh, column, 1usize, config);
        #[unroll]
        for quad in 0..comptime!(config.chunk_quads()) {
            let key = widen(key, quad, config.problem.packed);
            let value = widen(value, quad, config.problem.packed);
            #[unroll]
            for q in 0..config.queries {
                let at = comptime!(q * config.lane_quads() + c * config.chunk_quads() + quad);
                products[q] = fma(state.heads[at], key, products[q]);
                if is_first {
                    state.sums[at] = value;
                }
            }
        }
    }
    #[unroll]
    for q in 0..config.queries {
        let product = products[q];
        let score = sum_lanes(
            product[0] + product[1] + product[2] + product[3],
            comptime!(config.lanes()),
        );
        if is_first {
            state.maximum[q] = score;
            state.total[q] = 1.0f32;
        }
    }
}

/// Writes the new key and value behind the suffix's others.
#[cube]
fn append(fresh: &SharedMemory<Quad>, sources: &mut Sources, keys: &Keys, #[comptime] config: DecodeConfig) {
    let chunks = comptime!(config.problem.head_dim / chunk_elements(config.problem.packed));
    let target = keys.row * sources.suffix.entry_stride as usize
        + keys.head * sources.suffix.head_stride as usize
        + keys.suffix * sources.suffix.row_stride as usize;
    let mut column = UNIT_POS as usize;
    while column < chunks {
        sources.suffix.key[target + column] = stored(fresh, column, 0usize, config);
        sources.suffix.value[target + column] = stored(fresh, column, 1usize, config);
        column += comptime!(config.plane * config.planes);
    }
}
