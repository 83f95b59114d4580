//! Action tokens that are prepared where they are attended to, without a launch of their own.
//!
//! Every cube normalises and rotates the queries that it needs. Those of a row's tail do the same for the row's own keys.

use cubecl::cmma::Matrix;
use cubecl::prelude::*;
use half::bf16;

use super::products::{fetch, keep_queries, multiply_queries, no_queries, query_of_row, store};
use super::results::write;
use super::weights::Rows;
use super::{CooperativeConfig, Stages, Window, add_step, no_sums, weigh_step};
use crate::kernels::attention::decode_fresh::quad_of;
use crate::kernels::attention::element::{Chunk, Quad, pack_bf16};
use crate::kernels::attention::head_norm_rope_append::Tables;
use crate::kernels::attention::problem::{Extents, HeadQueries, Sources, at};
use crate::kernels::cooperative::Elements;

/// Features of the heads that are prepared here.
pub(in crate::kernels::attention) const HEAD_DIM: usize = 128;
/// Units that share a head, each with a quad of either half.
const LANES: usize = HEAD_DIM / 8;

/// As [`cooperative`](super::cooperative()) of a split from rows `q | k | v` `[rows · tokens, qkv_stride quads]`, not yet normalised
/// nor rotated, whose keys and values are the row's own.
#[cube(launch_unchecked)]
pub(in crate::kernels::attention) fn cooperative_fresh<E: Float>(
    qkv: &Array<Vector<E, Const<4>>>,
    tables: &Tables,
    sources: &Sources,
    extents: &Extents,
    output: &mut Array<Chunk>,
    statistics: &mut Array<f32>,
    qkv_stride: u32,
    #[comptime] config: CooperativeConfig,
) {
    let heads = comptime!(config.heads);
    let stride = qkv_stride as usize;
    let queries = HeadQueries::of_cube(sources, extents, heads, comptime!(config.queries()), config.problem);
    if queries.is_empty {
        terminate!();
    }
    let mut stages = Stages::new(config);
    let kept = prepare_queries(qkv, tables, &mut stages, &queries, stride, config);
    let sums = no_sums(config);
    let mut rows = Rows::new(config);
    attend(
        qkv,
        tables,
        sources,
        extents,
        &queries,
        &kept,
        &mut stages,
        &sums,
        &mut rows,
        stride,
        config,
    );
    // Results pass through the scores, which other units may still read.
    sync_cube();
    write(&mut stages, &sums, &rows, &queries, extents, output, statistics, config);
}

/// The cube's keys: of the prompt one step after another, of a row's tail, whose parts are a step each, at once.
///
/// One loop for both: a device that computes other kernels in between reads every instruction from memory again.
#[cube]
fn attend<E: Float>(
    qkv: &Array<Vector<E, Const<4>>>,
    tables: &Tables,
    sources: &Sources,
    extents: &Extents,
    queries: &HeadQueries,
    kept: &Sequence<Matrix<bf16>>,
    stages: &mut Stages,
    sums: &Sequence<Matrix<f32>>,
    rows: &mut Rows,
    stride: usize,
    #[comptime] config: CooperativeConfig,
) {
    let keys = queries.keys;
    let window = Window::new(queries, extents, config);
    // Loads that depend on a condition are waited for one by one: a tail reads the prompt's first key, and throws it away.
    let mut prompt = keys;
    prompt.end = select(keys.tail, 1usize, keys.end);
    let mut next_keys = Array::<Chunk>::new(comptime!(config.fetches()));
    let mut next_values = Array::<Chunk>::new(comptime!(config.fetches()));
    let mut begin = keys.begin;
    fetch(sources, &prompt, &mut next_keys, begin, false, false, config);
    if keys.tail {
        stage_tail(qkv, tables, sources, stages, queries, begin, stride, config);
    } else {
        store(stages, &next_keys, false, config);
    }
    fetch(sources, &prompt, &mut next_values, begin, true, false, config);
    fetch(
        sources,
        &prompt,
        &mut next_keys,
        begin + config.keys,
        false,
        false,
        config,
    );
    sync_cube();
    while begin < window.end {
        if begin < window.plane_end {
            multiply_queries(kept, stages, config);
        }
        sync_cube();
        if !keys.tail {
            store(stages, &next_keys, false, config);
            store(stages, &next_values, true, config);
        }
        weigh_step(stages, rows, &keys, extents, &window, begin, config);
        sync_cube();
        let next = begin + config.keys;
        fetch(sources, &prompt, &mut next_values, next, true, false, config);
        fetch(
            sources,
            &prompt,
            &mut next_keys,
            next + config.keys,
            false,
            false,
            config,
        );
        add_step(stages, sums, rows, &keys, &window, begin, config);
        begin = next;
    }
}

/// The plane's queries as left operands, through the stage as many at once as it takes; those past the last token repeat it.
#[cube]
fn prepare_queries<E: Float>(
    qkv: &Array<Vector<E, Const<4>>>,
    tables: &Tables,
    stages: &mut Stages,
    queries: &HeadQueries,
    stride: usize,
    #[comptime] config: CooperativeConfig,
) -> Sequence<Matrix<bf16>> {
    let kept = no_queries(config);
    let at_once = comptime!(config.units() / LANES);
    let staged = comptime!(2 * config.keys);
    let steps = comptime!(config.rows().min(staged) / at_once);
    // A loop: code that runs once comes from memory.
    for pass in 0..comptime!(config.rows().div_ceil(staged)) {
        // All on their way before the first is waited for.
        let mut loaded = Array::<Quad>::new(comptime!(2 * steps));
        let mut angles = Array::<Quad>::new(comptime!(2 * steps));
        #[unroll]
        for step in 0..steps {
            let row = pass * staged + comptime!(step * at_once) + group();
            let (head, token) = query_of_row(queries, row, config);
            #[unroll]
            for half in 0..2usize {
                loaded[comptime!(2 * step + half)] = read(qkv, token, head, half, stride);
            }
            ask_angles(&mut angles, tables, token, step);
        }
        #[unroll]
        for step in 0..steps {
            let local = comptime!(step * at_once) + group();
            let (first, second) = (loaded[comptime!(2 * step)], loaded[comptime!(2 * step + 1)]);
            let (first, second) = prepare(first, second, tables, &angles, step, true);
            let place = local * comptime!(2 * config.stride()) + lane();
            stages.tile[place] = rounded(first);
            stages.tile[place + LANES] = rounded(second);
        }
        sync_cube();
        keep_queries(&kept, stages, pass, config);
        sync_cube();
    }
    kept
}

/// Keys and values of a part of a row's tail into the stage: of its suffix, then its own; those past the last repeat it.
#[cube]
fn stage_tail<E: Float>(
    qkv: &Array<Vector<E, Const<4>>>,
    tables: &Tables,
    sources: &Sources,
    stages: &mut Stages,
    queries: &HeadQueries,
    begin: usize,
    stride: usize,
    #[comptime] config: CooperativeConfig,
) {
    let keys = queries.keys;
    let at_once = comptime!(config.units() / LANES);
    let steps = comptime!(config.keys / at_once);
    let first_key = comptime!(config.problem.heads);
    let first_value = comptime!(config.problem.heads + config.problem.key_value_heads);
    // Both kinds are read, whichever it is: loads that depend on a condition are waited for one by one.
    let mut fresh = Array::<Quad>::new(comptime!(4 * steps));
    let mut stored = Array::<Chunk>::new(comptime!(4 * steps));
    let mut angles = Array::<Quad>::new(comptime!(2 * steps));
    #[unroll]
    for step in 0..steps {
        let index = (begin + comptime!(step * at_once) + group()).min(keys.end - 1);
        let own = index.max(keys.suffix) - keys.suffix;
        let suffix = select(index < keys.suffix, index, 0usize);
        let source = at(&sources.suffix, keys.row, keys.head, suffix) + lane() / 2;
        #[unroll]
        for half in 0..2usize {
            let token = queries.start + own;
            fresh[comptime!(4 * step + half)] = read(qkv, token, first_key + keys.head, half, stride);
            fresh[comptime!(4 * step + 2 + half)] = read(qkv, token, first_value + keys.head, half, stride);
            stored[comptime!(4 * step + half)] = sources.suffix.key[source + comptime!(half * LANES / 2)];
            stored[comptime!(4 * step + 2 + half)] = sources.suffix.value[source + comptime!(half * LANES / 2)];
        }
        ask_angles(&mut angles, tables, queries.start + own, step);
    }
    #[unroll]
    for step in 0..steps {
        let local = comptime!(step * at_once) + group();
        let index = (begin + local).min(keys.end - 1);
        let is_own = index >= keys.suffix;
        let (first, second) = (fresh[comptime!(4 * step)], fresh[comptime!(4 * step + 1)]);
        let (first, second) = prepare(first, second, tables, &angles, step, false);
        let key = local * comptime!(2 * config.stride()) + lane();
        let value = key + comptime!(2 * config.keys * config.stride());
        stages.tile[key] = either(is_own, first, stored[comptime!(4 * step)]);
        stages.tile[key + LANES] = either(is_own, second, stored[comptime!(4 * step + 1)]);
        stages.tile[value] = either(is_own, fresh[comptime!(4 * step + 2)], stored[comptime!(4 * step + 2)]);
        stages.tile[value + LANES] = either(is_own, fresh[comptime!(4 * step + 3)], stored[comptime!(4 * step + 3)]);
    }
}

/// The units that share a row, counted in the cube.
#[cube]
fn group() -> usize {
    UNIT_POS as usize / LANES
}

/// The unit among those that share its row.
#[cube]
fn lane() -> usize {
    UNIT_POS as usize % LANES
}

/// The unit's quad of either half of a token's head, among `q | k | v`.
#[cube]
fn read<E: Float>(
    qkv: &Array<Vector<E, Const<4>>>,
    token: usize,
    head: usize,
    #[comptime] half: usize,
    stride: usize,
) -> Quad {
    Quad::cast_from(qkv[token * stride + head * comptime!(2 * LANES) + comptime!(half * LANES) + lane()])
}

/// Asks for the unit's quads of a token's cosines and sines.
#[cube]
fn ask_angles(angles: &mut Array<Quad>, tables: &Tables, token: usize, #[comptime] step: usize) {
    let at = token * tables.stride as usize + 2 * lane();
    angles[comptime!(2 * step)] = quad_of(&tables.cos, at);
    angles[comptime!(2 * step + 1)] = quad_of(&tables.sin, at);
}

/// The unit's quads of a query, then scaled, or of a key: normalised and rotated by the step's angles.
#[cube]
fn prepare(
    first: Quad,
    second: Quad,
    tables: &Tables,
    angles: &Array<Quad>,
    #[comptime] step: usize,
    #[comptime] query: bool,
) -> (Quad, Quad) {
    let squares = fma(first, first, second * second);
    let mut total = squares[0] + squares[1] + squares[2] + squares[3];
    #[unroll]
    for level in 0..comptime!(LANES.ilog2()) {
        total += plane_shuffle_xor(total, comptime!(1u32 << level));
    }
    let pair = 2 * lane();
    let mut epsilon = tables.key_epsilon;
    let mut scale = 1.0f32;
    let mut weights = quad_of(&tables.key_weight, pair);
    let mut second_weights = quad_of(&tables.key_weight, pair + comptime!(2 * LANES));
    if comptime!(query) {
        epsilon = tables.query_epsilon;
        scale = tables.scale;
        weights = quad_of(&tables.query_weight, pair);
        second_weights = quad_of(&tables.query_weight, pair + comptime!(2 * LANES));
    }
    let factor = Quad::new(1.0f32 / (total / comptime!(HEAD_DIM as f32) + epsilon).sqrt());
    let first = first * factor * weights;
    let second = second * factor * second_weights;
    let (cos, sin) = (angles[comptime!(2 * step)], angles[comptime!(2 * step + 1)]);
    let scale = Quad::new(scale);
    (
        (first * cos - second * sin) * scale,
        (second * cos + first * sin) * scale,
    )
}

/// Rounded to nearest even, as prepared rows are; a cast may cut off.
#[cube]
fn rounded(quad: Quad) -> Elements {
    let mut words = Vector::<u32, Const<2>>::empty();
    #[unroll]
    for word in 0..2usize {
        words[word] = pack_bf16(quad[comptime!(2 * word)], quad[comptime!(2 * word + 1)]);
    }
    Elements::reinterpret(words)
}

/// Fresh elements as bf16, or the unit's half of a stored chunk.
#[cube]
fn either(is_fresh: bool, fresh: Quad, stored: Chunk) -> Elements {
    let is_high = lane() % 2 == 1;
    let mut words = Vector::<u32, Const<2>>::empty();
    #[unroll]
    for word in 0..2usize {
        let stored = select(is_high, stored[comptime!(word + 2)], stored[word]);
        words[word] = select(
            is_fresh,
            pack_bf16(fresh[comptime!(2 * word)], fresh[comptime!(2 * word + 1)]),
            stored,
        );
    }
    Elements::reinterpret(words)
}
