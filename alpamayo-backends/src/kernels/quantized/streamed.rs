//! Products of up to 64 rows on tensor cores: codes are streamed from memory once.
//!
//! Every lane reads a chunk of a weight row and takes its codes, which bf16 holds exactly, as the terms that are its own. A word lies in
//! one block, so its products are summed by themselves and multiplied by the block's step in f32: the weight is not rounded.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;
use half::bf16;

use super::codes::{run, step};
use crate::kernels::bits;
use crate::kernels::product::Product;
use crate::kernels::streamed::epilogue::{Outputs, finish};
use crate::kernels::streamed::kernel::{Chunk, Pair, Sums, weight_row};
use crate::kernels::streamed::{StreamedConfig, StreamedShape};
use crate::kernels::tensors::{array, cubes, empty, extents};
use crate::layers::Quantization;

/// Everything that a compiled product depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuantizedStreamedConfig {
    /// The cut, rows and what is fused, as for bf16.
    pub streamed: StreamedConfig,
    /// The scheme.
    pub quantization: Quantization,
    /// Whether rows end before their last group does.
    pub padded: bool,
}

/// Whether the weight's rows can be streamed: a norm in front counts every input once, so none may be read twice.
pub fn streams<R: CubeRuntime>(product: &Product<R>) -> bool {
    let columns = product.weight.columns;
    columns.is_multiple_of(if product.norm.is_some() { Quantization::GROUP } else { 4 })
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

/// The cut for the product's extents: every block is summed by itself, so planes hold fewer tiles than for bf16.
fn choose<R: CubeRuntime>(tokens: usize, product: &Product<R>) -> StreamedShape {
    let tall = product.weight.rows >= 12_288;
    StreamedShape {
        row_tiles: 1,
        unroll: if tokens <= 8 { 2 } else { 1 },
        splits: if tall { 4 } else { 8 },
        groups: if tall { 2 } else { 1 },
    }
}

/// As [`streamed`] in a given cut.
pub fn streamed_with<R: CubeRuntime>(
    x: &CubeTensor<R>,
    product: &Product<R>,
    dtype: DType,
    quantization: Quantization,
    shape: StreamedShape,
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
    shape: StreamedShape,
) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let weight = &product.weight;
    let rows = product.out_features();
    let out = empty(x, tokens, rows, dtype);
    let norm = product.norm.as_ref();
    let config = QuantizedStreamedConfig {
        streamed: StreamedConfig::new(shape, x, product),
        quantization,
        padded: !columns.is_multiple_of(Quantization::GROUP),
    };
    let tiles = rows.div_ceil(config.streamed.outputs_per_tile());
    // SAFETY: rows of the weight and of `x` are clamped to the last, columns to the last four, results are checked against the
    // extents.
    unsafe {
        quantized_streamed::launch_unchecked::<E, R>(
            &x.client,
            cubes(tiles.div_ceil(shape.row_tiles * shape.groups)),
            CubeDim::new_3d(32, shape.splits as u32, shape.groups as u32),
            if config.streamed.packed { 2 } else { 4 },
            array(&weight.values),
            array(x),
            norm.map(|(norm, _)| array(norm)).into(),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            ArrayArg::from_raw_parts(out.handle.clone(), tokens * rows),
            tokens as u32,
            rows as u32,
            columns as u32,
            (weight.words() / Quantization::BLOCKS) as u32,
            1.0 / columns as f32,
            norm.map_or(0.0, |(_, epsilon)| *epsilon as f32),
            config,
        );
    }
    out
}

/// Cube dimensions are `(32, splits, groups)`; group `CUBE_POS · groups + UNIT_POS_Z` computes `row_tiles` tiles for all tokens.
///
/// `rows` are the outputs (half the weight's rows where gated), `row_vectors` the vectors of a weight row.
#[cube(launch_unchecked)]
fn quantized_streamed<E: Float, N: Size>(
    weight: &Array<Chunk>,
    x: &Array<Vector<u32, N>>,
    norm: &ComptimeOption<Array<Vector<f32, Const<4>>>>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<E>,
    tokens: u32,
    rows: u32,
    columns: u32,
    row_vectors: u32,
    inverse_columns: f32,
    epsilon: f32,
    #[comptime] config: QuantizedStreamedConfig,
) {
    let streamed = comptime!(config.streamed);
    let shape = comptime!(config.streamed.shape);
    let (tokens, rows, columns) = (tokens as usize, rows as usize, columns as usize);
    let group = CUBE_POS * shape.groups + UNIT_POS_Z as usize;
    let first = group * comptime!(config.streamed.shape.row_tiles * config.streamed.outputs_per_tile());
    let split = UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let groups = (columns + comptime!(Quantization::GROUP - 1)) / comptime!(Quantization::GROUP);

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
        inputs.push((tokens - 1).min(lane / 4 + comptime!(8 * tile)) * columns);
    }
    let mut sums = Sequence::<Array<Sums>>::new();
    #[unroll]
    for block in 0..comptime!(config.streamed.blocks()) {
        sums.push(Array::<Sums>::new(2usize));
        let sums = sums.index_mut(block);
        sums[0] = Sums::new(0.0f32);
        sums[1] = Sums::new(0.0f32);
    }
    let mut square = Array::<f32>::new(1usize);
    square[0] = 0.0f32;

    let steps = groups * comptime!(config.quantization.chunks() / 4);
    let blocks = steps / comptime!(config.streamed.shape.splits * config.streamed.shape.unroll);
    for block in 0..blocks {
        let at = (block * shape.splits + split) * shape.unroll;
        accumulate::<N>(
            weight,
            x,
            norm,
            &weights,
            &inputs,
            &mut sums,
            &mut square,
            at,
            groups,
            columns,
            shape.unroll,
            config,
        );
    }
    let mut at = blocks * comptime!(config.streamed.shape.splits * config.streamed.shape.unroll) + split;
    while at < steps {
        accumulate::<N>(
            weight,
            x,
            norm,
            &weights,
            &inputs,
            &mut sums,
            &mut square,
            at,
            groups,
            columns,
            1usize,
            config,
        );
        at += shape.splits;
    }

    let outputs = Outputs {
        base: 0usize,
        tokens,
        rows,
        first,
        inverse_columns,
        epsilon,
    };
    finish::<E>(&sums, square[0], bias, residual, out, &outputs, streamed);
}

/// Adds the products of `unroll` steps of four chunks from the `first` on.
#[cube]
fn accumulate<N: Size>(
    weight: &Array<Chunk>,
    x: &Array<Vector<u32, N>>,
    norm: &ComptimeOption<Array<Vector<f32, Const<4>>>>,
    weights: &Sequence<usize>,
    inputs: &Sequence<usize>,
    sums: &mut Sequence<Array<Sums>>,
    square: &mut Array<f32>,
    first: usize,
    groups: usize,
    columns: usize,
    #[comptime] unroll: usize,
    #[comptime] config: QuantizedStreamedConfig,
) {
    let quarter = UNIT_POS_X as usize % 4;
    let steps_per_group = comptime!(config.quantization.chunks() / 4);
    let mut codes = Sequence::<Chunk>::new();
    let mut steps = Sequence::<Chunk>::new();
    #[unroll]
    for part in 0..unroll {
        let group = (first + part) / steps_per_group;
        #[unroll]
        for row in 0..comptime!(2 * config.streamed.shape.row_tiles) {
            let start = *weights.index(row);
            codes.push(weight[start + (first + part) * 4 + quarter]);
            // Two groups share a vector of steps.
            steps.push(weight[start + groups * comptime!(config.quantization.chunks()) + group / 2]);
        }
    }
    #[unroll]
    for part in 0..unroll {
        let at = first + part;
        let group = at / steps_per_group;
        let odd = group % 2 == 1;
        let start = group * comptime!(Quantization::GROUP) + at % steps_per_group * 16 + 4 * quarter;
        #[unroll]
        for block in 0..comptime!(Quantization::BLOCKS) {
            add_block::<N>(
                x,
                norm,
                &codes,
                &steps,
                inputs,
                sums,
                square,
                start + comptime!(block * Quantization::BLOCK),
                columns,
                odd,
                part,
                block,
                config,
            );
        }
    }
}

/// Adds the products of one word of every row, from `column` on, which lies in one block.
#[cube]
fn add_block<N: Size>(
    x: &Array<Vector<u32, N>>,
    norm: &ComptimeOption<Array<Vector<f32, Const<4>>>>,
    codes: &Sequence<Chunk>,
    steps: &Sequence<Chunk>,
    inputs: &Sequence<usize>,
    sums: &mut Sequence<Array<Sums>>,
    square: &mut Array<f32>,
    column: usize,
    columns: usize,
    odd: bool,
    #[comptime] part: usize,
    #[comptime] block: usize,
    #[comptime] config: QuantizedStreamedConfig,
) {
    let definition = MmaDefinition::<bf16, bf16, f32>::new(16usize, 8usize, 16usize);
    let (row_tiles, token_tiles) = comptime!((config.streamed.shape.row_tiles, config.streamed.token_tiles));
    let mut partial = Sequence::<Array<Sums>>::new();
    #[unroll]
    for at in 0..comptime!(config.streamed.blocks()) {
        partial.push(Array::<Sums>::new(2usize));
        let partial = partial.index_mut(at);
        partial[0] = Sums::new(0.0f32);
        partial[1] = Sums::new(0.0f32);
    }
    #[unroll]
    for index in 0..comptime!(config.quantization.runs()) {
        let mut left = Sequence::<Array<Pair>>::new();
        #[unroll]
        for tile in 0..row_tiles {
            let at = comptime!(2 * (part * config.streamed.shape.row_tiles + tile));
            let (low, high) = (*codes.index(at), *codes.index(comptime!(at + 1)));
            let low = run(low[block], index, config.quantization);
            let high = run(high[block], index, config.quantization);
            let mut pairs = Array::<Pair>::new(4usize);
            pairs[0] = pair(low[0], low[1]);
            pairs[1] = pair(high[0], high[1]);
            pairs[2] = pair(low[2], low[3]);
            pairs[3] = pair(high[2], high[3]);
            left.push(pairs);
        }
        #[unroll]
        for token_tile in 0..token_tiles {
            let start = *inputs.index(token_tile);
            let at = column + comptime!(16 * index);
            let right = read_x::<N>(x, norm, square, start, at, columns, config);
            #[unroll]
            for tile in 0..row_tiles {
                let at = comptime!(tile * config.streamed.token_tiles + token_tile);
                definition.execute_inplace(left.index(tile), &right, partial.index_mut(at));
            }
        }
    }
    #[unroll]
    for tile in 0..row_tiles {
        let at = comptime!(2 * (part * config.streamed.shape.row_tiles + tile));
        let low = block_step(*steps.index(at), odd, block);
        let high = block_step(*steps.index(comptime!(at + 1)), odd, block);
        #[unroll]
        for token_tile in 0..token_tiles {
            let at = comptime!(tile * config.streamed.token_tiles + token_tile);
            let partial = partial.index(at);
            let sums = sums.index_mut(at);
            sums[0] += partial[0] * Sums::new(low);
            sums[1] += partial[1] * Sums::new(high);
        }
    }
}

/// A block's step, from the vector that two groups share.
#[cube]
fn block_step(words: Chunk, odd: bool, #[comptime] block: usize) -> f32 {
    let word = select(odd, words[comptime!(2 + block / 2)], words[comptime!(block / 2)]);
    if comptime!(block % 2 == 1) {
        step(word >> 16u32)
    } else {
        step(word & 0xffffu32)
    }
}

/// Two codes, which bf16 holds exactly.
#[cube]
fn pair(first: f32, second: f32) -> Pair {
    Pair::reinterpret((u32::reinterpret(first) >> 16u32) | (u32::reinterpret(second) & 0xffff_0000u32))
}

/// Four values of a row of `x` as bf16, times the norm's weights where there is a norm, whose squares are added up. Beyond the row's end,
/// where codes are zero, its last four.
#[cube]
fn read_x<N: Size>(
    x: &Array<Vector<u32, N>>,
    norm: &ComptimeOption<Array<Vector<f32, Const<4>>>>,
    square: &mut Array<f32>,
    start: usize,
    column: usize,
    columns: usize,
    #[comptime] config: QuantizedStreamedConfig,
) -> Array<Pair> {
    let column = if comptime!(config.padded) {
        min(column, columns - 4)
    } else {
        column
    };
    let words = x[(start + column) / 4];
    let mut right = Array::<Pair>::new(2usize);
    if comptime!(config.streamed.packed) {
        right[0] = Pair::reinterpret(words[0]);
        right[1] = Pair::reinterpret(words[1]);
    } else {
        let mut values = Vector::<f32, Const<4>>::empty();
        #[unroll]
        for i in 0..4usize {
            values[i] = f32::reinterpret(words[i]);
        }
        #[comptime]
        match norm {
            ComptimeOption::Some(norm) => {
                #[unroll]
                for i in 0..4usize {
                    square[0] = fma(values[i], values[i], square[0]);
                }
                values *= norm[column / 4];
            }
            ComptimeOption::None => {}
        }
        right[0] = Pair::reinterpret(bits::pack(values[0], values[1]));
        right[1] = Pair::reinterpret(bits::pack(values[2], values[3]));
    }
    right
}
