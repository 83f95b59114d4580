//! The products of queries and keys, of weights and values, and how their operands come to shared memory.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;
use half::bf16;

use super::weights::store_matrix;
use super::{CooperativeConfig, Stages, first_row};
use crate::kernels::attention::element::Chunk;
use crate::kernels::attention::problem::{HeadQueries, Keys, Side, Sources, at, read};
use crate::kernels::cooperative::{SIDE, operand, store_chunk, zeros};

/// Zeros in the columns past the head of all staged rows.
#[cube]
pub(super) fn fill_columns(stages: &mut Stages, #[comptime] config: CooperativeConfig) {
    if comptime!(config.chunks() < 2 * config.depth()) {
        let units = comptime!(config.units());
        #[unroll]
        for step in 0..comptime!((2 * config.keys).div_ceil(units)) {
            let row = step * units + UNIT_POS as usize;
            if row < comptime!(2 * config.keys) {
                let at = row * comptime!(config.stride()) + comptime!(config.chunks());
                store_chunk(&mut stages.tile, at, Chunk::new(0u32));
            }
        }
    }
}

/// The plane's queries as left operands, through the stage as many at once as it takes; those past the last token repeat it.
#[cube]
pub(super) fn load_queries(
    query: &Array<Chunk>,
    stages: &mut Stages,
    queries: &HeadQueries,
    #[comptime] config: CooperativeConfig,
) -> Sequence<Matrix<bf16>> {
    let kept = no_queries(config);
    let chunks = comptime!(config.chunks());
    let units = comptime!(config.units());
    let rows = comptime!(2 * config.keys);
    let count = comptime!(rows * config.chunks());
    #[unroll]
    for pass in 0..comptime!(config.rows().div_ceil(2 * config.keys)) {
        #[unroll]
        for step in 0..comptime!(count.div_ceil(units)) {
            let place = step * units + UNIT_POS as usize;
            if place < count {
                let (local, column) = (place / chunks, place % chunks);
                let (head, token) = query_of_row(queries, pass * rows + local, config);
                let chunk = query[(token * config.problem.heads + head) * chunks + column];
                store_chunk(&mut stages.tile, local * comptime!(config.stride()) + column, chunk);
            }
        }
        sync_cube();
        keep_queries(&kept, stages, pass, config);
        sync_cube();
    }
    kept
}

/// The plane's left operands before they are loaded.
#[cube]
pub(super) fn no_queries(#[comptime] config: CooperativeConfig) -> Sequence<Matrix<bf16>> {
    let mut kept = Sequence::<Matrix<bf16>>::new();
    #[unroll]
    for _ in 0..comptime!(config.tiles * config.depth()) {
        // SAFETY: every plane's rows are in one of the passes, which loads them.
        kept.push(unsafe { Matrix::<bf16>::uninitialized(MatrixIdent::A, SIDE, SIDE, SIDE, MatrixLayout::RowMajor) });
    }
    kept
}

/// Loads the plane's left operands where their rows are in the stage in this pass.
#[cube]
pub(super) fn keep_queries(
    kept: &Sequence<Matrix<bf16>>,
    stages: &Stages,
    pass: usize,
    #[comptime] config: CooperativeConfig,
) {
    let rows = comptime!(2 * config.keys);
    #[unroll]
    for tile in 0..config.tiles {
        let row = first_row(tile, config);
        if row / rows == pass {
            #[unroll]
            for step in 0..comptime!(config.depth()) {
                let at = 2 * (row % rows * comptime!(config.stride()) + comptime!(2 * step));
                cmma::load(
                    kept.index(comptime!(tile * config.depth() + step)),
                    &stages.tile.slice(at, at + comptime!(2 * SIDE * config.stride())),
                    comptime!(8 * config.stride() as u32),
                );
            }
        }
    }
}

/// The head of a row of the cube and the token among all, the last one past it.
#[cube]
pub(super) fn query_of_row(queries: &HeadQueries, row: usize, #[comptime] config: CooperativeConfig) -> (usize, usize) {
    let row = row.min(comptime!(config.rows() - 1).runtime());
    let token = queries.first + row % comptime!(config.queries());
    (
        queries.head + row / comptime!(config.queries()),
        queries.start + token.min(queries.tokens - 1),
    )
}

/// A step's keys, or its values, on their way; those past the last repeat it.
#[cube]
pub(super) fn fetch(
    sources: &Sources,
    keys: &Keys,
    next: &mut Array<Chunk>,
    begin: usize,
    #[comptime] values: bool,
    #[comptime] tail: bool,
    #[comptime] config: CooperativeConfig,
) {
    if comptime!(tail) {
        #[unroll]
        for step in 0..comptime!(config.fetches()) {
            let (local, column) = place_in_tile(step, config);
            let index = (begin + local).min(keys.end - 1);
            let side = comptime!(if values { Side::Value } else { Side::Key });
            next[step] = read(sources, keys, index, column, side, config.problem);
        }
    } else {
        #[unroll]
        for step in 0..comptime!(config.fetches()) {
            let (local, column) = place_in_tile(step, config);
            let index = keys.offset + (begin + local).min(keys.end - 1);
            let source = at(&sources.prompt, keys.entry, keys.head, index) + column;
            next[step] = if comptime!(values) {
                sources.prompt.value[source]
            } else {
                sources.prompt.key[source]
            };
        }
    }
}

/// The row and the column of a unit's chunk of a step.
#[cube]
fn place_in_tile(#[comptime] step: usize, #[comptime] config: CooperativeConfig) -> (usize, usize) {
    let place = UNIT_POS as usize + comptime!(step * config.units());
    (place / comptime!(config.chunks()), place % comptime!(config.chunks()))
}

/// Fetched keys, or values, into the stage.
#[cube]
pub(super) fn store(
    stages: &mut Stages,
    next: &Array<Chunk>,
    #[comptime] values: bool,
    #[comptime] config: CooperativeConfig,
) {
    let first = comptime!(if values { config.keys * config.stride() } else { 0 });
    #[unroll]
    for step in 0..comptime!(config.fetches()) {
        let (local, column) = place_in_tile(step, config);
        let whole = comptime!((config.keys * config.chunks()).is_multiple_of(config.units()));
        if whole.runtime() || local < config.keys {
            store_chunk(
                &mut stages.tile,
                first + local * comptime!(config.stride()) + column,
                next[step],
            );
        }
    }
}

/// The scores of the plane's queries.
#[cube]
pub(super) fn multiply_queries(
    kept: &Sequence<Matrix<bf16>>,
    stages: &mut Stages,
    #[comptime] config: CooperativeConfig,
) {
    let mut scores = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(config.tiles * config.columns()) {
        scores.push(zeros());
    }
    #[unroll]
    for step in 0..comptime!(config.depth()) {
        #[unroll]
        for column in 0..comptime!(config.columns()) {
            let right = operand(
                &stages.tile,
                comptime!(column * SIDE * config.stride() + 2 * step).runtime(),
                MatrixIdent::B,
                MatrixLayout::ColMajor,
                comptime!(config.stride()),
            );
            #[unroll]
            for tile in 0..config.tiles {
                let sum = scores.index(comptime!(tile * config.columns() + column));
                cmma::execute(kept.index(comptime!(tile * config.depth() + step)), &right, sum, sum);
            }
        }
    }
    #[unroll]
    for tile in 0..config.tiles {
        #[unroll]
        for column in 0..comptime!(config.columns()) {
            let sum = scores.index(comptime!(tile * config.columns() + column));
            store_matrix(stages, sum, tile, column, config);
        }
    }
}

/// Adds the weighted values.
#[cube]
pub(super) fn add_values(stages: &Stages, sums: &Sequence<Matrix<f32>>, #[comptime] config: CooperativeConfig) {
    #[unroll]
    for column in 0..comptime!(config.columns()) {
        let mut left = Sequence::<Matrix<bf16>>::new();
        #[unroll]
        for tile in 0..config.tiles {
            left.push(operand(
                &stages.weights,
                first_row(tile, config) * comptime!(config.weight_stride()) + comptime!(2 * column),
                MatrixIdent::A,
                MatrixLayout::RowMajor,
                comptime!(config.weight_stride()),
            ));
        }
        #[unroll]
        for step in 0..comptime!(config.depth()) {
            let right = operand(
                &stages.tile,
                comptime!((config.keys + column * SIDE) * config.stride() + 2 * step).runtime(),
                MatrixIdent::B,
                MatrixLayout::RowMajor,
                comptime!(config.stride()),
            );
            #[unroll]
            for tile in 0..config.tiles {
                let sum = sums.index(comptime!(tile * config.depth() + step));
                cmma::execute(left.index(tile), &right, sum, sum);
            }
        }
    }
}
