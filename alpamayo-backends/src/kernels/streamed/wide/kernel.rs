//! The product in wide tiles.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::barrier::{Barrier, copy_async};
use cubecl::prelude::*;
use half::bf16;

use super::super::epilogue::{self, Outputs};
use super::super::kernel::{Chunk, Pair, Sums, weight_row};
use super::config::WideConfig;

/// Tiles of tokens whose products are independent of each other in a row.
const BATCH: usize = 4;

/// The columns of a cube, in granules of which every plane multiplies two blocks.
#[derive(CubeType, Clone, Copy)]
struct Part {
    /// First granule.
    begin: usize,
    /// Granules.
    count: usize,
    /// The granule that the cube begins with. Otherwise all would read the same part of every row at a time, which is a few of the
    /// memory's channels.
    shift: usize,
    /// The weight's last step of 32 columns.
    last: usize,
}

/// Cube dimensions are `(32, splits, groups)`; cube `tile · parts + part` computes `groups · row_tiles` tiles for all tokens.
///
/// `chunks` are the 16-byte pieces of a row, `rows` the outputs (half the weight's rows where gated). `out` is
/// `[parts, tokens, rows]`.
#[cube(launch_unchecked)]
pub(super) fn wide<E: Float>(
    weight: &Array<Chunk>,
    x: &Array<Chunk>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<E>,
    tokens: u32,
    rows: u32,
    chunks: u32,
    parts: u32,
    #[comptime] config: WideConfig,
) {
    let (tokens, rows, chunks, parts) = (tokens as usize, rows as usize, chunks as usize, parts as usize);
    let index = CUBE_POS % parts;
    let steps = chunks / 4;
    let granules = (steps + comptime!(config.granule() - 1)) / comptime!(config.granule());
    let begin = granules * index / parts;
    let count = granules * (index + 1) / parts - begin;
    let part = Part {
        begin,
        count,
        shift: CUBE_POS / parts % max(count, 1usize),
        last: steps - 1,
    };
    let shape = comptime!(config.streamed.shape);
    let group = CUBE_POS / parts * shape.groups + UNIT_POS_Z as usize;
    let first = group * comptime!(config.streamed.shape.row_tiles * config.streamed.outputs_per_tile());

    let mut sums = Sequence::<Array<Sums>>::new();
    #[unroll]
    for block in 0..comptime!(config.streamed.blocks()) {
        sums.push(Array::<Sums>::new(2usize));
        let sums = sums.index_mut(block);
        sums[0] = Sums::new(0.0f32);
        sums[1] = Sums::new(0.0f32);
    }
    multiply_part(weight, x, &mut sums, part, first, tokens, rows, chunks, config);

    let outputs = Outputs {
        base: index * tokens * rows,
        tokens,
        rows,
        first,
        first_token: 0usize,
        inverse_columns: 0.0f32,
        epsilon: 0.0f32,
    };
    epilogue::finish::<E>(&sums, 0.0f32, bias, residual, out, &outputs, config.streamed);
}

/// Adds the products of a cube's columns.
#[cube]
fn multiply_part(
    weight: &Array<Chunk>,
    x: &Array<Chunk>,
    sums: &mut Sequence<Array<Sums>>,
    part: Part,
    first: usize,
    tokens: usize,
    rows: usize,
    chunks: usize,
    #[comptime] config: WideConfig,
) {
    let (pairs, half) = comptime!((config.pairs, config.granule() / 2));
    let lane = UNIT_POS_X as usize;
    let mut weights = Sequence::<usize>::new();
    #[unroll]
    for tile in 0..comptime!(config.streamed.shape.row_tiles) {
        #[unroll]
        for half in 0..2usize {
            weights.push(weight_row(first, lane / 4, tile, half, rows, config.streamed) * chunks);
        }
    }
    let mut stage = SharedMemory::<Chunk>::new_aligned(comptime!(2 * config.slab()), 16usize);
    let barrier = Barrier::shared(comptime!(config.units() as u32).runtime(), UNIT_POS == 0);
    let last_token = tokens - 1;
    let own = lane / 4 * comptime!(config.stride()) + lane % 4;
    let slabs = (part.count + comptime!(config.pairs - 1)) / pairs;

    let mut even = Array::<Chunk>::new(comptime!(config.loads()));
    let mut odd = Array::<Chunk>::new(comptime!(config.loads()));
    #[unroll]
    for load in 0..comptime!(config.loads()) {
        odd[load] = Chunk::new(0u32);
    }
    let mut current = 0usize;
    if slabs > 0 {
        fetch(
            weight,
            &weights,
            &mut even,
            first_step(part, 0usize, config),
            part.last,
            config,
        );
        copy(x, &mut stage, 0usize, 0usize, part, last_token, chunks, config);
        barrier.commit_copy_async();
    }
    barrier.arrive_and_wait();
    for slab in 0..slabs {
        let other = comptime!(config.slab()) - current;
        if slab + 1 < slabs {
            copy(x, &mut stage, other, slab + 1, part, last_token, chunks, config);
            barrier.commit_copy_async();
        }
        let start = slab * pairs;
        for local in 0..min(pairs, part.count - start) {
            let granule = start + local;
            let split = UNIT_POS_Y as usize * comptime!(config.streamed.shape.unroll);
            let at = current + own + 4 * (local * comptime!(config.granule()) + split);
            let step = first_step(part, granule, config) + half;
            if step <= part.last {
                fetch(weight, &weights, &mut odd, step, part.last, config);
            }
            multiply(&stage, at, &even, sums, config);
            if granule + 1 < part.count {
                let step = first_step(part, granule + 1, config);
                fetch(weight, &weights, &mut even, step, part.last, config);
            }
            multiply(&stage, at + 4 * half, &odd, sums, config);
        }
        barrier.arrive_and_wait();
        current = other;
    }
}

/// The plane's first step in the granule that a cube takes at a time.
#[cube]
fn first_step(part: Part, granule: usize, #[comptime] config: WideConfig) -> usize {
    granule_step(part, granule, config) + UNIT_POS_Y as usize * comptime!(config.streamed.shape.unroll)
}

/// The first step of the granule that a cube takes at a time.
#[cube]
fn granule_step(part: Part, granule: usize, #[comptime] config: WideConfig) -> usize {
    let mut at = granule + part.shift;
    if at >= part.count {
        at -= part.count;
    }
    (part.begin + at) * comptime!(config.granule())
}

/// A block of the weight on its way to registers. Beyond the last step, where `x` is zero, it is the last.
#[cube]
fn fetch(
    weight: &Array<Chunk>,
    weights: &Sequence<usize>,
    loaded: &mut Array<Chunk>,
    step: usize,
    last: usize,
    #[comptime] config: WideConfig,
) {
    let rows = comptime!(2 * config.streamed.shape.row_tiles);
    #[unroll]
    for part in 0..comptime!(config.streamed.shape.unroll) {
        let chunk = min(step + part, last) * 4 + UNIT_POS_X as usize % 4;
        #[unroll]
        for row in 0..rows {
            loaded[comptime!(part * rows + row)] = weight[*weights.index(row) + chunk];
        }
    }
    sync_plane();
}

/// A slab of `x` to the stage at `offset`, asynchronously; tokens past the last repeat it, columns past the last are zeros.
///
/// A unit copies the same column of several tokens, so that only their rows differ.
#[cube]
fn copy(
    x: &Array<Chunk>,
    stage: &mut SharedMemory<Chunk>,
    offset: usize,
    slab: usize,
    part: Part,
    last_token: usize,
    chunks: usize,
    #[comptime] config: WideConfig,
) {
    let row_chunks = comptime!(4 * config.pairs * config.granule());
    let (first, column) = (UNIT_POS as usize / row_chunks, UNIT_POS as usize % row_chunks);
    let granule = slab * config.pairs + column / comptime!(4 * config.granule());
    if granule < part.count {
        let source = 4 * granule_step(part, granule, config) + column % comptime!(4 * config.granule());
        let target = offset + first * comptime!(config.stride()) + column;
        let within = source < chunks;
        if within {
            #[unroll]
            for index in 0..comptime!(config.copies()) {
                let token = first + comptime!(index * config.tokens_per_copy());
                if comptime!((index + 1) * config.tokens_per_copy() <= config.tokens()).runtime()
                    || token < comptime!(config.tokens())
                {
                    let source = last_token.min(token) * chunks + source;
                    let target = target + comptime!(index * config.tokens_per_copy() * config.stride());
                    copy_async(
                        &x.slice(source, source + 1),
                        &mut stage.slice_mut(target, target + 1),
                        4u32,
                    );
                }
            }
        } else {
            #[unroll]
            for index in 0..comptime!(config.copies()) {
                if first + comptime!(index * config.tokens_per_copy()) < comptime!(config.tokens()) {
                    stage[target + comptime!(index * config.tokens_per_copy() * config.stride())] = Chunk::new(0u32);
                }
            }
        }
    }
}

/// Adds the products of a fetched block with the staged columns from `at` on.
#[cube]
fn multiply(
    stage: &SharedMemory<Chunk>,
    at: usize,
    loaded: &Array<Chunk>,
    sums: &mut Sequence<Array<Sums>>,
    #[comptime] config: WideConfig,
) {
    let definition = MmaDefinition::<bf16, bf16, f32>::new(16usize, 8usize, 16usize);
    let (row_tiles, token_tiles) = comptime!((config.streamed.shape.row_tiles, config.streamed.token_tiles));
    #[unroll]
    for part in 0..comptime!(config.streamed.shape.unroll) {
        let mut left = Sequence::<Array<Pair>>::new();
        #[unroll]
        for tile in 0..row_tiles {
            let low = loaded[comptime!(2 * (part * row_tiles + tile))];
            let high = loaded[comptime!(2 * (part * row_tiles + tile) + 1)];
            #[unroll]
            for half in 0..2usize {
                let mut pairs = Array::<Pair>::new(4usize);
                pairs[0] = Pair::reinterpret(low[comptime!(2 * half)]);
                pairs[1] = Pair::reinterpret(high[comptime!(2 * half)]);
                pairs[2] = Pair::reinterpret(low[comptime!(2 * half + 1)]);
                pairs[3] = Pair::reinterpret(high[comptime!(2 * half + 1)]);
                left.push(pairs);
            }
        }
        // Several tokens' products between two of the same sums, which wait for each other.
        #[unroll]
        for batch in 0..comptime!(token_tiles.div_ceil(BATCH)) {
            let count = comptime!(BATCH.min(token_tiles - batch * BATCH));
            let mut words = Sequence::<Chunk>::new();
            #[unroll]
            for index in 0..count {
                words.push(stage[at + comptime!(8 * (batch * BATCH + index) * config.stride() + 4 * part)]);
            }
            #[unroll]
            for half in 0..2usize {
                #[unroll]
                for index in 0..count {
                    let words = *words.index(index);
                    let mut right = Array::<Pair>::new(2usize);
                    right[0] = Pair::reinterpret(words[comptime!(2 * half)]);
                    right[1] = Pair::reinterpret(words[comptime!(2 * half + 1)]);
                    #[unroll]
                    for tile in 0..row_tiles {
                        let block = comptime!(tile * token_tiles + batch * BATCH + index);
                        definition.execute_inplace(
                            left.index(comptime!(2 * tile + half)),
                            &right,
                            sums.index_mut(block),
                        );
                    }
                }
            }
        }
    }
}
