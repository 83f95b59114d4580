//! The kernel.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

use super::packed;
use super::tile::Tile;
use crate::kernels::activation::{activate, silu};
use crate::kernels::bits;
use crate::kernels::cooperative::{Chunk, Elements, SIDE, operand, store_chunk, zeros};
use crate::kernels::product::{Element, Following};
use crate::kernels::quantized::scheme;

/// What is multiplied, and what becomes of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// How the weight's elements lie.
    pub element: Element,
    pub following: Following,
    /// Whether the weight's rows are a gate, then an up projection.
    pub gated: bool,
    /// Whether results are bf16.
    pub packed: bool,
    /// Elements per vector: four, or one.
    pub vector: usize,
    /// Whether every part of the columns ends with a round of steps.
    pub whole: bool,
}

impl Form {
    /// Vectors from a row of a plane's results to the next.
    fn stride(self, tile: Tile) -> usize {
        tile.result_stride() / self.vector
    }

    /// Vectors of half a matrix's row.
    fn groups(self) -> usize {
        SIDE / 2 / self.vector
    }
}

/// The cube's block of the form.
#[derive(CubeType)]
pub(super) struct Block {
    first_token: usize,
    /// First output.
    first: usize,
    tokens: usize,
    /// All outputs.
    outputs: usize,
    /// Chunks of eight columns of a row.
    pub chunks: usize,
    /// One past the last chunk of the cube's part.
    end: usize,
}

/// What a unit has asked for and not put into shared memory.
#[derive(CubeType)]
struct OnTheWay<P: Size> {
    /// Of `x`, then of the weight.
    chunks: Array<Chunk>,
    /// Of a weight of few bits.
    packed: Array<Vector<u32, P>>,
}

/// Cube `(block of weight rows, block of tokens, part of the columns)`, units `(plane, planes)`.
///
/// `out` is words: an f32 or, where `packed`, two bf16 each.
#[cube(launch_unchecked)]
pub(super) fn cooperative<P: Size, V: Size, W: Size>(
    x: &Array<Chunk>,
    weight: &Array<Vector<u32, P>>,
    bias: &ComptimeOption<Array<Vector<f32, V>>>,
    residual: &ComptimeOption<Array<Vector<f32, V>>>,
    out: &mut Array<Vector<u32, W>>,
    tokens: u32,
    outputs: u32,
    chunks: u32,
    part_chunks: u32,
    #[comptime] form: Form,
    #[comptime] tile: Tile,
) {
    let part = CUBE_POS_Z as usize;
    let part_chunks = part_chunks as usize;
    let block = Block {
        first_token: CUBE_POS_Y as usize * tile.tokens,
        first: CUBE_POS_X as usize * comptime!(tile.rows / if form.gated { 2 } else { 1 }),
        tokens: tokens as usize,
        outputs: outputs as usize,
        chunks: chunks as usize,
        end: (chunks as usize).min((part + 1) * part_chunks),
    };
    let plane = UNIT_POS_Y as usize;
    let plane_token = plane / comptime!(tile.planes[1]) * comptime!(tile.tokens / tile.planes[0]);
    let plane_row = plane % comptime!(tile.planes[1]) * comptime!(tile.rows / tile.planes[1]);

    // The stages of x, then those of the weight.
    let mut stage = SharedMemory::<Elements>::new_aligned(
        comptime!(2 * tile.stages * (tile.tokens + tile.rows) * tile.stride()),
        16usize,
    );
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(tile.matrices()[0] * tile.matrices()[1]) {
        sums.push(zeros());
    }
    // Chunk `n` of a step that is `n` steps away lies in slot `n % ahead`.
    let mut next = OnTheWay::<P> {
        chunks: Array::new(comptime!(tile.ahead * tile.slot(form.element))),
        packed: Array::new(comptime!(tile.ahead * tile.packed_slot(form.element))),
    };
    let mut begin = part * part_chunks;
    #[unroll]
    for slot in 0..tile.ahead {
        let first = begin + comptime!(slot * tile.width());
        fetch(x, weight, &mut next, &block, first, slot, form, tile);
    }
    store(&mut stage, &next, &block, begin, 0usize, 0usize, form, tile);
    let following = begin + comptime!(tile.ahead * tile.width());
    fetch(x, weight, &mut next, &block, following, 0usize, form, tile);
    sync_cube();

    let mut current = 0usize;
    while begin < block.end {
        #[unroll]
        for turn in 0..tile.ahead {
            multiply(&stage, &sums, plane_token, plane_row, current, tile);
            if comptime!(tile.stages == 1) {
                // Everybody has to have read the only stage.
                sync_cube();
            } else {
                current = 1 - current;
            }
            let slot = comptime!((turn + 1) % tile.ahead);
            let stored = begin + comptime!((turn + 1) * tile.width());
            store(&mut stage, &next, &block, stored, slot, current, form, tile);
            let following = stored + comptime!(tile.ahead * tile.width());
            fetch(x, weight, &mut next, &block, following, slot, form, tile);
            sync_cube();
        }
        begin += comptime!(tile.ahead * tile.width());
    }

    write(&sums, bias, residual, out, &block, part, form, tile);
}

/// The results of the plane's sums, one matrix after another through shared memory.
#[cube]
fn write<V: Size, W: Size>(
    sums: &Sequence<Matrix<f32>>,
    bias: &ComptimeOption<Array<Vector<f32, V>>>,
    residual: &ComptimeOption<Array<Vector<f32, V>>>,
    out: &mut Array<Vector<u32, W>>,
    block: &Block,
    part: usize,
    #[comptime] form: Form,
    #[comptime] tile: Tile,
) {
    let mut stage = SharedMemory::<Vector<f32, V>>::new(comptime!(tile.units() / 2 * form.stride(tile)));
    let columns = comptime!(tile.matrices()[1]);
    let outputs = comptime!(tile.matrices()[1] / if form.gated { 2 } else { 1 });
    let plane = UNIT_POS_Y as usize;
    let first_token = block.first_token
        + plane / comptime!(tile.planes[1]) * comptime!(tile.tokens / tile.planes[0])
        + UNIT_POS_X as usize / 2;
    let first = block.first + plane % comptime!(tile.planes[1]) * outputs * SIDE;
    #[unroll]
    for i in 0..comptime!(tile.matrices()[0]) {
        let token = first_token + comptime!(i * SIDE);
        #[unroll]
        for j in 0..outputs {
            let mut values = Array::<Vector<f32, V>>::new(comptime!(form.groups()));
            read(
                sums.index(comptime!(i * columns + j)),
                &mut stage,
                &mut values,
                form,
                tile,
            );
            if comptime!(form.gated) {
                let mut ups = Array::<Vector<f32, V>>::new(comptime!(form.groups()));
                read(
                    sums.index(comptime!(i * columns + outputs + j)),
                    &mut stage,
                    &mut ups,
                    form,
                    tile,
                );
                #[unroll]
                for group in 0..comptime!(form.groups()) {
                    let gates = values[group];
                    let mut gated = Vector::<f32, V>::empty();
                    #[unroll]
                    for e in 0..form.vector {
                        gated[e] = silu(gates[e]);
                    }
                    values[group] = gated * ups[group];
                }
            }
            #[unroll]
            for group in 0..comptime!(form.groups()) {
                let output = first + comptime!(j * SIDE) + unit_column(group) * form.vector;
                if token < block.tokens && output < block.outputs {
                    let mut values = values[group];
                    #[comptime]
                    match bias {
                        ComptimeOption::Some(bias) => {
                            values += bias[output / form.vector];
                        }
                        ComptimeOption::None => {}
                    }
                    let mut active = Vector::<f32, V>::empty();
                    #[unroll]
                    for e in 0..form.vector {
                        active[e] = activate(values[e], form.following.activation);
                    }
                    #[comptime]
                    match residual {
                        ComptimeOption::Some(residual) => {
                            active += residual[(token * block.outputs + output) / form.vector];
                        }
                        ComptimeOption::None => {}
                    }
                    out[((part * block.tokens + token) * block.outputs + output) / form.vector] =
                        bits::words::<V, W>(active, form.packed);
                }
            }
        }
    }
}

/// The vectors of a matrix that are this unit's: every second one of half a plane's row.
#[cube]
fn read<V: Size>(
    matrix: &Matrix<f32>,
    stage: &mut SharedMemory<Vector<f32, V>>,
    values: &mut Array<Vector<f32, V>>,
    #[comptime] form: Form,
    #[comptime] tile: Tile,
) {
    let stride = comptime!(form.stride(tile));
    let first = UNIT_POS_Y as usize * comptime!(SIDE * form.stride(tile));
    cmma::store(
        &mut stage.slice_mut(first, first + comptime!(SIDE * form.stride(tile))),
        matrix,
        comptime!(tile.result_stride() as u32),
        MatrixLayout::RowMajor,
    );
    sync_cube();
    #[unroll]
    for group in 0..comptime!(form.groups()) {
        values[group] = stage[first + UNIT_POS_X as usize / 2 * stride + unit_column(group)];
    }
    sync_cube();
}

/// The column, in vectors, of the unit's vector `group` in a row of a matrix: neighbours take turns.
#[cube]
fn unit_column(#[comptime] group: usize) -> usize {
    comptime!(2 * group) + UNIT_POS_X as usize % 2
}

/// Adds the products of a stage to the plane's sums.
#[cube]
fn multiply(
    stage: &SharedMemory<Elements>,
    sums: &Sequence<Matrix<f32>>,
    plane_token: usize,
    plane_row: usize,
    current: usize,
    #[comptime] tile: Tile,
) {
    let of_x = current * comptime!(tile.tokens * tile.stride());
    let of_weight =
        comptime!(tile.stages * tile.tokens * tile.stride()) + current * comptime!(tile.rows * tile.stride());
    #[unroll]
    for step in 0..comptime!(tile.depth / SIDE) {
        let mut right = Sequence::<Matrix<half::bf16>>::new();
        #[unroll]
        for j in 0..comptime!(tile.matrices()[1]) {
            let row = plane_row + comptime!(j * SIDE);
            right.push(operand(
                stage,
                of_weight + row * comptime!(tile.stride()) + comptime!(2 * step),
                MatrixIdent::B,
                MatrixLayout::ColMajor,
                comptime!(tile.stride()),
            ));
        }
        #[unroll]
        for i in 0..comptime!(tile.matrices()[0]) {
            let token = plane_token + comptime!(i * SIDE);
            let left = operand(
                stage,
                of_x + token * comptime!(tile.stride()) + comptime!(2 * step),
                MatrixIdent::A,
                MatrixLayout::RowMajor,
                comptime!(tile.stride()),
            );
            #[unroll]
            for j in 0..comptime!(tile.matrices()[1]) {
                let sum = sums.index(comptime!(i * tile.matrices()[1] + j));
                cmma::execute(&left, right.index(j), sum, sum);
            }
        }
    }
}

/// Asks for this unit's chunks of the step at chunk `begin`, of `x`, then of the weight; from the part's end on for its last chunk.
///
/// Nothing here depends on a condition: loads that do are waited for one by one.
#[cube]
fn fetch<P: Size>(
    x: &Array<Chunk>,
    weight: &Array<Vector<u32, P>>,
    next: &mut OnTheWay<P>,
    block: &Block,
    begin: usize,
    #[comptime] slot: usize,
    #[comptime] form: Form,
    #[comptime] tile: Tile,
) {
    let first = comptime!(slot * tile.slot(form.element));
    let column = (begin + unit_chunk(tile)).min(block.end - 1);
    #[unroll]
    for step in 0..comptime!(tile.fetches(tile.tokens)) {
        let token = (block.first_token + staged_row(step, tile)).min(block.tokens - 1);
        next.chunks[comptime!(first + step)] = x[token * block.chunks + column];
    }
    if comptime!(form.element.quantization().is_some()) {
        packed::fetch(
            weight,
            &mut next.packed,
            block,
            begin,
            slot,
            form.gated,
            tile,
            comptime!(scheme(form.element)),
        );
    } else {
        #[unroll]
        for step in 0..comptime!(tile.fetches(tile.rows)) {
            let row = weight_row(staged_row(step, tile), block, form.gated, tile);
            let words = weight[row * block.chunks + column];
            let mut chunk = Chunk::empty();
            #[unroll]
            for i in 0..4usize {
                chunk[i] = words[i];
            }
            next.chunks[comptime!(first + tile.fetches(tile.tokens) + step)] = chunk;
        }
    }
}

/// The chunk of a staged row that a unit loads.
#[cube]
fn unit_chunk(#[comptime] tile: Tile) -> usize {
    UNIT_POS as usize % comptime!(tile.width())
}

/// The row of an operand's stage that a unit loads of.
#[cube]
fn staged_row(#[comptime] step: usize, #[comptime] tile: Tile) -> usize {
    UNIT_POS as usize / comptime!(tile.width()) + comptime!(step * tile.units() / tile.width())
}

/// The weight row that is staged in row `local`, the last one past it: of a gated product, a plane's gates, then what they belong to.
#[cube]
pub(super) fn weight_row(local: usize, block: &Block, #[comptime] gated: bool, #[comptime] tile: Tile) -> usize {
    if comptime!(gated) {
        let share = comptime!(tile.rows / tile.planes[1]);
        let outputs = comptime!(tile.rows / tile.planes[1] / 2);
        let within = local % share;
        let output = block.first + local / share * outputs + within % outputs;
        within / outputs * block.outputs + output.min(block.outputs - 1)
    } else {
        (block.first + local).min(block.outputs - 1)
    }
}

/// Puts the chunks of a slot, those at chunk `begin`, into stage `stage_index`: of `x`, zeros from the part's end on.
#[cube]
fn store<P: Size>(
    stage: &mut SharedMemory<Elements>,
    next: &OnTheWay<P>,
    block: &Block,
    begin: usize,
    #[comptime] slot: usize,
    stage_index: usize,
    #[comptime] form: Form,
    #[comptime] tile: Tile,
) {
    let first = comptime!(slot * tile.slot(form.element));
    let of_x = stage_index * comptime!(tile.tokens * tile.stride());
    let of_weight =
        comptime!(tile.stages * tile.tokens * tile.stride()) + stage_index * comptime!(tile.rows * tile.stride());
    #[unroll]
    for step in 0..comptime!(tile.fetches(tile.tokens)) {
        let mut chunk = next.chunks[comptime!(first + step)];
        if comptime!(!form.whole) {
            let inside = begin + unit_chunk(tile) < block.end;
            chunk &= Chunk::new(select(inside, u32::MAX, 0u32));
        }
        store_chunk(stage, of_x + place_in_stage(step, tile), chunk);
    }
    if comptime!(form.element.quantization().is_some()) {
        packed::store(
            stage,
            &next.packed,
            begin,
            of_weight,
            slot,
            tile,
            comptime!(scheme(form.element)),
        );
    } else {
        #[unroll]
        for step in 0..comptime!(tile.fetches(tile.rows)) {
            let chunk = next.chunks[comptime!(first + tile.fetches(tile.tokens) + step)];
            store_chunk(stage, of_weight + place_in_stage(step, tile), chunk);
        }
    }
}

/// Where a unit's chunk of a step lies in an operand's stage.
#[cube]
fn place_in_stage(#[comptime] step: usize, #[comptime] tile: Tile) -> usize {
    staged_row(step, tile) * comptime!(tile.stride()) + unit_chunk(tile)
}
