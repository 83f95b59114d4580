//! A plane's keys and values.

use cubecl::prelude::*;

use super::TilesConfig;
use crate::kernels::attention::element::{Chunk, Quad};

/// Four bf16.
pub(super) type Pair = Vector<u32, Const<2>>;

/// Keys and values of the prompt and of the suffix `[entries, heads, positions, head_dim]`, positions one after another. Strides in chunks.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Cache {
    pub prompt_key: Array<Chunk>,
    pub prompt_value: Array<Pair>,
    pub suffix_key: Array<Chunk>,
    pub suffix_value: Array<Pair>,
    pub prompt_entry: u32,
    pub prompt_head: u32,
    pub suffix_entry: u32,
    pub suffix_head: u32,
}

/// The positions of a plane's tile.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Span {
    /// The first that is asked for.
    pub first: usize,
    /// The first that counts, and the one behind the last.
    pub begin: usize,
    pub end: usize,
}

/// What a lane has asked for: of every second key eight features, of every value four.
#[derive(CubeType)]
pub(super) struct Tile {
    pub keys: Array<Chunk>,
    pub values: Array<Pair>,
}

#[cube]
impl Tile {
    pub fn new(#[comptime] config: TilesConfig) -> Tile {
        Tile {
            keys: Array::<Chunk>::new(comptime!(config.loads())),
            values: Array::<Pair>::new(config.keys),
        }
    }

    /// Asks for a tile of a prompt. All of its positions are the prompt's, so that one offset leads to each.
    pub fn fetch_prompt(
        &mut self,
        cache: &Cache,
        entry: usize,
        head: usize,
        first: usize,
        #[comptime] config: TilesConfig,
    ) {
        let lanes = comptime!(config.lanes());
        let lane = UNIT_POS_X as usize;
        let place = entry * cache.prompt_entry as usize + head * cache.prompt_head as usize + first * lanes;
        let key = place + lane;
        #[unroll]
        for load in 0..comptime!(config.loads()) {
            self.keys[load] = cache.prompt_key[key + comptime!(load * config.plane)];
        }
        let value = 2 * place + lane;
        #[unroll]
        for key in 0..config.keys {
            self.values[key] = cache.prompt_value[value + comptime!(key * config.plane)];
        }
    }

    /// Asks for a tile of a suffix of so many keys: behind its end for the last one again.
    pub fn fetch_suffix(
        &mut self,
        cache: &Cache,
        entry: usize,
        head: usize,
        first: usize,
        length: usize,
        #[comptime] config: TilesConfig,
    ) {
        let lanes = comptime!(config.lanes());
        let lane = UNIT_POS_X as usize;
        let place = entry * cache.suffix_entry as usize + head * cache.suffix_head as usize;
        let last = length.max(1) - 1;
        #[unroll]
        for load in 0..comptime!(config.loads()) {
            let position = (first + half(config) + comptime!(2 * load)).min(last);
            self.keys[load] = cache.suffix_key[place + position * lanes + lane % lanes];
        }
        #[unroll]
        for key in 0..config.keys {
            let position = (first + key).min(last);
            self.values[key] = cache.suffix_value[2 * (place + position * lanes) + lane];
        }
    }

    /// Takes one key and value in the place of all.
    pub fn set(&mut self, key: Chunk, value: Pair, #[comptime] config: TilesConfig) {
        #[unroll]
        for load in 0..comptime!(config.loads()) {
            self.keys[load] = key;
        }
        #[unroll]
        for at in 0..config.keys {
            self.values[at] = value;
        }
    }
}

/// Which of two neighbouring keys a lane reads.
#[cube]
pub(super) fn half(#[comptime] config: TilesConfig) -> usize {
    UNIT_POS_X as usize / comptime!(config.lanes())
}

/// Four bf16 as f32.
#[cube]
pub(super) fn widen_pair(pair: Pair) -> Quad {
    let mut quad = Quad::empty();
    #[unroll]
    for word in 0..2usize {
        quad[comptime!(2 * word)] = f32::reinterpret(pair[word] << 16u32);
        quad[comptime!(2 * word + 1)] = f32::reinterpret(pair[word] & 0xffff_0000u32);
    }
    quad
}
