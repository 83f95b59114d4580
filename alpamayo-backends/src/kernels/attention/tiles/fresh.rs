//! The token's own queries, key and value: normalised, rotated, scaled. Each is a plane's work.

use cubecl::prelude::*;

use super::tile::Pair;
use super::{QUERIES, TilesConfig};
use crate::kernels::attention::element::{Chunk, pack_bf16};
use crate::kernels::attention::head_norm_rope_append::Tables;

/// Two neighbouring features.
pub(super) type Features = Vector<f32, Const<2>>;

/// Rows that are prepared: the queries of a key-value head, its key, its value.
pub(super) const ROWS: usize = QUERIES + 2;

/// Pairs of features that a lane reads of a key.
pub(super) const LANE_PAIRS: usize = 4;

/// What a lane has asked for of its plane's row: two pairs half a head apart, and what they are to be multiplied with.
#[derive(CubeType)]
pub(super) struct Row {
    /// Which of the rows.
    number: usize,
    low: Features,
    high: Features,
    low_weight: Features,
    high_weight: Features,
    cos: Features,
    sin: Features,
}

#[cube]
impl Row {
    /// The row of this unit's plane; the last one again behind it.
    pub fn fetch(
        qkv: &Array<Features>,
        tables: &Tables,
        stride: usize,
        entry: usize,
        head: usize,
        #[comptime] config: TilesConfig,
    ) -> Row {
        let (problem, half) = comptime!((config.problem, config.plane));
        let lane = UNIT_POS_X as usize;
        let number = (UNIT_POS_Y as usize).min(comptime!(ROWS - 1));
        let is_query = number < QUERIES;
        // Heads of keys lie behind QUERIES times as many of queries, heads of values behind one more.
        let source = select(
            is_query,
            head * QUERIES + number,
            number * problem.key_value_heads + head,
        );
        let low = qkv[entry * stride + source * comptime!(2 * config.plane) + lane];
        let high = qkv[entry * stride + source * comptime!(2 * config.plane) + lane + half];
        let angle = entry * tables.stride as usize + lane;
        let (query, key) = (tables.query_weight[lane], tables.key_weight[lane]);
        let (query_high, key_high) = (tables.query_weight[lane + half], tables.key_weight[lane + half]);
        Row {
            number,
            low,
            high,
            low_weight: choose(is_query, query, key),
            high_weight: choose(is_query, query_high, key_high),
            cos: tables.cos[angle],
            sin: tables.sin[angle],
        }
    }

    /// Prepares the row among the cube's.
    pub fn prepare(&self, fresh: &mut SharedMemory<Features>, tables: &Tables, #[comptime] config: TilesConfig) {
        let (is_query, is_value) = (self.number < QUERIES, self.number > QUERIES);
        let squares = fma(self.low, self.low, self.high * self.high);
        let mut total = squares[0] + squares[1];
        #[unroll]
        for level in 0..comptime!(config.plane.ilog2()) {
            total += plane_shuffle_xor(total, comptime!(1u32 << level));
        }
        let epsilon = select(is_query, tables.query_epsilon, tables.key_epsilon);
        let norm = 1.0f32 / (total / comptime!(config.problem.head_dim as f32) + epsilon).sqrt();
        let factor = Features::new(norm * select(is_query, tables.scale, 1.0f32));
        let low = self.low * factor * self.low_weight;
        let high = self.high * factor * self.high_weight;
        let turned_low = low * self.cos - high * self.sin;
        let turned_high = high * self.cos + low * self.sin;
        if UNIT_POS_Y < comptime!(ROWS as u32) {
            let lane = UNIT_POS_X as usize;
            fresh[place(self.number, lane, config)] = choose(is_value, self.low, turned_low);
            fresh[place(self.number, lane + config.plane, config)] = choose(is_value, self.high, turned_high);
        }
    }
}

/// Where a row's pair of features is: what lanes read side by side lies side by side.
#[cube]
fn place(row: usize, pair: usize, #[comptime] config: TilesConfig) -> usize {
    row * comptime!(2 * config.plane) + pair % LANE_PAIRS * comptime!(config.lanes()) + pair / LANE_PAIRS
}

/// A pair of features of a row's chunk that is a lane's of a key.
#[cube]
pub(super) fn lane_pair(
    fresh: &SharedMemory<Features>,
    row: usize,
    #[comptime] pair: usize,
    #[comptime] config: TilesConfig,
) -> Features {
    let lane = UNIT_POS_X as usize % comptime!(config.lanes());
    fresh[row * comptime!(2 * config.plane) + comptime!(pair * config.lanes()) + lane]
}

/// A lane's features of the new key, as the suffix stores them.
#[cube]
pub(super) fn new_key(fresh: &SharedMemory<Features>, #[comptime] config: TilesConfig) -> Chunk {
    let mut key = Chunk::empty();
    #[unroll]
    for pair in 0..LANE_PAIRS {
        let features = lane_pair(fresh, QUERIES.runtime(), pair, config);
        key[pair] = pack_bf16(features[0], features[1]);
    }
    key
}

/// A lane's features of the new value, as the suffix stores them.
#[cube]
pub(super) fn new_value(fresh: &SharedMemory<Features>, #[comptime] config: TilesConfig) -> Pair {
    let mut value = Pair::empty();
    #[unroll]
    for pair in 0..2usize {
        let features = fresh[place(comptime!(ROWS - 1).runtime(), 2 * UNIT_POS_X as usize + pair, config)];
        value[pair] = pack_bf16(features[0], features[1]);
    }
    value
}

/// `first` where it is so, `second` otherwise.
#[cube]
fn choose(is_first: bool, first: Features, second: Features) -> Features {
    let mut chosen = Features::empty();
    #[unroll]
    for i in 0..2usize {
        chosen[i] = select(is_first, first[i], second[i]);
    }
    chosen
}
