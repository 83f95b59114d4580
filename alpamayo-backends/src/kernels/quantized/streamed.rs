//! Products of up to 64 rows on tensor cores, whose weights are read and widened a few times at most.
//!
//! As in the kernel for bf16, every lane takes 16 neighbouring bytes of `x` as the terms that are its own, and the codes of the same columns:
//! a word of four bits, two of eight. A code becomes a bf16 by bits: behind the exponent of 128 its low bits are a float, from which one
//! subtraction takes what was too much, exactly. Sums over a block are multiplied by the block's step in f32: the weight is not rounded.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;
use half::{bf16, f16};

use super::integer;
use crate::kernels::product::Product;
use crate::kernels::streamed::epilogue::{Outputs, finish};
use crate::kernels::streamed::kernel::{Chunk, Pair, Sums, weight_row};
use crate::kernels::streamed::{StreamedConfig, StreamedShape};
use crate::kernels::tensors::{array, cubes, empty, extents};
use crate::layers::Quantization;

/// The cut of a product: a cube has `groups` x `splits` planes, over weight rows and over the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuantizedStreamedShape {
    /// Tiles of 16 weight rows per plane.
    pub row_tiles: usize,
    /// Tiles of eight rows of `x` per plane; other cubes take the others.
    pub token_tiles: usize,
    /// Planes that share the columns of the same weight rows.
    pub splits: usize,
    /// Planes side by side over the weight rows.
    pub groups: usize,
}

/// Everything that a compiled product depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuantizedStreamedConfig {
    /// The cut and what is fused, as for bf16.
    pub streamed: StreamedConfig,
    /// The scheme.
    pub quantization: Quantization,
    /// Whether rows end before their last group does.
    pub padded: bool,
}

/// Whether this kernel is to take the product with so many rows: few are for [`integer`], and no norm is fused in front.
pub fn streams<R: CubeRuntime>(tokens: usize, product: &Product<R>) -> bool {
    !integer::takes(tokens, product) && product.weight.columns.is_multiple_of(8) && product.norm.is_none()
}

/// The product of `x` `[tokens, in]`, f32 or bf16, in f32 or rounded to bf16.
pub fn streamed<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    dtype: DType,
    quantization: Quantization,
) -> CubeTensor<R> {
    let shape = choose(extents(x).0, product);
    streamed_with(x, product, dtype, quantization, shape)
}

/// The cut for the product's extents.
pub fn choose<R: CubeRuntime>(tokens: usize, product: &Product<R>) -> QuantizedStreamedShape {
    let tall = product.weight.rows >= 12_288;
    QuantizedStreamedShape {
        row_tiles: 2,
        token_tiles: tokens.div_ceil(8).min(4),
        splits: if tall { 2 } else { 8 },
        groups: if tall { 4 } else { 1 },
    }
}

/// As [`streamed`] in a given cut.
pub fn streamed_with<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    dtype: DType,
    quantization: Quantization,
    shape: QuantizedStreamedShape,
) -> CubeTensor<R> {
    match dtype {
        DType::BF16 => launch::<R, bf16>(x, product, dtype, quantization, shape),
        _ => launch::<R, f32>(x, product, dtype, quantization, shape),
    }
}

fn launch<R: CubeRuntime, E: Float + CubeElement>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    dtype: DType,
    quantization: Quantization,
    shape: QuantizedStreamedShape,
) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let weight = &product.weight;
    let rows = product.out_features();
    let out = empty(x, tokens, rows, dtype);
    let planes = StreamedShape {
        row_tiles: shape.row_tiles,
        unroll: 1,
        splits: shape.splits,
        groups: shape.groups,
    };
    let config = QuantizedStreamedConfig {
        streamed: StreamedConfig {
            token_tiles: shape.token_tiles,
            ..StreamedConfig::new(planes, x, product)
        },
        quantization,
        padded: !columns.is_multiple_of(Quantization::GROUP),
    };
    let tiles = rows.div_ceil(config.streamed.outputs_per_tile());
    let parts = tokens.div_ceil(8 * shape.token_tiles);
    // SAFETY: rows of the weight and of `x` are clamped to the last, columns to the last eight, results are checked against the
    // extents.
    unsafe {
        quantized_streamed::launch_unchecked::<E, R>(
            &x.client,
            cubes(tiles.div_ceil(shape.row_tiles * shape.groups) * parts),
            CubeDim::new_3d(32, shape.splits as u32, shape.groups as u32),
            array(&weight.values),
            array(x),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            ArrayArg::from_raw_parts(out.handle.clone(), tokens * rows),
            tokens as u32,
            rows as u32,
            (columns / 8) as u32,
            (weight.words() / Quantization::BLOCKS) as u32,
            parts as u32,
            config,
        );
    }
    out
}

/// Cube dimensions are `(32, splits, groups)`; group `CUBE_POS / parts · groups + UNIT_POS_Z` computes `row_tiles` tiles for the
/// `CUBE_POS % parts`-th part of the tokens.
///
/// `rows` are the outputs (half the weight's rows where gated), `eights` the columns by eight, `row_vectors` the vectors of a weight row.
#[cube(launch_unchecked)]
fn quantized_streamed<E: Float>(
    weight: &Array<Chunk>,
    x: &Array<Chunk>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<E>,
    tokens: u32,
    rows: u32,
    eights: u32,
    row_vectors: u32,
    parts: u32,
    #[comptime] config: QuantizedStreamedConfig,
) {
    let streamed = comptime!(config.streamed);
    let shape = comptime!(config.streamed.shape);
    let (tokens, rows, eights, parts) = (tokens as usize, rows as usize, eights as usize, parts as usize);
    let first_token = CUBE_POS % parts * comptime!(8 * config.streamed.token_tiles);
    let group = CUBE_POS / parts * shape.groups + UNIT_POS_Z as usize;
    let first = group * comptime!(config.streamed.shape.row_tiles * config.streamed.outputs_per_tile());
    let lane = UNIT_POS_X as usize;
    let groups = (eights + comptime!(Quantization::GROUP / 8 - 1)) / comptime!(Quantization::GROUP / 8);

    let mut weights = Sequence::<usize>::new();
    #[unroll]
    for tile in 0..shape.row_tiles {
        #[unroll]
        for half in 0..2usize {
            weights.push(weight_row(first, lane / 4, tile, half, rows, streamed) * row_vectors as usize);
        }
    }
    let mut inputs = Sequence::<usize>::new();
    #[unroll]
    for tile in 0..streamed.token_tiles {
        inputs.push((tokens - 1).min(first_token + lane / 4 + comptime!(8 * tile)) * eights);
    }
    let mut sums = Sequence::<Array<Sums>>::new();
    #[unroll]
    for block in 0..comptime!(config.streamed.blocks()) {
        sums.push(Array::<Sums>::new(2usize));
        let sums = sums.index_mut(block);
        sums[0] = Sums::new(0.0f32);
        sums[1] = Sums::new(0.0f32);
    }

    // What codes of four bits are above themselves once they are floats.
    let offset = Pair::new(bf16::new(136.0));
    let mut group = UNIT_POS_Y as usize;
    while group < groups {
        accumulate(
            weight, x, &weights, &inputs, &mut sums, offset, group, groups, eights, config,
        );
        group += shape.splits;
    }

    let outputs = Outputs {
        base: 0usize,
        tokens,
        rows,
        first,
        first_token,
        inverse_columns: 0.0f32.runtime(),
        epsilon: 0.0f32.runtime(),
    };
    finish::<E>(&sums, 0.0f32.runtime(), bias, residual, out, &outputs, streamed);
}

/// Adds the products of a group.
#[cube]
fn accumulate(
    weight: &Array<Chunk>,
    x: &Array<Chunk>,
    weights: &Sequence<usize>,
    inputs: &Sequence<usize>,
    sums: &mut Sequence<Array<Sums>>,
    offset: Pair,
    group: usize,
    groups: usize,
    eights: usize,
    #[comptime] config: QuantizedStreamedConfig,
) {
    let quarter = UNIT_POS_X as usize % 4;
    let chunks = comptime!(config.quantization.chunks());
    let mut codes = Sequence::<Chunk>::new();
    let mut steps = Sequence::<Chunk>::new();
    #[unroll]
    for row in 0..comptime!(2 * config.streamed.shape.row_tiles) {
        let start = *weights.index(row);
        #[unroll]
        for part in 0..comptime!(config.quantization.chunks() / 4) {
            codes.push(weight[start + group * chunks + comptime!(4 * part) + quarter]);
        }
        // Two groups share a vector of steps.
        steps.push(weight[start + groups * chunks + group / 2]);
    }
    #[unroll]
    for block in 0..comptime!(Quantization::BLOCKS) {
        let mut eight = group * comptime!(Quantization::GROUP / 8) + comptime!(4 * block) + quarter;
        if comptime!(config.padded) {
            // Beyond the row's end codes are zero.
            eight = min(eight, eights - 1);
        }
        let mut rights = Sequence::<Chunk>::new();
        #[unroll]
        for tile in 0..comptime!(config.streamed.token_tiles) {
            rights.push(read_x(x, *inputs.index(tile) + eight, config.streamed.packed));
        }
        #[unroll]
        for tile in 0..comptime!(config.streamed.shape.row_tiles) {
            add_block(
                &codes,
                &steps,
                &rights,
                sums,
                offset,
                group % 2 == 1,
                tile,
                block,
                config,
            );
        }
    }
}

/// Adds the products of a block of 32 columns of one tile of weight rows with all rows of `x`.
#[cube]
fn add_block(
    codes: &Sequence<Chunk>,
    steps: &Sequence<Chunk>,
    rights: &Sequence<Chunk>,
    sums: &mut Sequence<Array<Sums>>,
    offset: Pair,
    odd: bool,
    #[comptime] tile: usize,
    #[comptime] block: usize,
    #[comptime] config: QuantizedStreamedConfig,
) {
    let definition = MmaDefinition::<bf16, bf16, f32>::new(16usize, 8usize, 16usize);
    let mut lefts = Sequence::<Array<Pair>>::new();
    #[unroll]
    for step in 0..2usize {
        let mut pairs = Array::<Pair>::new(4usize);
        #[unroll]
        for pair in 0..2usize {
            #[unroll]
            for half in 0..2usize {
                let row = comptime!(2 * tile + half);
                pairs[comptime!(2 * pair + half)] = widen(
                    codes,
                    offset,
                    row,
                    block,
                    comptime!(2 * step + pair),
                    config.quantization,
                );
            }
        }
        lefts.push(pairs);
    }
    let low = block_step(*steps.index(comptime!(2 * tile)), odd, block);
    let high = block_step(*steps.index(comptime!(2 * tile + 1)), odd, block);
    #[unroll]
    for token_tile in 0..comptime!(config.streamed.token_tiles) {
        let words = *rights.index(token_tile);
        let mut partial = Array::<Sums>::new(2usize);
        partial[0] = Sums::new(0.0f32);
        partial[1] = Sums::new(0.0f32);
        #[unroll]
        for step in 0..2usize {
            let mut right = Array::<Pair>::new(2usize);
            right[0] = Pair::reinterpret(words[comptime!(2 * step)]);
            right[1] = Pair::reinterpret(words[comptime!(2 * step + 1)]);
            definition.execute_inplace(lefts.index(step), &right, &mut partial);
        }
        let sums = sums.index_mut(comptime!(tile * config.streamed.token_tiles + token_tile));
        sums[0] += partial[0] * Sums::new(low);
        sums[1] += partial[1] * Sums::new(high);
    }
}

/// The `pair`-th two of a lane's eight columns in a block.
#[cube]
fn widen(
    codes: &Sequence<Chunk>,
    offset: Pair,
    #[comptime] row: usize,
    #[comptime] block: usize,
    #[comptime] pair: usize,
    #[comptime] quantization: Quantization,
) -> Pair {
    match comptime!(quantization) {
        Quantization::Int8 => {
            let chunk = *codes.index(comptime!(2 * row + pair / 2));
            let word = chunk[block] >> comptime!(8 * (pair % 2) as u32);
            // 128 and the low seven bits, less 128, or 256 where the highest bit is clear.
            let low = Pair::reinterpret((word & 0x007f_007fu32) | 0x4300_4300u32);
            low - Pair::reinterpret((word & 0x0080_0080u32) ^ 0x4380_4380u32)
        }
        Quantization::Int4 => {
            let chunk = *codes.index(row);
            let word = chunk[block] >> comptime!(4 * pair as u32);
            // 128 and the four bits, less 136.
            Pair::reinterpret((word & 0x000f_000fu32) | 0x4300_4300u32) - offset
        }
    }
}

/// A block's step, from the vector that two groups share.
#[cube]
fn block_step(words: Chunk, odd: bool, #[comptime] block: usize) -> f32 {
    let word = select(odd, words[comptime!(2 + block / 2)], words[comptime!(block / 2)]);
    let pair = Vector::<f16, Const<2>>::reinterpret(word);
    f32::cast_from(pair[comptime!(block % 2)])
}

/// Eight values of a row of `x` as bf16.
#[cube]
fn read_x(x: &Array<Chunk>, eight: usize, #[comptime] packed: bool) -> Chunk {
    if comptime!(packed) {
        x[eight]
    } else {
        let mut words = Chunk::empty();
        #[unroll]
        for part in 0..2usize {
            let bits = x[2 * eight + part];
            #[unroll]
            for i in 0..2usize {
                let mut pair = Sums::empty();
                pair[0] = f32::reinterpret(bits[comptime!(2 * i)]);
                pair[1] = f32::reinterpret(bits[comptime!(2 * i + 1)]);
                words[comptime!(2 * part + i)] = u32::reinterpret(Pair::cast_from(pair));
            }
        }
        words
    }
}
