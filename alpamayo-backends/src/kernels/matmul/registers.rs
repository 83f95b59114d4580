//! The register-blocked kernel.

use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;
use half::f16;

use crate::kernels::activation::activate;
use crate::kernels::bits;
use crate::kernels::product::{Element, Operands, Product};
use crate::kernels::quantized;
use crate::layers::Activation;

/// Columns per step.
const DEPTH: usize = 16;

pub(super) type Quad = Vector<f32, Const<4>>;

/// The tile of a cube and the block of a unit, in tokens x weight rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TileConfig {
    /// Tokens per cube.
    pub tokens: usize,
    /// Weight rows per cube.
    pub rows: usize,
    /// Tokens per unit, a multiple of four.
    pub unit_tokens: usize,
    /// Weight rows per unit, a multiple of four.
    pub unit_rows: usize,
    /// The weight's elements.
    pub element: Element,
    /// What follows.
    pub activation: Activation,
    /// What is added.
    pub operands: Operands,
}

impl TileConfig {
    /// The tile for so many tokens.
    pub fn choose<R: CubeRuntime>(tokens: usize, product: &Product<R>) -> Self {
        let large = tokens > 64 && product.weight.rows >= 1024;
        let (tile, unit_tokens) = if large { (128, 8) } else { (64, 4) };
        Self {
            tokens: tile,
            rows: tile,
            unit_tokens,
            unit_rows: 8,
            element: product.weight.element,
            activation: product.activation,
            operands: product.operands(),
        }
    }

    /// Units per cube.
    pub fn units(&self) -> usize {
        (self.tokens / self.unit_tokens) * (self.rows / self.unit_rows)
    }

    /// Blocks of 4 x 4 elements that a unit stages per step.
    fn blocks(&self) -> usize {
        (self.tokens + self.rows) / 4 * (DEPTH / 4) / self.units()
    }
}

/// Cube `(block of weight rows, block of tokens)`.
#[cube(launch_unchecked)]
pub(super) fn matmul<V: Size, W: Size, O: Size>(
    x: &Array<Vector<f32, V>>,
    weight: &Array<Vector<u32, W>>,
    bias: &ComptimeOption<Array<Vector<f32, O>>>,
    residual: &ComptimeOption<Array<Vector<f32, O>>>,
    out: &mut Array<Vector<f32, O>>,
    tokens: u32,
    rows: u32,
    columns: u32,
    #[comptime] config: TileConfig,
) {
    let (tokens, rows, columns) = (tokens as usize, rows as usize, columns as usize);
    let first_row = CUBE_POS_X as usize * config.rows;
    let first_token = CUBE_POS_Y as usize * config.tokens;
    let unit = UNIT_POS as usize;
    let row_groups = comptime!(config.rows / config.unit_rows);
    let unit_row = unit % row_groups;
    let unit_token = unit / row_groups;
    let (token_quads, row_quads) = comptime!((config.unit_tokens / 4, config.unit_rows / 4));

    let mut x_tile = SharedMemory::<Quad>::new(comptime!(DEPTH * config.tokens / 4));
    let mut weight_tile = SharedMemory::<Quad>::new(comptime!(DEPTH * config.rows / 4));
    let mut sums = Array::<Quad>::new(comptime!(config.unit_tokens * config.unit_rows / 4));
    #[unroll]
    for i in 0..comptime!(config.unit_tokens * config.unit_rows / 4) {
        sums[i] = Quad::new(0.0f32);
    }
    let mut staged = Array::<Quad>::new(comptime!(4 * config.blocks()));
    load::<V, W>(
        x,
        weight,
        &mut staged,
        first_token,
        first_row,
        0usize,
        tokens,
        rows,
        columns,
        config,
    );

    let mut column = 0usize;
    while column < columns {
        store(&staged, &mut x_tile, &mut weight_tile, config);
        sync_cube();
        column += DEPTH;
        if column < columns {
            load::<V, W>(
                x,
                weight,
                &mut staged,
                first_token,
                first_row,
                column,
                tokens,
                rows,
                columns,
                config,
            );
        }
        for depth in 0..DEPTH {
            let mut a = Array::<Quad>::new(token_quads);
            let mut b = Array::<Quad>::new(row_quads);
            #[unroll]
            for i in 0..token_quads {
                a[i] = x_tile[depth * comptime!(config.tokens / 4) + unit_token * token_quads + i];
            }
            #[unroll]
            for j in 0..row_quads {
                b[j] = weight_tile[depth * comptime!(config.rows / 4) + unit_row * row_quads + j];
            }
            #[unroll]
            for i in 0..config.unit_tokens {
                let value = Quad::new(a[comptime!(i / 4)][comptime!(i % 4)]);
                #[unroll]
                for j in 0..row_quads {
                    let at = comptime!(i * row_quads + j);
                    sums[at] = fma(value, b[j], sums[at]);
                }
            }
        }
        sync_cube();
    }

    #[unroll]
    for i in 0..config.unit_tokens {
        let token = first_token + unit_token * config.unit_tokens + i;
        if token < tokens {
            #[unroll]
            for j in 0..row_quads {
                let row = first_row + (unit_row * row_quads + j) * 4;
                write::<O>(
                    &sums[comptime!(i * row_quads + j)],
                    bias,
                    residual,
                    out,
                    token,
                    row,
                    rows,
                    config,
                );
            }
        }
    }
}

/// Four results of a token, with bias, activation and residual.
#[cube]
fn write<O: Size>(
    sum: &Quad,
    bias: &ComptimeOption<Array<Vector<f32, O>>>,
    residual: &ComptimeOption<Array<Vector<f32, O>>>,
    out: &mut Array<Vector<f32, O>>,
    token: usize,
    row: usize,
    rows: usize,
    #[comptime] config: TileConfig,
) {
    let size = O::value();
    #[unroll]
    for part in 0..comptime!(4 / size) {
        let place = row + part * size;
        if place < rows {
            let mut values = Vector::<f32, O>::empty();
            #[unroll]
            for i in 0..size {
                values[i] = sum[comptime!(part * size + i)];
            }
            #[comptime]
            match bias {
                ComptimeOption::Some(bias) => {
                    values += bias[place / size];
                }
                ComptimeOption::None => {}
            }
            #[unroll]
            for i in 0..size {
                values[i] = activate(values[i], config.activation);
            }
            let target = (token * rows + place) / size;
            #[comptime]
            match residual {
                ComptimeOption::Some(residual) => {
                    values += residual[target];
                }
                ComptimeOption::None => {}
            }
            out[target] = values;
        }
    }
}

/// Loads this unit's blocks of the step at `column`: four rows of four columns each.
#[cube]
fn load<V: Size, W: Size>(
    x: &Array<Vector<f32, V>>,
    weight: &Array<Vector<u32, W>>,
    staged: &mut Array<Quad>,
    first_token: usize,
    first_row: usize,
    column: usize,
    tokens: usize,
    rows: usize,
    columns: usize,
    #[comptime] config: TileConfig,
) {
    let token_blocks = comptime!(config.tokens / 4 * (DEPTH / 4));
    #[unroll]
    for part in 0..comptime!(config.blocks()) {
        let block = UNIT_POS as usize + comptime!(part * config.units());
        if block < token_blocks {
            let token = first_token + block % comptime!(config.tokens / 4) * 4;
            let start = column + block / comptime!(config.tokens / 4) * 4;
            #[unroll]
            for i in 0..4usize {
                let row = min(token + i, tokens - 1);
                staged[comptime!(4 * part + i)] = read_x::<V>(x, row, start, columns);
            }
        } else {
            let block = block - token_blocks;
            let row = first_row + block % comptime!(config.rows / 4) * 4;
            let start = column + block / comptime!(config.rows / 4) * 4;
            #[unroll]
            for i in 0..4usize {
                let row = min(row + i, rows - 1);
                staged[comptime!(4 * part + i)] = read_weight::<W>(weight, row, start, columns, config.element);
            }
        }
    }
}

/// Writes the loaded blocks, columns first, so that a step reads four tokens or rows at once.
#[cube]
fn store(
    staged: &Array<Quad>,
    x_tile: &mut SharedMemory<Quad>,
    weight_tile: &mut SharedMemory<Quad>,
    #[comptime] config: TileConfig,
) {
    let token_blocks = comptime!(config.tokens / 4 * (DEPTH / 4));
    #[unroll]
    for part in 0..comptime!(config.blocks()) {
        let block = UNIT_POS as usize + comptime!(part * config.units());
        #[unroll]
        for depth in 0..4usize {
            let mut quad = Quad::empty();
            #[unroll]
            for i in 0..4usize {
                let values = staged[comptime!(4 * part + i)];
                quad[i] = values[depth];
            }
            if block < token_blocks {
                let quads = comptime!(config.tokens / 4);
                x_tile[(block / quads * 4 + depth) * quads + block % quads] = quad;
            } else {
                let block = block - token_blocks;
                let quads = comptime!(config.rows / 4);
                weight_tile[(block / quads * 4 + depth) * quads + block % quads] = quad;
            }
        }
    }
}

/// Four elements of a row of `x`, zero beyond its end.
#[cube]
fn read_x<V: Size>(x: &Array<Vector<f32, V>>, row: usize, column: usize, columns: usize) -> Quad {
    let size = V::value();
    let mut quad = Quad::new(0.0f32);
    #[unroll]
    for part in 0..comptime!(4 / size) {
        let place = column + part * size;
        if place < columns {
            let values = x[(row * columns + place) / size];
            #[unroll]
            for i in 0..size {
                quad[comptime!(part * size + i)] = values[i];
            }
        }
    }
    quad
}

/// Four elements of a row of the weight, zero beyond its end.
#[cube]
fn read_weight<W: Size>(
    weight: &Array<Vector<u32, W>>,
    row: usize,
    column: usize,
    columns: usize,
    #[comptime] element: Element,
) -> Quad {
    if comptime!(element.quantization().is_some()) {
        quantized::read_quad::<W>(weight, row, column, columns, element)
    } else {
        read_floats::<W>(weight, row, column, columns, element)
    }
}

/// As [`read_weight`], of elements that are floats.
#[cube]
fn read_floats<W: Size>(
    weight: &Array<Vector<u32, W>>,
    row: usize,
    column: usize,
    columns: usize,
    #[comptime] element: Element,
) -> Quad {
    let per_word = comptime!(element.per_word());
    let size = W::value();
    let mut quad = Quad::new(0.0f32);
    #[unroll]
    for part in 0..comptime!(4 / per_word / size) {
        let place = column + comptime!(part * size * per_word);
        if place < columns {
            let words = weight[(row * columns + place) / per_word / size];
            #[unroll]
            for i in 0..size {
                let first = comptime!((part * size + i) * per_word);
                let word = words[i];
                match comptime!(element) {
                    Element::F32 => {
                        quad[first] = f32::reinterpret(word);
                    }
                    Element::F16 => {
                        let pair = Vector::<f16, Const<2>>::reinterpret(word);
                        quad[first] = f32::cast_from(pair[0]);
                        quad[comptime!(first + 1)] = f32::cast_from(pair[1]);
                    }
                    Element::Bf16 => {
                        quad[first] = bits::low(word);
                        quad[comptime!(first + 1)] = bits::high(word);
                    }
                    Element::Int8 => {}
                    Element::Int4 => {}
                }
            }
        }
    }
    quad
}
