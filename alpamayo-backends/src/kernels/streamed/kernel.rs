//! The streamed product.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;
use half::bf16;

use super::StreamedConfig;
use super::epilogue::{Outputs, finish};

/// Sixteen bytes: eight bf16 or four f32.
pub(crate) type Chunk = Vector<u32, Const<4>>;

/// Two neighbouring terms in a register of the tensor core's operands.
pub(crate) type Pair = Vector<bf16, Const<2>>;

/// Two neighbouring results.
pub(crate) type Sums = Vector<f32, Const<2>>;

/// Cube dimensions are `(32, splits, groups)`; group `CUBE_POS · groups + UNIT_POS_Z` computes `row_tiles` tiles for all tokens.
///
/// `chunks` are the 16-byte pieces of a weight row, `rows` the outputs (half the weight's rows where gated).
#[cube(launch_unchecked)]
pub(super) fn streamed<E: Float>(
    weight: &Array<Chunk>,
    x: &Array<Chunk>,
    norm: &ComptimeOption<Array<Vector<f32, Const<4>>>>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<E>,
    tokens: u32,
    rows: u32,
    chunks: u32,
    inverse_columns: f32,
    epsilon: f32,
    #[comptime] config: StreamedConfig,
) {
    let shape = comptime!(config.shape);
    let (tokens, rows, chunks) = (tokens as usize, rows as usize, chunks as usize);
    let group = CUBE_POS * shape.groups + UNIT_POS_Z as usize;
    let first = group * comptime!(config.shape.row_tiles * config.outputs_per_tile());
    let split = UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;

    let mut weights = Sequence::<usize>::new();
    #[unroll]
    for tile in 0..shape.row_tiles {
        #[unroll]
        for half in 0..2usize {
            weights.push(weight_row(first, lane / 4, tile, half, rows, config) * chunks);
        }
    }
    let mut inputs = Sequence::<usize>::new();
    #[unroll]
    for tile in 0..config.token_tiles {
        inputs.push((tokens - 1).min(lane / 4 + comptime!(8 * tile)) * chunks);
    }
    let mut sums = Sequence::<Array<Sums>>::new();
    #[unroll]
    for block in 0..comptime!(config.blocks()) {
        sums.push(Array::<Sums>::new(2usize));
        let sums = sums.index_mut(block);
        sums[0] = Sums::new(0.0f32);
        sums[1] = Sums::new(0.0f32);
    }
    let mut square = Array::<f32>::new(1usize);
    square[0] = 0.0f32;

    let steps = chunks / 4;
    let blocks = steps / comptime!(config.shape.splits * config.shape.unroll);
    // Cubes begin at different columns: otherwise all would read the same part of every row at a time, which is a few of the
    // memory's channels.
    let shift = CUBE_POS % max(blocks, 1usize);
    for index in 0..blocks {
        let mut block = index + shift;
        if block >= blocks {
            block -= blocks;
        }
        let step = (block * shape.splits + split) * shape.unroll;
        accumulate(
            weight,
            x,
            norm,
            &weights,
            &inputs,
            &mut sums,
            &mut square,
            step,
            shape.unroll,
            config,
        );
    }
    let mut step = blocks * comptime!(config.shape.splits * config.shape.unroll) + split;
    while step < steps {
        accumulate(
            weight,
            x,
            norm,
            &weights,
            &inputs,
            &mut sums,
            &mut square,
            step,
            1usize,
            config,
        );
        step += shape.splits;
    }

    let outputs = Outputs {
        base: 0usize,
        tokens,
        rows,
        first,
        first_token: 0usize.runtime(),
        inverse_columns,
        epsilon,
    };
    finish::<E>(&sums, square[0], bias, residual, out, &outputs, config);
}

/// The weight row of a tile's half that a lane reads; beyond the end the last, whose result is dropped.
#[cube]
pub(crate) fn weight_row(
    first: usize,
    row: usize,
    #[comptime] tile: usize,
    #[comptime] half: usize,
    rows: usize,
    #[comptime] config: StreamedConfig,
) -> usize {
    if comptime!(config.gated) {
        min(first + row + comptime!(8 * tile), rows - 1) + half * rows
    } else {
        min(first + row + comptime!(16 * tile + 8 * half), rows - 1)
    }
}

/// Adds the products of `unroll` steps of 32 columns.
#[cube]
fn accumulate(
    weight: &Array<Chunk>,
    x: &Array<Chunk>,
    norm: &ComptimeOption<Array<Vector<f32, Const<4>>>>,
    weights: &Sequence<usize>,
    inputs: &Sequence<usize>,
    sums: &mut Sequence<Array<Sums>>,
    square: &mut Array<f32>,
    step: usize,
    #[comptime] unroll: usize,
    #[comptime] config: StreamedConfig,
) {
    let definition = MmaDefinition::<bf16, bf16, f32>::new(16usize, 8usize, 16usize);
    let row_tiles = comptime!(config.shape.row_tiles);
    let quarter = UNIT_POS_X as usize % 4;
    let mut loaded = Sequence::<Chunk>::new();
    #[unroll]
    for part in 0..unroll {
        #[unroll]
        for row in 0..comptime!(2 * config.shape.row_tiles) {
            loaded.push(weight[*weights.index(row) + (step + part) * 4 + quarter]);
        }
    }
    #[unroll]
    for part in 0..unroll {
        let chunk = (step + part) * 4 + quarter;
        let mut left = Sequence::<Array<Pair>>::new();
        #[unroll]
        for tile in 0..row_tiles {
            let at = comptime!(2 * (part * config.shape.row_tiles + tile));
            let (low, high) = (*loaded.index(at), *loaded.index(comptime!(at + 1)));
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
        #[unroll]
        for token_tile in 0..config.token_tiles {
            let words = read_x(x, norm, square, *inputs.index(token_tile), chunk, config);
            #[unroll]
            for half in 0..2usize {
                let mut right = Array::<Pair>::new(2usize);
                right[0] = Pair::reinterpret(words[comptime!(2 * half)]);
                right[1] = Pair::reinterpret(words[comptime!(2 * half + 1)]);
                #[unroll]
                for tile in 0..row_tiles {
                    let block = comptime!(tile * config.token_tiles + token_tile);
                    definition.execute_inplace(left.index(comptime!(2 * tile + half)), &right, sums.index_mut(block));
                }
            }
        }
    }
}

/// Eight values of a row of `x` as bf16, times the norm's weights where there is a norm, whose squares are added up.
#[cube]
fn read_x(
    x: &Array<Chunk>,
    norm: &ComptimeOption<Array<Vector<f32, Const<4>>>>,
    square: &mut Array<f32>,
    row: usize,
    chunk: usize,
    #[comptime] config: StreamedConfig,
) -> Chunk {
    if comptime!(config.packed) {
        x[row + chunk]
    } else {
        let mut words = Chunk::empty();
        #[unroll]
        for part in 0..2usize {
            let bits = x[2 * (row + chunk) + part];
            let mut values = Vector::<f32, Const<4>>::empty();
            #[unroll]
            for i in 0..4usize {
                values[i] = f32::reinterpret(bits[i]);
            }
            #[comptime]
            match norm {
                ComptimeOption::Some(norm) => {
                    #[unroll]
                    for i in 0..4usize {
                        square[0] = fma(values[i], values[i], square[0]);
                    }
                    values *= norm[2 * chunk + part];
                }
                ComptimeOption::None => {}
            }
            #[unroll]
            for i in 0..2usize {
                let mut pair = Sums::empty();
                pair[0] = values[comptime!(2 * i)];
                pair[1] = values[comptime!(2 * i + 1)];
                words[comptime!(2 * part + i)] = u32::reinterpret(Pair::cast_from(pair));
            }
        }
        words
    }
}
