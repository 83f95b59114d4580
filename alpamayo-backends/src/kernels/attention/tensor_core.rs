//! Flash attention on tensor cores: bf16 queries, keys and values, f32 scores, statistics and sums.
//!
//! A plane owns rows of 16 queries of one head. Scores stay in the accumulator registers of the first product, which are
//! laid out as the second product wants its left operand, so weights never leave registers. The next tile of keys and values is
//! on its way while the current one is multiplied, and lands in the other half of shared memory: by itself where the device
//! copies asynchronously, otherwise through registers.

use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::barrier::Barrier;
use cubecl::prelude::*;
use half::bf16;

use super::element::{Chunk, HIDDEN, LOWEST, pack_bf16};
use super::problem::{Extents, HeadQueries, Problem, Sources, visible_keys};
use super::stage::{MatrixRow, copy, fetch, fill_columns, stage_queries, store};

/// Rows of a product's left operand.
const TILE_ROWS: usize = 16;

/// Two neighbours in a register.
type Pair = Vector<bf16, Const<2>>;

/// Two neighbours of an accumulator.
type Sums = Vector<f32, Const<2>>;

/// The tile of an attention on tensor cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TensorCoreConfig {
    pub problem: Problem,
    /// Planes per cube.
    pub planes: usize,
    /// Tiles of 16 queries per plane.
    pub tiles: usize,
    /// Keys per step, a multiple of 16.
    pub keys: usize,
    /// Whether queries stay in registers.
    pub keep_query: bool,
    /// Whether the result is written as bf16 (not with a split).
    pub pack_output: bool,
    /// Whether tiles are copied asynchronously.
    pub asynchronous: bool,
}

impl TensorCoreConfig {
    /// Queries per cube.
    pub fn queries(&self) -> usize {
        self.planes * self.tiles * TILE_ROWS
    }

    pub(super) fn units(&self) -> usize {
        self.planes * 32
    }

    /// Chunks of a head.
    pub(super) fn chunks(&self) -> usize {
        self.problem.head_dim / 8
    }

    /// Steps of a product over a head: sixteen features each, the last filled up with zeros.
    pub(super) fn depth(&self) -> usize {
        self.problem.head_dim.div_ceil(16)
    }

    /// Chunks from a staged row to the next: odd, so that rows fall on different banks.
    pub(super) fn stride(&self) -> usize {
        2 * self.depth() + 1
    }

    /// Chunks from the keys of a stage to its values.
    pub(super) fn value_offset(&self) -> usize {
        self.keys * self.stride()
    }

    /// Chunks of one stage.
    pub(super) fn stage(&self) -> usize {
        2 * self.value_offset()
    }

    /// With so few keys per step that the cube's shared memory stays within so many bytes.
    pub fn fitted(mut self, limit: usize) -> Self {
        while 16 * (self.queries() * self.stride() + 2 * self.stage()) > limit && self.keys > 16 {
            self.keys /= 2;
        }
        self
    }

    /// Chunks that a unit keeps in registers of a tile's keys, and of its values.
    fn registers(&self) -> usize {
        if self.asynchronous { 1 } else { self.fetches() }
    }

    /// Chunks that a unit fetches of a tile's keys, and of its values.
    pub(super) fn fetches(&self) -> usize {
        (self.keys * self.chunks()).div_ceil(self.units())
    }
}

/// Cube `(row · heads, block of queries from the last, part of the keys)`, units `(32, planes)`.
///
/// `query` is `[rows · tokens, heads, head_dim]` bf16, already scaled. Without a split, `output` is the result in the same layout,
/// bf16 or f32. With one it is `[rows · tokens, heads, parts, head_dim]` of unnormalised f32 sums, `statistics` their maxima and
/// weights.
#[cube(launch_unchecked, fast_math = FastMath::all())]
pub(super) fn tensor_core(
    query: &Array<Chunk>,
    sources: &Sources,
    extents: &Extents,
    output: &mut Array<u32>,
    statistics: &mut Array<f32>,
    #[comptime] config: TensorCoreConfig,
) {
    let problem = comptime!(config.problem);
    let queries = HeadQueries::of_cube(sources, extents, 1usize, comptime!(config.queries()), problem);
    if queries.is_empty {
        terminate!();
    }
    let (head, first, tokens) = (queries.head, queries.first, queries.tokens);
    let (start, split, keys) = (queries.start, queries.split, queries.keys);

    let plane = UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let stride = comptime!(config.stride());
    let mut query_stage =
        SharedMemory::<MatrixRow>::new_aligned(comptime!(config.queries() * config.stride()), 16usize);
    let mut stage = SharedMemory::<MatrixRow>::new_aligned(comptime!(2 * config.stage()), 16usize);
    fill_columns(&mut query_stage, comptime!(config.queries()), config);
    fill_columns(&mut stage, comptime!(4 * config.keys), config);
    stage_queries(query, &mut query_stage, start, head, first, tokens, config);

    let tiles = config.tiles;
    let depth = comptime!(config.depth());
    let score_columns = comptime!(config.keys / 8);
    let output_columns = comptime!(config.chunks());
    let mut scores = Sequence::<Array<Sums>>::new();
    #[unroll]
    for _ in 0..comptime!(config.tiles * config.keys / 8) {
        scores.push(Array::<Sums>::new(2usize));
    }
    let mut sums = Sequence::<Array<Sums>>::new();
    #[unroll]
    for i in 0..comptime!(config.tiles * config.chunks()) {
        sums.push(Array::<Sums>::new(2usize));
        clear(sums.index_mut(i));
    }
    let mut maximum = Array::<f32>::new(comptime!(2 * config.tiles));
    let mut total = Array::<f32>::new(comptime!(2 * config.tiles));
    #[unroll]
    for i in 0..comptime!(2 * config.tiles) {
        maximum[i] = LOWEST;
        total[i] = 0.0f32;
    }

    // What the cube and this plane can see at most, and what all of the plane's queries see.
    let plane_first = first + plane * comptime!(config.tiles * TILE_ROWS);
    let cube_last = tokens.min(first + comptime!(config.queries())) - 1;
    let plane_last = (tokens - 1).min(plane_first + comptime!(config.tiles * TILE_ROWS - 1));
    let end = visible_keys(extents, &keys, cube_last, problem);
    let plane_end = visible_keys(extents, &keys, plane_last, problem);
    let common_end = visible_keys(extents, &keys, plane_first.min(tokens - 1), problem);

    let mut barriers = Sequence::<Shared<Barrier>>::new();
    if comptime!(config.asynchronous) {
        barriers.push(Barrier::shared(
            comptime!(config.units() as u32).runtime(),
            UNIT_POS == 0,
        ));
    }
    let mut next_keys = Array::<Chunk>::new(comptime!(config.registers()));
    let mut next_values = Array::<Chunk>::new(comptime!(config.registers()));
    if keys.begin < end {
        if comptime!(config.asynchronous) {
            copy(sources, &keys, &mut stage, keys.begin, 0usize, config);
            barriers.index(0usize).commit_copy_async();
        } else {
            fetch(sources, &keys, &mut next_keys, &mut next_values, keys.begin, config);
            store(&mut stage, &next_keys, &next_values, 0usize, config);
        }
    }
    wait(&barriers, config);

    let definition = MmaDefinition::<bf16, bf16, f32>::new(16usize, 8usize, 16usize);
    let query_base = (plane * comptime!(config.tiles * TILE_ROWS) + lane % 16) * stride + lane / 16;
    let mut kept = Sequence::<Array<Pair>>::new();
    if comptime!(config.keep_query) {
        #[unroll]
        for tile in 0..tiles {
            #[unroll]
            for step in 0..depth {
                let at = query_base + comptime!(tile * TILE_ROWS * config.stride() + 2 * step);
                kept.push(definition.load_matrix::<MatrixRow, Const<2>>(
                    &query_stage.slice(at, at + 1),
                    MatrixIdent::A,
                    4usize,
                    false,
                ));
            }
        }
    }

    let mut begin = keys.begin;
    let mut current = 0usize;
    while begin < end {
        let more = begin + config.keys < end;
        let other = comptime!(config.stage()) - current;
        if more {
            let next = begin + config.keys;
            if comptime!(config.asynchronous) {
                copy(sources, &keys, &mut stage, next, other, config);
                barriers.index(0usize).commit_copy_async();
            } else {
                fetch(sources, &keys, &mut next_keys, &mut next_values, next, config);
            }
        }

        if begin < plane_end {
            // Scores.
            #[unroll]
            for i in 0..comptime!(config.tiles * config.keys / 8) {
                clear(scores.index_mut(i));
            }
            let key_base = current + (lane % 8 + (lane / 16) * 8) * stride + (lane / 8) % 2;
            #[unroll]
            for step in 0..depth {
                let mut loaded = Sequence::<Array<Pair>>::new();
                if comptime!(!config.keep_query) {
                    #[unroll]
                    for tile in 0..tiles {
                        let at = query_base + comptime!(tile * TILE_ROWS * config.stride() + 2 * step);
                        loaded.push(definition.load_matrix::<MatrixRow, Const<2>>(
                            &query_stage.slice(at, at + 1),
                            MatrixIdent::A,
                            4usize,
                            false,
                        ));
                    }
                }
                #[unroll]
                for pair in 0..comptime!(config.keys / 16) {
                    let at = key_base + comptime!(pair * 16 * config.stride() + 2 * step);
                    let matrices = definition.load_matrix::<MatrixRow, Const<2>>(
                        &stage.slice(at, at + 1),
                        MatrixIdent::B,
                        4usize,
                        false,
                    );
                    let (low, high) = halves(&matrices);
                    #[unroll]
                    for tile in 0..tiles {
                        let left = if comptime!(config.keep_query) {
                            kept.index(comptime!(tile * config.depth() + step))
                        } else {
                            loaded.index(tile)
                        };
                        let column = comptime!(tile * config.keys / 8 + 2 * pair);
                        definition.execute_inplace(left, &low, scores.index_mut(column));
                        definition.execute_inplace(left, &high, scores.index_mut(comptime!(column + 1)));
                    }
                }
            }

            if begin + config.keys > common_end {
                #[unroll]
                for tile in 0..tiles {
                    #[unroll]
                    for half in 0..2usize {
                        let token = plane_first + lane / 4 + comptime!(tile * TILE_ROWS + half * 8);
                        let visible = visible_keys(extents, &keys, token, problem);
                        #[unroll]
                        for column in 0..score_columns {
                            let index = begin + comptime!(column * 8) + 2 * (lane % 4);
                            let scores = scores.index_mut(comptime!(tile * config.keys / 8 + column));
                            let mut pair = scores[half];
                            if index >= visible {
                                pair[0] = HIDDEN;
                            }
                            if index + 1 >= visible {
                                pair[1] = HIDDEN;
                            }
                            scores[half] = pair;
                        }
                    }
                }
            }

            // Weights, relative to each row's running maximum.
            #[unroll]
            for tile in 0..tiles {
                #[unroll]
                for half in 0..2usize {
                    let state = comptime!(2 * tile + half);
                    let previous = maximum[state];
                    let mut next = previous;
                    #[unroll]
                    for column in 0..score_columns {
                        let scores = scores.index(comptime!(tile * config.keys / 8 + column));
                        let pair = scores[half];
                        next = max(next, max(pair[0], pair[1]));
                    }
                    next = max(next, plane_shuffle_xor(next, 1u32));
                    next = max(next, plane_shuffle_xor(next, 2u32));
                    let decay = (previous - next).exp();
                    let mut weight_sum = total[state] * decay;
                    #[unroll]
                    for column in 0..score_columns {
                        let scores = scores.index_mut(comptime!(tile * config.keys / 8 + column));
                        let mut pair = scores[half];
                        pair[0] = (pair[0] - next).exp();
                        pair[1] = (pair[1] - next).exp();
                        weight_sum += pair[0] + pair[1];
                        scores[half] = pair;
                    }
                    maximum[state] = next;
                    total[state] = weight_sum;
                    #[unroll]
                    for column in 0..output_columns {
                        let sums = sums.index_mut(comptime!(tile * config.chunks() + column));
                        sums[half] = sums[half] * Sums::new(decay);
                    }
                }
            }

            // Weighted values.
            let value_base = current + comptime!(config.value_offset()) + (lane % 16) * stride + lane / 16;
            #[unroll]
            for step in 0..comptime!(config.keys / 16) {
                let mut weights = Sequence::<Array<Pair>>::new();
                #[unroll]
                for tile in 0..tiles {
                    let column = comptime!(tile * config.keys / 8 + 2 * step);
                    let mut pairs = Array::<Pair>::new(4usize);
                    #[unroll]
                    for part in 0..4usize {
                        let scores = scores.index(comptime!(column + part / 2));
                        pairs[part] = Pair::cast_from(scores[comptime!(part % 2)]);
                    }
                    weights.push(pairs);
                }
                #[unroll]
                for pair in 0..depth {
                    let at = value_base + comptime!(step * 16 * config.stride() + 2 * pair);
                    let matrices = definition.load_matrix::<MatrixRow, Const<2>>(
                        &stage.slice(at, at + 1),
                        MatrixIdent::B,
                        4usize,
                        true,
                    );
                    let (low, high) = halves(&matrices);
                    #[unroll]
                    for tile in 0..tiles {
                        let column = comptime!(tile * config.chunks() + 2 * pair);
                        definition.execute_inplace(weights.index(tile), &low, sums.index_mut(column));
                        if comptime!(2 * pair + 1 < config.chunks()) {
                            definition.execute_inplace(
                                weights.index(tile),
                                &high,
                                sums.index_mut(comptime!(column + 1)),
                            );
                        }
                    }
                }
            }
        }

        if comptime!(!config.asynchronous) {
            if more {
                store(&mut stage, &next_keys, &next_values, other, config);
            }
        }
        wait(&barriers, config);
        current = other;
        begin += config.keys;
    }

    #[unroll]
    for tile in 0..tiles {
        #[unroll]
        for half in 0..2usize {
            let state = comptime!(2 * tile + half);
            let mut all = total[state];
            all += plane_shuffle_xor(all, 1u32);
            all += plane_shuffle_xor(all, 2u32);
            let token = plane_first + lane / 4 + comptime!(tile * TILE_ROWS + half * 8);
            if token < tokens {
                let mut place = (start + token) * problem.heads + head;
                let mut factor = 1.0f32;
                if comptime!(problem.split) {
                    place = place * extents.slots as usize + split;
                    let quad_lane = lane % 4;
                    if quad_lane == 0 {
                        statistics[2 * place] = maximum[state];
                        statistics[2 * place + 1] = all;
                    }
                } else {
                    factor = 1.0f32 / all;
                }
                #[unroll]
                for column in 0..output_columns {
                    let sums = sums.index(comptime!(tile * config.chunks() + column));
                    let pair = sums[half] * Sums::new(factor);
                    let element = place * problem.head_dim + comptime!(column * 8) + 2 * (lane % 4);
                    if comptime!(config.pack_output) {
                        output[element / 2] = pack_bf16(pair[0], pair[1]);
                    } else {
                        output[element] = u32::reinterpret(pair[0]);
                        output[element + 1] = u32::reinterpret(pair[1]);
                    }
                }
            }
        }
    }
}

/// Waits for all units of the cube, and where tiles are copied asynchronously for theirs.
#[cube]
fn wait(barriers: &Sequence<Shared<Barrier>>, #[comptime] config: TensorCoreConfig) {
    if comptime!(config.asynchronous) {
        barriers.index(0usize).arrive_and_wait();
    } else {
        sync_cube();
    }
}

#[cube]
fn clear(tile: &mut Array<Sums>) {
    tile[0] = Sums::new(0.0f32);
    tile[1] = Sums::new(0.0f32);
}

/// Four 8x8 matrices as two right operands.
#[cube]
fn halves(matrices: &Array<Pair>) -> (Array<Pair>, Array<Pair>) {
    let mut low = Array::<Pair>::new(2usize);
    let mut high = Array::<Pair>::new(2usize);
    #[unroll]
    for part in 0..2usize {
        low[part] = matrices[part];
        high[part] = matrices[comptime!(part + 2)];
    }
    (low, high)
}
