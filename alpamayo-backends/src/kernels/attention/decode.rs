//! Attention of a few queries over many keys at memory speed: each plane streams its own keys, no tiles, no barriers.

use cubecl::prelude::*;

use super::element::{Chunk, HIDDEN, LOWEST, Quad, chunk_elements, widen};
use super::problem::{Extents, Keys, Problem, Queries, Side, Sources, keys_of, read_prompt, read_tail, visible_keys};

/// How the lanes of a cube share the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DecodeConfig {
    pub problem: Problem,
    /// Lanes of a plane.
    pub plane: usize,
    /// Planes per cube.
    pub planes: usize,
    /// Queries per cube: all read the same keys.
    pub queries: usize,
    /// Keys that a lane has in flight.
    pub unroll: usize,
}

impl DecodeConfig {
    /// A share for so many queries per key-value head.
    pub fn new(problem: Problem, plane: usize, queries: usize) -> Self {
        Self {
            problem,
            plane,
            planes: 4,
            queries: queries.clamp(1, 8),
            unroll: 4,
        }
    }

    pub(super) fn chunks(&self) -> usize {
        self.problem.head_dim / chunk_elements(self.problem.packed)
    }

    /// Lanes that share a key: a power of two that divides its chunks.
    pub(super) fn lanes(&self) -> usize {
        (1 << self.chunks().trailing_zeros()).min(self.plane)
    }

    /// Chunks of a key per lane.
    pub(super) fn lane_chunks(&self) -> usize {
        self.chunks() / self.lanes()
    }

    /// Quads of a key per lane.
    pub(super) fn lane_quads(&self) -> usize {
        self.lane_chunks() * self.chunk_quads()
    }

    pub(super) fn chunk_quads(&self) -> usize {
        chunk_elements(self.problem.packed) / 4
    }

    /// Keys that the cube reads side by side.
    fn streams(&self) -> usize {
        self.planes * self.plane / self.lanes()
    }

    /// How often a value is exchanged to cover so many lanes.
    fn levels(lanes: usize) -> usize {
        lanes.ilog2() as usize
    }
}

/// Cube `(block of queries, entry · key-value heads, part of the keys)`, units `(plane, planes)`.
///
/// As [`exact`](super::exact::exact), always with a split.
#[cube(launch_unchecked)]
pub(super) fn decode(
    query: &Array<Quad>,
    sources: &Sources,
    extents: &Extents,
    output: &mut Array<Quad>,
    statistics: &mut Array<f32>,
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
    let mut state = State::new(config);
    #[unroll]
    for q in 0..config.queries {
        let index = (queries.first + q).min(queries.last - 1);
        let source = queries.place(index, problem) * comptime!(problem.head_dim / 4);
        #[unroll]
        for c in 0..comptime!(config.lane_chunks()) {
            #[unroll]
            for quad in 0..comptime!(config.chunk_quads()) {
                let at = comptime!(q * config.lane_quads() + c * config.chunk_quads() + quad);
                state.heads[at] = query[source + lane_quad(c, quad, config)];
            }
        }
    }
    attend(
        sources, extents, &queries, &keys, &mut tile, &mut state, output, statistics, config,
    );
}

/// Keys and values that a lane has asked for.
#[derive(CubeType)]
pub(super) struct Tile {
    keys: Array<Chunk>,
    values: Array<Chunk>,
}

#[cube]
impl Tile {
    /// The first ones of the cube's keys. They are on their way while queries are prepared.
    pub fn fetch(sources: &Sources, keys: &Keys, #[comptime] config: DecodeConfig) -> Tile {
        let chunks = comptime!(config.unroll * config.lane_chunks());
        let mut tile = Tile {
            keys: Array::<Chunk>::new(chunks),
            values: Array::<Chunk>::new(chunks),
        };
        if keys.begin < keys.end {
            tile.fetch_keys(sources, keys, keys.begin, config);
            tile.fetch_values(sources, keys, keys.begin, config);
        }
        tile
    }

    fn fetch_keys(&mut self, sources: &Sources, keys: &Keys, begin: usize, #[comptime] config: DecodeConfig) {
        fetch_chunks(&mut self.keys, sources, keys, begin, comptime!(Side::Key), config);
    }

    fn fetch_values(&mut self, sources: &Sources, keys: &Keys, begin: usize, #[comptime] config: DecodeConfig) {
        fetch_chunks(&mut self.values, sources, keys, begin, comptime!(Side::Value), config);
    }
}

/// Asks for a lane's chunks of a round. Where they lie is the same for all of a cube's keys.
#[cube]
fn fetch_chunks(
    chunks: &mut Array<Chunk>,
    sources: &Sources,
    keys: &Keys,
    begin: usize,
    #[comptime] side: Side,
    #[comptime] config: DecodeConfig,
) {
    if keys.tail {
        #[unroll]
        for at in 0..comptime!(config.unroll * config.lane_chunks()) {
            let (index, chunk) = place_of_lane(keys, begin, at, config);
            chunks[at] = read_tail(sources, keys, index, chunk, side, config.problem);
        }
    } else {
        #[unroll]
        for at in 0..comptime!(config.unroll * config.lane_chunks()) {
            let (index, chunk) = place_of_lane(keys, begin, at, config);
            chunks[at] = read_prompt(sources, keys, index, chunk, side);
        }
    }
}

/// The key of a lane's `at`-th chunk of a round, the cube's last one where there are no more, and the chunk's number.
#[cube]
fn place_of_lane(keys: &Keys, begin: usize, #[comptime] at: usize, #[comptime] config: DecodeConfig) -> (usize, usize) {
    let (u, c) = comptime!((at / config.lane_chunks(), at % config.lane_chunks()));
    let index = begin + comptime!(u * config.streams()) + stream_of_lane(config);
    let chunk = comptime!(c * config.lanes()) + UNIT_POS_X as usize % comptime!(config.lanes());
    (index.min(keys.end - 1), chunk)
}

/// What a lane keeps of the cube's queries: its features of them and of their sums, its stream's maxima and weights.
#[derive(CubeType)]
pub(super) struct State {
    pub heads: Array<Quad>,
    pub sums: Array<Quad>,
    pub maximum: Array<f32>,
    pub total: Array<f32>,
}

#[cube]
impl State {
    /// Before the first key.
    pub fn new(#[comptime] config: DecodeConfig) -> State {
        let quads = comptime!(config.queries * config.lane_quads());
        let mut sums = Array::<Quad>::new(quads);
        #[unroll]
        for i in 0..quads {
            sums[i] = Quad::new(0.0f32);
        }
        let mut maximum = Array::<f32>::new(config.queries);
        let mut total = Array::<f32>::new(config.queries);
        #[unroll]
        for q in 0..config.queries {
            maximum[q] = LOWEST;
            total[q] = 0.0f32;
        }
        State {
            heads: Array::<Quad>::new(quads),
            sums,
            maximum,
            total,
        }
    }
}

/// The quad of a row that is a lane's `quad`-th of its chunk `chunk`.
#[cube]
pub(super) fn lane_quad(#[comptime] chunk: usize, #[comptime] quad: usize, #[comptime] config: DecodeConfig) -> usize {
    let lane = UNIT_POS_X as usize % comptime!(config.lanes());
    (lane + comptime!(chunk * config.lanes())) * comptime!(config.chunk_quads()) + quad
}

/// Adds the cube's keys to the state, merges the cube's streams and writes their part of the result.
#[cube]
pub(super) fn attend(
    sources: &Sources,
    extents: &Extents,
    queries: &Queries,
    keys: &Keys,
    tile: &mut Tile,
    state: &mut State,
    output: &mut Array<Quad>,
    statistics: &mut Array<f32>,
    #[comptime] config: DecodeConfig,
) {
    let mut begin = keys.begin;
    while begin < keys.end {
        let next = begin + comptime!(config.unroll * config.streams());
        let mut scores = scores(extents, queries, keys, tile, state, begin, config);
        if next < keys.end {
            tile.fetch_keys(sources, keys, next, config);
        }
        state.weigh(&mut scores, config);
        state.add(&scores, tile, config);
        if next < keys.end {
            tile.fetch_values(sources, keys, next, config);
        }
        begin = next;
    }
    merge_streams(state, config);
    merge_planes(extents, queries, state, output, statistics, config);
}

/// Scores of a lane's keys, for each of the queries.
#[cube]
fn scores(
    extents: &Extents,
    queries: &Queries,
    keys: &Keys,
    tile: &Tile,
    state: &State,
    begin: usize,
    #[comptime] config: DecodeConfig,
) -> Array<f32> {
    let problem = comptime!(config.problem);
    let lane_quads = comptime!(config.lane_quads());
    let mut scores = Array::<f32>::new(comptime!(config.queries * config.unroll));
    #[unroll]
    for u in 0..config.unroll {
        let index = begin + u * comptime!(config.streams()) + stream_of_lane(config);
        let mut key = Array::<Quad>::new(lane_quads);
        #[unroll]
        for quad in 0..lane_quads {
            key[quad] = quad_of_tile(&tile.keys, u, quad, config);
        }
        #[unroll]
        for q in 0..config.queries {
            let mut product = Quad::new(0.0f32);
            #[unroll]
            for quad in 0..lane_quads {
                product = fma(state.heads[comptime!(q * lane_quads + quad)], key[quad], product);
            }
            let score = sum_lanes(
                product[0] + product[1] + product[2] + product[3],
                comptime!(config.lanes()),
            );
            let visible = visible_keys(extents, keys, queries.token_of(queries.first + q, problem), problem);
            scores[comptime!(q * config.unroll + u)] = select(index < visible, score, HIDDEN.runtime());
        }
    }
    scores
}

/// A lane's quad of its key or value `u` of a round.
#[cube]
fn quad_of_tile(
    chunks: &Array<Chunk>,
    #[comptime] u: usize,
    #[comptime] quad: usize,
    #[comptime] config: DecodeConfig,
) -> Quad {
    let (chunk, quad) = comptime!((quad / config.chunk_quads(), quad % config.chunk_quads()));
    widen(
        chunks[comptime!(u * config.lane_chunks() + chunk)],
        quad,
        config.problem.packed,
    )
}

#[cube]
impl State {
    /// Makes weights of scores, under a maximum that they may raise.
    fn weigh(&mut self, scores: &mut Array<f32>, #[comptime] config: DecodeConfig) {
        let lane_quads = comptime!(config.lane_quads());
        #[unroll]
        for q in 0..config.queries {
            let previous = self.maximum[q];
            let mut next = previous;
            #[unroll]
            for u in 0..config.unroll {
                next = max(next, scores[comptime!(q * config.unroll + u)]);
            }
            let decay = (previous - next).exp();
            let mut weight_sum = self.total[q] * decay;
            #[unroll]
            for u in 0..config.unroll {
                let weight = (scores[comptime!(q * config.unroll + u)] - next).exp();
                scores[comptime!(q * config.unroll + u)] = weight;
                weight_sum += weight;
            }
            self.maximum[q] = next;
            self.total[q] = weight_sum;
            #[unroll]
            for quad in 0..lane_quads {
                let at = comptime!(q * lane_quads + quad);
                self.sums[at] = self.sums[at] * Quad::new(decay);
            }
        }
    }

    /// Adds the round's values by their weights.
    fn add(&mut self, weights: &Array<f32>, tile: &Tile, #[comptime] config: DecodeConfig) {
        let lane_quads = comptime!(config.lane_quads());
        #[unroll]
        for u in 0..config.unroll {
            #[unroll]
            for quad in 0..lane_quads {
                let value = quad_of_tile(&tile.values, u, quad, config);
                #[unroll]
                for q in 0..config.queries {
                    let at = comptime!(q * lane_quads + quad);
                    let weight = Quad::new(weights[comptime!(q * config.unroll + u)]);
                    self.sums[at] = fma(weight, value, self.sums[at]);
                }
            }
        }
    }
}

/// Merges the streams of a plane.
#[cube]
fn merge_streams(state: &mut State, #[comptime] config: DecodeConfig) {
    let lane_quads = comptime!(config.lane_quads());
    #[unroll]
    for level in 0..comptime!(DecodeConfig::levels(config.plane / config.lanes())) {
        let distance = comptime!((config.lanes() << level) as u32);
        #[unroll]
        for q in 0..config.queries {
            let other = plane_shuffle_xor(state.maximum[q], distance);
            let next = max(state.maximum[q], other);
            let decay = (state.maximum[q] - next).exp();
            let other_decay = (other - next).exp();
            state.total[q] = state.total[q] * decay + plane_shuffle_xor(state.total[q], distance) * other_decay;
            state.maximum[q] = next;
            #[unroll]
            for quad in 0..lane_quads {
                let at = comptime!(q * lane_quads + quad);
                let mut merged = Quad::empty();
                let sum = state.sums[at];
                #[unroll]
                for e in 0..4usize {
                    merged[e] = sum[e] * decay + plane_shuffle_xor(sum[e], distance) * other_decay;
                }
                state.sums[at] = merged;
            }
        }
    }
}

/// Merges the planes of the cube and writes what comes out.
#[cube]
fn merge_planes(
    extents: &Extents,
    queries: &Queries,
    state: &State,
    output: &mut Array<Quad>,
    statistics: &mut Array<f32>,
    #[comptime] config: DecodeConfig,
) {
    let problem = comptime!(config.problem);
    let columns = comptime!(problem.head_dim / 4);
    let mut sums = SharedMemory::<Quad>::new(comptime!(config.planes * config.queries * problem.head_dim / 4));
    let mut maxima = SharedMemory::<f32>::new(comptime!(config.planes * config.queries));
    let mut totals = SharedMemory::<f32>::new(comptime!(config.planes * config.queries));
    if UNIT_POS_X < comptime!(config.lanes() as u32) {
        #[unroll]
        for q in 0..config.queries {
            let row = UNIT_POS_Y as usize * config.queries + q;
            if UNIT_POS_X == 0 {
                maxima[row] = state.maximum[q];
                totals[row] = state.total[q];
            }
            #[unroll]
            for quad in 0..comptime!(config.lane_quads()) {
                let (chunk, of_chunk) = comptime!((quad / config.chunk_quads(), quad % config.chunk_quads()));
                sums[row * columns + lane_quad(chunk, of_chunk, config)] =
                    state.sums[comptime!(q * config.lane_quads() + quad)];
            }
        }
    }
    sync_cube();
    let units = comptime!(config.plane * config.planes);
    let count = comptime!(config.queries * problem.head_dim / 4);
    #[unroll]
    for step in 0..comptime!(count.div_ceil(units)) {
        let place = step * units + UNIT_POS as usize;
        let q = place / columns;
        let column = place % columns;
        if place < count && queries.first + q < queries.last {
            let mut next = LOWEST.runtime();
            #[unroll]
            for plane in 0..config.planes {
                next = max(next, maxima[plane * config.queries + q]);
            }
            let mut all = 0.0f32;
            let mut sum = Quad::new(0.0f32);
            #[unroll]
            for plane in 0..config.planes {
                let row = plane * config.queries + q;
                let decay = (maxima[row] - next).exp();
                all += totals[row] * decay;
                sum = fma(sums[row * columns + column], Quad::new(decay), sum);
            }
            let target = queries.place(queries.first + q, problem) * extents.slots as usize + queries.slot;
            output[target * columns + column] = sum;
            if column == 0 {
                statistics[2 * target] = next;
                statistics[2 * target + 1] = all;
            }
        }
    }
}

/// The cube's stream of keys that a lane belongs to.
#[cube]
pub(super) fn stream_of_lane(#[comptime] config: DecodeConfig) -> usize {
    UNIT_POS_Y as usize * comptime!(config.plane / config.lanes()) + UNIT_POS_X as usize / comptime!(config.lanes())
}

/// The sum of `value` over the lanes that share a key.
#[cube]
pub(super) fn sum_lanes(value: f32, #[comptime] lanes: usize) -> f32 {
    let mut sum = value;
    #[unroll]
    for level in 0..comptime!(DecodeConfig::levels(lanes)) {
        sum += plane_shuffle_xor(sum, comptime!(1u32 << level));
    }
    sum
}
