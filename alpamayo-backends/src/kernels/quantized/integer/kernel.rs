//! The integer product.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;
use half::f16;

use super::config::{IntegerConfig, LIMBS};
use super::rows::{scales, stage};
use crate::kernels::streamed::epilogue::{Outputs, write};
use crate::kernels::streamed::kernel::{Chunk, Sums, weight_row};
use crate::layers::Quantization;

/// Four codes in a register of the tensor core's operands.
type Bytes = Vector<i8, Const<4>>;

/// Two neighbouring results.
type Counts = Vector<i32, Const<2>>;

/// What a plane has read of its two halves of a tile: codes and steps of a unit.
#[derive(CubeType)]
struct Loaded {
    codes: Array<Chunk>,
    steps: Array<Chunk>,
}

/// The product's extents, which a kernel is compiled for: reading them first would keep the weights waiting.
#[derive(CubeType, Clone, Copy)]
struct Extents {
    /// Outputs of the product.
    rows: usize,
    /// Vectors of a weight row.
    row_vectors: usize,
    /// Those of its codes.
    code_vectors: usize,
    /// Units of a row.
    units: usize,
    /// Tiles of weight rows.
    tiles: usize,
}

/// Cube dimensions are `(32, splits, groups)`; group `UNIT_POS_Z` computes tile `(CUBE_POS · rounds + round) · groups + UNIT_POS_Z` in each
/// round, for all rows of `x`.
#[cube(launch_unchecked)]
pub(super) fn quantized_integer(
    weight: &Array<Chunk>,
    x: &Array<Vector<f32, Const<4>>>,
    norm: &ComptimeOption<Array<Vector<f32, Const<4>>>>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<f32>,
    epsilon: f32,
    #[comptime] config: IntegerConfig,
) {
    let shape = comptime!(config.streamed.shape);
    let columns = config.columns.runtime();
    let rounds = config.rounds.runtime();
    let extents = Extents {
        rows: config.rows.runtime(),
        row_vectors: comptime!(config.row_vectors()).runtime(),
        code_vectors: comptime!(config.code_vectors()).runtime(),
        units: comptime!(config.units()).runtime(),
        tiles: comptime!(config.row_tiles()).runtime(),
    };
    let split = UNIT_POS_Y as usize;
    let group = UNIT_POS_Z as usize;
    let mut loaded = Loaded {
        codes: Array::<Chunk>::new(comptime!(2 * config.chunks())),
        steps: Array::<Chunk>::new(2usize),
    };
    // The first codes are on their way while the rows of `x` are made ready.
    load(
        weight,
        &mut loaded,
        CUBE_POS * rounds * shape.groups + group,
        split,
        &extents,
        config,
    );
    let scales = scales(x, norm, columns, epsilon, config);
    let mut staged = SharedMemory::<Chunk>::new(comptime!(16 * config.staged() * config.operand_columns()));
    if comptime!(!config.phased()) {
        stage(x, norm, &scales, &mut staged, 0usize, columns, config);
        sync_cube();
    }
    let mut parts = SharedMemory::<Sums>::new(comptime!(
        128 * config.streamed.shape.groups * config.streamed.shape.splits
    ));

    for round in 0..rounds {
        let tile = (CUBE_POS * rounds + round) * shape.groups + group;
        let mut sums = Array::<Sums>::new(2usize);
        sums[0] = Sums::new(0.0f32);
        sums[1] = Sums::new(0.0f32);
        let mut unit = split;
        if comptime!(config.phased()) {
            let mut first = 0usize;
            while first < extents.units {
                sync_cube();
                stage(x, norm, &scales, &mut staged, first, columns, config);
                sync_cube();
                let end = min(first + comptime!(config.staged()), extents.units);
                while unit < end {
                    accumulate(&staged, &loaded, &mut sums, unit - first, config);
                    unit += shape.splits;
                    load_next(weight, &mut loaded, tile, unit, round + 1 < rounds, &extents, config);
                }
                first += comptime!(config.staged());
            }
        } else {
            while unit < extents.units {
                accumulate(&staged, &loaded, &mut sums, unit, config);
                unit += shape.splits;
                load_next(weight, &mut loaded, tile, unit, round + 1 < rounds, &extents, config);
            }
        }
        finish(
            &sums, &mut parts, &scales, tile, round, bias, residual, out, &extents, config,
        );
    }
}

/// Reads a plane's next unit: of the same tile, or the first one of the next tile.
#[cube]
fn load_next(
    weight: &Array<Chunk>,
    loaded: &mut Loaded,
    tile: usize,
    unit: usize,
    more: bool,
    extents: &Extents,
    #[comptime] config: IntegerConfig,
) {
    let last = unit >= extents.units;
    if !last || more {
        let tile = select(last, tile + config.streamed.shape.groups, tile);
        let unit = select(last, UNIT_POS_Y as usize, unit);
        load(weight, loaded, tile, unit, extents, config);
    }
}

/// Reads the codes and the steps of a unit, of two weight rows per lane.
#[cube]
fn load(
    weight: &Array<Chunk>,
    loaded: &mut Loaded,
    tile: usize,
    unit: usize,
    extents: &Extents,
    #[comptime] config: IntegerConfig,
) {
    let lane = UNIT_POS_X as usize;
    if tile < extents.tiles && unit < extents.units {
        let first = tile * comptime!(config.streamed.outputs_per_tile());
        #[unroll]
        for half in 0..2usize {
            let start = weight_row(first, lane / 4, 0usize, half, extents.rows, config.streamed) * extents.row_vectors;
            #[unroll]
            for part in 0..comptime!(config.chunks()) {
                let mut at = unit * comptime!(4 * config.chunks()) + comptime!(4 * part) + lane % 4;
                if comptime!(config.halved()) {
                    // Beyond the codes, where `x` is zero, but not beyond the row.
                    at = min(at, extents.row_vectors - 1);
                }
                loaded.codes[comptime!(half * config.chunks() + part)] = weight[start + at];
            }
            loaded.steps[half] = weight[start + extents.code_vectors + unit];
        }
    }
}

/// Adds the products of a unit, `at` from the first one in shared memory.
#[cube]
fn accumulate(
    staged: &SharedMemory<Chunk>,
    loaded: &Loaded,
    sums: &mut Array<Sums>,
    at: usize,
    #[comptime] config: IntegerConfig,
) {
    let tiles = comptime!(config.tiles());
    let lane = UNIT_POS_X as usize;
    let mut places = Sequence::<usize>::new();
    #[unroll]
    for tile in 0..tiles {
        places.push(at * comptime!(16 * config.operand_columns()) + column(tile, config) * 4 + lane % 4);
    }
    #[unroll]
    for pair in 0..4usize {
        let mut rights = Sequence::<Chunk>::new();
        #[unroll]
        for tile in 0..tiles {
            rights.push(staged[*places.index(tile) + comptime!(4 * pair * config.operand_columns())]);
        }
        #[unroll]
        for odd in 0..2usize {
            let block = comptime!(2 * pair + odd);
            let left = codes(loaded, block, config);
            let mut counts = Sequence::<Array<Counts>>::new();
            #[unroll]
            for tile in 0..tiles {
                counts.push(count(&left, *rights.index(tile), odd));
            }
            #[unroll]
            for half in 0..2usize {
                let step = Sums::new(step(loaded.steps[half], block));
                if comptime!(tiles == 1) {
                    sums[half] += Sums::cast_from(counts.index(0usize)[half]) * step;
                } else {
                    // Two limbs still fit into an integer.
                    let upper = counts.index(2usize)[half] * Counts::new(256i32) + counts.index(1usize)[half];
                    let value = fma(
                        Sums::cast_from(upper),
                        Sums::new(256.0f32),
                        Sums::cast_from(counts.index(0usize)[half]),
                    );
                    sums[half] += value * step;
                }
            }
        }
    }
}

/// The column in shared memory that a lane reads for a tile of the right operand. Where there is none, another one, whose results are
/// dropped.
#[cube]
fn column(#[comptime] tile: usize, #[comptime] config: IntegerConfig) -> usize {
    let tokens = comptime!(config.tokens);
    let lane = UNIT_POS_X as usize;
    if comptime!(config.tiles() == 1) {
        let limb = min(lane / 8, comptime!(LIMBS - 1));
        limb * tokens + min(lane / 4 % 2, comptime!(config.tokens - 1))
    } else {
        min(lane / 4, comptime!(config.tokens - 1)) + comptime!(tile * config.tokens)
    }
}

/// The codes of a block as signed bytes, those of four bits in the high half.
#[cube]
fn codes(loaded: &Loaded, #[comptime] block: usize, #[comptime] config: IntegerConfig) -> Array<Bytes> {
    let mut left = Array::<Bytes>::new(4usize);
    let chunks = comptime!(config.chunks());
    #[unroll]
    for half in 0..2usize {
        match comptime!(config.quantization) {
            Quantization::Int8 => {
                let at = comptime!(half * chunks + block / 4 * 2);
                left[half] = Bytes::reinterpret(loaded.codes[at][comptime!(block % 4)] ^ 0x8080_8080u32);
                left[comptime!(2 + half)] =
                    Bytes::reinterpret(loaded.codes[comptime!(at + 1)][comptime!(block % 4)] ^ 0x8080_8080u32);
            }
            Quantization::Int4 => {
                let word = loaded.codes[comptime!(half * chunks + block / 4)][comptime!(block % 4)];
                left[half] = Bytes::reinterpret(((word << 4u32) ^ 0x8080_8080u32) & 0xf0f0_f0f0u32);
                left[comptime!(2 + half)] = Bytes::reinterpret((word ^ 0x8080_8080u32) & 0xf0f0_f0f0u32);
            }
        }
    }
    left
}

/// The sums over a block, whose words lie in a half of the right vector.
#[cube]
fn count(left: &Array<Bytes>, right: Chunk, #[comptime] odd: usize) -> Array<Counts> {
    let definition = MmaDefinition::<i8, i8, i32>::new(16usize, 8usize, 32usize);
    let mut operand = Array::<Bytes>::new(2usize);
    operand[0] = Bytes::reinterpret(right[comptime!(2 * odd)]);
    operand[1] = Bytes::reinterpret(right[comptime!(2 * odd + 1)]);
    let mut counts = Array::<Counts>::new(2usize);
    counts[0] = Counts::new(0i32);
    counts[1] = Counts::new(0i32);
    definition.execute_inplace(left, &operand, &mut counts);
    counts
}

/// The step of a unit's block.
#[cube]
fn step(steps: Chunk, #[comptime] block: usize) -> f32 {
    let pair = Vector::<f16, Const<2>>::reinterpret(steps[comptime!(block / 2)]);
    f32::cast_from(pair[comptime!(block % 2)])
}

/// Adds up the planes that share columns, and writes what the product asks for.
#[cube]
fn finish(
    sums: &Array<Sums>,
    parts: &mut SharedMemory<Sums>,
    scales: &SharedMemory<f32>,
    tile: usize,
    round: usize,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<f32>,
    extents: &Extents,
    #[comptime] config: IntegerConfig,
) {
    let shape = comptime!(config.streamed.shape);
    let lane = UNIT_POS_X as usize;
    let split = UNIT_POS_Y as usize;
    // Two halves in turn: a plane that is ahead writes where nobody reads any more.
    let half = (round % 2 * shape.groups + UNIT_POS_Z as usize) * comptime!(64 * config.streamed.shape.splits);
    let base = half + lane;
    parts[base + split * 64] = sums[0];
    parts[base + split * 64 + 32] = sums[1];
    sync_cube();
    if split == round % shape.splits {
        let mut low = Sums::new(0.0f32);
        let mut high = Sums::new(0.0f32);
        #[unroll]
        for part in 0..shape.splits {
            low += parts[base + comptime!(64 * part)];
            high += parts[base + comptime!(64 * part + 32)];
        }
        if comptime!(config.tiles() == 1) {
            // Every four lanes hold a limb each, the last one none.
            let quarter = UNIT_POS_X % 4;
            let factor = select(quarter == 3, 0.0f32, f32::cast_from(1u32 << (8u32 * quarter)));
            low = limbs_sum(low * Sums::new(factor));
            high = limbs_sum(high * Sums::new(factor));
        }
        let tokens = comptime!(config.tokens);
        let mut scale = Sums::empty();
        #[unroll]
        for i in 0..2usize {
            scale[i] = scales[tokens + min(2 * (lane % 4) + i, comptime!(config.tokens - 1))];
        }
        let outputs = Outputs {
            base: 0usize.runtime(),
            tokens: tokens.runtime(),
            rows: extents.rows,
            first: tile * comptime!(config.streamed.outputs_per_tile()),
            first_token: 0usize.runtime(),
            inverse_columns: 0.0f32.runtime(),
            epsilon: 0.0f32.runtime(),
        };
        write::<f32>(
            low,
            high,
            scale,
            0usize.runtime(),
            bias,
            residual,
            out,
            &outputs,
            config.streamed,
        );
    }
}

/// The sum over every four lanes.
#[cube]
fn limbs_sum(values: Sums) -> Sums {
    let mut sum = Sums::empty();
    #[unroll]
    for i in 0..2usize {
        let pair = values[i] + plane_shuffle_xor(values[i], 1u32);
        sum[i] = pair + plane_shuffle_xor(pair, 2u32);
    }
    sum
}
