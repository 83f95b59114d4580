//! Products of many rows on the matrix units that a graphics API reaches too: cooperative matrices of bf16 with f32 sums.
//!
//! Tiles of both operands pass through shared memory, the next ones on their way in registers meanwhile: two stages of 32
//! columns, or one of 64, which hides more of the memory's latency in the 48 KB that every such device has.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::ir::{ElemType, FloatKind, features::MmaConfig};
use cubecl::prelude::*;
use half::bf16;

use crate::kernels::activation::activate;
use crate::kernels::finish::{Finish, finish};
use crate::kernels::product::{Element, Following, Product};
use crate::kernels::tensors::{array, empty, extents};
use crate::layers::Activation;

/// Side of a matrix that a plane multiplies at once.
const SIDE: usize = 16;
/// Tokens and weight rows per cube.
const TILE: usize = 128;
/// Units per plane.
const PLANE: usize = 32;
/// Planes over the tokens, and over the weight rows.
const PLANES: [usize; 2] = [2, 4];
const UNITS: usize = PLANE * PLANES[0] * PLANES[1];
/// Matrices of a plane over its tokens, and over its weight rows.
const MATRICES: [usize; 2] = [TILE / PLANES[0] / SIDE, TILE / PLANES[1] / SIDE];
/// Shared memory that a cube needs at most, in bytes.
const SHARED: usize = 4 * (Stages { deep: false }).chunks() * 16 + PLANES[0] * PLANES[1] * SIDE * SIDE * 4;

/// How the columns pass through shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stages {
    /// One stage of 64 columns instead of two of 32.
    deep: bool,
}

impl Stages {
    /// What measured best through Vulkan: deep, but for very many or very long rows.
    fn choose(tokens: usize, columns: usize) -> Self {
        Self {
            deep: tokens <= 4096 && columns <= 8256,
        }
    }

    /// Columns per step.
    const fn depth(self) -> usize {
        if self.deep { 64 } else { 32 }
    }

    /// Chunks of eight elements per staged row.
    const fn width(self) -> usize {
        self.depth() / 8
    }

    /// Chunks from a staged row to the next: odd, so that rows fall on different banks.
    const fn stride(self) -> usize {
        self.width() + 1
    }

    /// Chunks of one operand's stage.
    const fn chunks(self) -> usize {
        TILE * self.stride()
    }

    /// Stages of each operand.
    const fn count(self) -> usize {
        if self.deep { 1 } else { 2 }
    }

    /// Chunks of one operand that a unit stages per step.
    const fn fetches(self) -> usize {
        TILE * self.width() / UNITS
    }
}

/// Sixteen bytes: eight bf16.
type Chunk = Vector<u32, Const<4>>;

/// Half a chunk, as a row's elements: SPIR-V has no vectors of more than four.
type Elements = Vector<bf16, Const<4>>;

/// Whether the kernel takes the product on this device.
pub fn takes<R: CubeRuntime>(product: &Product<R>) -> bool {
    let bf16 = ElemType::Float(FloatKind::BF16).into();
    let client = &product.weight.values.client;
    let properties = client.properties();
    let hardware = &properties.hardware;
    product.weight.element == Element::Bf16
        && product.weight.columns.is_multiple_of(8)
        && hardware.plane_size_min as usize == PLANE
        && hardware.plane_size_max as usize == PLANE
        && hardware.max_shared_memory_size >= SHARED
        && properties.features.matmul.cmma.contains(&MmaConfig {
            a_type: bf16,
            b_type: bf16,
            cd_type: ElemType::Float(FloatKind::F32).into(),
            m: SIDE as u32,
            n: SIDE as u32,
            k: SIDE as u32,
        })
}

/// The product of `x` `[tokens, in]`, bf16, in f32. Norm and gate of the product are not computed here.
pub fn matmul<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let weight = &product.weight;
    let blocks = weight.rows.div_ceil(TILE) * tokens.div_ceil(TILE);
    let processors = x.client.properties().hardware.num_streaming_multiprocessors;
    let stages = Stages::choose(tokens, columns);
    let parts = parts(
        blocks,
        columns.div_ceil(stages.depth()),
        processors.unwrap_or(128) as usize,
    );
    if parts == 1 {
        return in_parts(x, product, 1, stages);
    }
    let plain = Product {
        bias: None,
        activation: Activation::None,
        residual: None,
        ..product.clone()
    };
    let after = Finish {
        parts,
        bias: product.bias.as_ref(),
        activation: product.activation,
        residual: product.residual.as_ref(),
        dtype: DType::F32,
    };
    finish(&in_parts(x, &plain, parts, stages), &after)
}

/// How many cubes share a block's columns so that a few blocks keep the device busy, each with four steps at least.
fn parts(blocks: usize, steps: usize, processors: usize) -> usize {
    if 2 * blocks > processors {
        return 1;
    }
    let wanted = (2 * processors / blocks).min(steps / 4).max(1);
    // As many as have work once every part has whole steps.
    steps.div_ceil(steps.div_ceil(wanted))
}

/// The parts of the columns' sums one behind the other, `[parts · tokens, out]`.
fn in_parts<R: CubeRuntime>(x: &CubeTensor<R>, product: &Product<R>, parts: usize, stages: Stages) -> CubeTensor<R> {
    let (tokens, columns) = extents(x);
    let weight = &product.weight;
    let out = empty(x, parts * tokens, weight.rows, DType::F32);
    let part_chunks = columns.div_ceil(stages.depth()).div_ceil(parts) * stages.width();
    // SAFETY: rows and columns are clamped or checked, results checked against the extents.
    unsafe {
        cooperative::launch_unchecked::<R>(
            &x.client,
            CubeCount::Static(
                weight.rows.div_ceil(TILE) as u32,
                tokens.div_ceil(TILE) as u32,
                parts as u32,
            ),
            CubeDim::new_2d(PLANE as u32, (UNITS / PLANE) as u32),
            array(x),
            array(&weight.values),
            product.bias.as_ref().map(|bias| array(bias)).into(),
            product.residual.as_ref().map(|residual| array(residual)).into(),
            array(&out),
            tokens as u32,
            weight.rows as u32,
            (columns / 8) as u32,
            part_chunks as u32,
            Following {
                activation: product.activation,
                operands: product.operands(),
            },
            stages,
        );
    }
    out
}

/// Cube `(block of weight rows, block of tokens, part of the columns)`, units `(plane, planes)`.
#[cube(launch_unchecked)]
fn cooperative(
    x: &Array<Chunk>,
    weight: &Array<Chunk>,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<f32>,
    tokens: u32,
    rows: u32,
    chunks: u32,
    part_chunks: u32,
    #[comptime] following: Following,
    #[comptime] stages: Stages,
) {
    let (tokens, rows, chunks) = (tokens as usize, rows as usize, chunks as usize);
    let part = CUBE_POS_Z as usize;
    let end = chunks.min((part + 1) * part_chunks as usize);
    let target = part * tokens;
    let first_row = CUBE_POS_X as usize * TILE;
    let first_token = CUBE_POS_Y as usize * TILE;
    let plane = UNIT_POS_Y as usize;
    let (plane_tokens, plane_rows) = (
        plane / comptime!(PLANES[1]) * comptime!(TILE / PLANES[0]),
        plane % comptime!(PLANES[1]) * comptime!(TILE / PLANES[1]),
    );

    // The stages of x, then those of the weight.
    let mut stage = SharedMemory::<Elements>::new_aligned(comptime!(4 * stages.count() * stages.chunks()), 16usize);
    let mut results = SharedMemory::<f32>::new(comptime!(PLANES[0] * PLANES[1] * SIDE * SIDE));
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(MATRICES[0] * MATRICES[1]) {
        sums.push(Matrix::<f32>::from_value(
            MatrixIdent::Accumulator,
            SIDE,
            SIDE,
            SIDE,
            MatrixLayout::Undefined,
            0.0f32,
        ));
    }

    let mut next = Array::<Chunk>::new(comptime!(2 * stages.fetches()));
    fetch(
        x,
        weight,
        &mut next,
        first_token,
        first_row,
        part * part_chunks as usize,
        end,
        tokens,
        rows,
        chunks,
        stages,
    );
    store(&mut stage, &next, 0usize, stages);
    sync_cube();

    let mut begin = part * part_chunks as usize;
    let mut current = 0usize;
    while begin < end {
        let more = begin + comptime!(stages.width()) < end;
        if more {
            fetch(
                x,
                weight,
                &mut next,
                first_token,
                first_row,
                begin + comptime!(stages.width()),
                end,
                tokens,
                rows,
                chunks,
                stages,
            );
        }
        #[unroll]
        for step in 0..comptime!(stages.depth() / SIDE) {
            let mut right = Sequence::<Matrix<bf16>>::new();
            #[unroll]
            for j in 0..comptime!(MATRICES[1]) {
                let at = current
                    + comptime!(stages.count() * stages.chunks())
                    + (plane_rows + comptime!(j * SIDE)) * comptime!(stages.stride())
                    + comptime!(step * SIDE / 8);
                let matrix =
                    unsafe { Matrix::<bf16>::uninitialized(MatrixIdent::B, SIDE, SIDE, SIDE, MatrixLayout::ColMajor) };
                cmma::load(
                    &matrix,
                    &stage.slice(2 * at, 2 * at + comptime!(2 * SIDE * stages.stride())),
                    comptime!(8 * stages.stride() as u32),
                );
                right.push(matrix);
            }
            #[unroll]
            for i in 0..comptime!(MATRICES[0]) {
                let at = current
                    + (plane_tokens + comptime!(i * SIDE)) * comptime!(stages.stride())
                    + comptime!(step * SIDE / 8);
                let left =
                    unsafe { Matrix::<bf16>::uninitialized(MatrixIdent::A, SIDE, SIDE, SIDE, MatrixLayout::RowMajor) };
                cmma::load(
                    &left,
                    &stage.slice(2 * at, 2 * at + comptime!(2 * SIDE * stages.stride())),
                    comptime!(8 * stages.stride() as u32),
                );
                #[unroll]
                for j in 0..comptime!(MATRICES[1]) {
                    let sum = sums.index(comptime!(i * MATRICES[1] + j));
                    cmma::execute(&left, right.index(j), sum, sum);
                }
            }
        }
        let mut other = 0usize;
        if comptime!(stages.deep) {
            // Everybody has to have read the only stage.
            sync_cube();
        } else {
            other = comptime!(stages.chunks()) - current;
        }
        if more {
            store(&mut stage, &next, other, stages);
        }
        sync_cube();
        current = other;
        begin += comptime!(stages.width());
    }

    let scratch = plane * comptime!(SIDE * SIDE);
    let lane = UNIT_POS_X as usize;
    #[unroll]
    for i in 0..comptime!(MATRICES[0]) {
        #[unroll]
        for j in 0..comptime!(MATRICES[1]) {
            cmma::store(
                &mut results.slice_mut(scratch, scratch + comptime!(SIDE * SIDE)),
                sums.index(comptime!(i * MATRICES[1] + j)),
                comptime!(SIDE as u32),
                MatrixLayout::RowMajor,
            );
            sync_cube();
            let token = first_token + plane_tokens + comptime!(i * SIDE) + lane / 2;
            #[unroll]
            for part in 0..comptime!(SIDE * SIDE / PLANE) {
                let column = lane % 2 * comptime!(SIDE * SIDE / PLANE) + part;
                let row = first_row + plane_rows + comptime!(j * SIDE) + column;
                if token < tokens && row < rows {
                    let mut value = results[scratch + lane / 2 * SIDE + column];
                    #[comptime]
                    match bias {
                        ComptimeOption::Some(bias) => {
                            value += bias[row];
                        }
                        ComptimeOption::None => {}
                    }
                    value = activate(value, following.activation);
                    #[comptime]
                    match residual {
                        ComptimeOption::Some(residual) => {
                            value += residual[token * rows + row];
                        }
                        ComptimeOption::None => {}
                    }
                    out[(target + token) * rows + row] = value;
                }
            }
            sync_cube();
        }
    }
}

/// Loads this unit's chunks of the step at chunk `begin`: of `x`, then of the weight; zeros from chunk `end` on.
#[cube]
fn fetch(
    x: &Array<Chunk>,
    weight: &Array<Chunk>,
    next: &mut Array<Chunk>,
    first_token: usize,
    first_row: usize,
    begin: usize,
    end: usize,
    tokens: usize,
    rows: usize,
    chunks: usize,
    #[comptime] stages: Stages,
) {
    #[unroll]
    for part in 0..comptime!(stages.fetches()) {
        let place = UNIT_POS as usize + comptime!(part * UNITS);
        let column = begin + place % comptime!(stages.width());
        let mut of_x = Chunk::new(0u32);
        let mut of_weight = Chunk::new(0u32);
        if column < end {
            of_x = x[(first_token + place / comptime!(stages.width())).min(tokens - 1) * chunks + column];
            of_weight = weight[(first_row + place / comptime!(stages.width())).min(rows - 1) * chunks + column];
        }
        next[part] = of_x;
        next[comptime!(stages.fetches() + part)] = of_weight;
    }
}

/// Puts the loaded chunks into the stages at `offset`.
#[cube]
fn store(stage: &mut SharedMemory<Elements>, next: &Array<Chunk>, offset: usize, #[comptime] stages: Stages) {
    #[unroll]
    for part in 0..comptime!(stages.fetches()) {
        let place = UNIT_POS as usize + comptime!(part * UNITS);
        let at =
            offset + place / comptime!(stages.width()) * comptime!(stages.stride()) + place % comptime!(stages.width());
        halves(stage, 2 * at, next[part]);
        halves(
            stage,
            2 * at + comptime!(2 * stages.count() * stages.chunks()),
            next[comptime!(stages.fetches() + part)],
        );
    }
}

/// Puts a chunk's halves next to each other.
#[cube]
fn halves(stage: &mut SharedMemory<Elements>, at: usize, chunk: Chunk) {
    #[unroll]
    for half in 0..2usize {
        let mut words = Vector::<u32, Const<2>>::empty();
        words[0] = chunk[comptime!(2 * half)];
        words[1] = chunk[comptime!(2 * half + 1)];
        stage[at + half] = Elements::reinterpret(words);
    }
}
