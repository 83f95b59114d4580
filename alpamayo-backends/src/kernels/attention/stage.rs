//! Queries, keys and values on their way to shared memory.

use cubecl::prelude::barrier::copy_async;
use cubecl::prelude::*;
use half::bf16;

use super::element::Chunk;
use super::problem::{Keys, Side, Sources, at, read};
use super::tensor_core::TensorCoreConfig;

/// A 16-byte row of an 8x8 matrix.
pub(super) type MatrixRow = Vector<bf16, Const<8>>;

/// Zeros in the columns past the head of so many staged rows.
#[cube]
pub(super) fn fill_columns(
    stage: &mut SharedMemory<MatrixRow>,
    #[comptime] rows: usize,
    #[comptime] config: TensorCoreConfig,
) {
    if comptime!(config.chunks() < 2 * config.depth()) {
        #[unroll]
        for step in 0..comptime!(rows.div_ceil(config.units())) {
            let place = step * comptime!(config.units()) + UNIT_POS as usize;
            if place < rows {
                stage[place * comptime!(config.stride()) + comptime!(config.chunks())] =
                    MatrixRow::reinterpret(Chunk::new(0u32));
            }
        }
    }
}

/// The cube's queries; those past the last token repeat it.
#[cube]
pub(super) fn stage_queries(
    query: &Array<Chunk>,
    stage: &mut SharedMemory<MatrixRow>,
    start: usize,
    head: usize,
    first: usize,
    tokens: usize,
    #[comptime] config: TensorCoreConfig,
) {
    let chunks = comptime!(config.chunks());
    let count = comptime!(config.queries() * config.chunks());
    #[unroll]
    for step in 0..comptime!(count.div_ceil(config.units())) {
        let place = step * comptime!(config.units()) + UNIT_POS as usize;
        if place < count {
            let (local, column) = (place / chunks, place % chunks);
            let token = start + (first + local).min(tokens - 1);
            let chunk = query[(token * config.problem.heads + head) * chunks + column];
            stage[local * comptime!(config.stride()) + column] = MatrixRow::reinterpret(chunk);
        }
    }
}

/// A tile of keys and values on its way; keys past the last repeat it.
#[cube]
pub(super) fn fetch(
    sources: &Sources,
    keys: &Keys,
    next_keys: &mut Array<Chunk>,
    next_values: &mut Array<Chunk>,
    begin: usize,
    #[comptime] config: TensorCoreConfig,
) {
    let chunks = comptime!(config.chunks());
    #[unroll]
    for step in 0..comptime!(config.fetches()) {
        let place = step * comptime!(config.units()) + UNIT_POS as usize;
        let (local, column) = (place / chunks, place % chunks);
        let index = (begin + local).min(keys.end - 1);
        next_keys[step] = read(sources, keys, index, column, comptime!(Side::Key), config.problem);
        next_values[step] = read(sources, keys, index, column, comptime!(Side::Value), config.problem);
    }
}

/// A fetched tile into shared memory.
#[cube]
pub(super) fn store(
    stage: &mut SharedMemory<MatrixRow>,
    next_keys: &Array<Chunk>,
    next_values: &Array<Chunk>,
    offset: usize,
    #[comptime] config: TensorCoreConfig,
) {
    let chunks = comptime!(config.chunks());
    let count = comptime!(config.keys * config.chunks());
    #[unroll]
    for step in 0..comptime!(config.fetches()) {
        let place = step * comptime!(config.units()) + UNIT_POS as usize;
        if place < count {
            let at = offset + place / chunks * comptime!(config.stride()) + place % chunks;
            stage[at] = MatrixRow::reinterpret(next_keys[step]);
            stage[at + comptime!(config.value_offset())] = MatrixRow::reinterpret(next_values[step]);
        }
    }
}

/// A tile of keys and values to the stage at `offset`, asynchronously; keys past the last repeat it.
#[cube]
pub(super) fn copy(
    sources: &Sources,
    keys: &Keys,
    stage: &mut SharedMemory<MatrixRow>,
    begin: usize,
    offset: usize,
    #[comptime] config: TensorCoreConfig,
) {
    let chunks = comptime!(config.chunks());
    let count = comptime!(config.keys * config.chunks());
    #[unroll]
    for step in 0..comptime!(config.fetches()) {
        let place = step * comptime!(config.units()) + UNIT_POS as usize;
        if comptime!((config.keys * config.chunks()).is_multiple_of(config.units())).runtime() || place < count {
            let (local, column) = (place / chunks, place % chunks);
            let index = (begin + local).min(keys.end - 1);
            let target = offset + local * comptime!(config.stride()) + column;
            copy_key_value(sources, keys, stage, index, column, target, config);
        }
    }
}

/// Chunk `column` of a key to `target`, and of its value to where values are.
#[cube]
fn copy_key_value(
    sources: &Sources,
    keys: &Keys,
    stage: &mut SharedMemory<MatrixRow>,
    index: usize,
    column: usize,
    target: usize,
    #[comptime] config: TensorCoreConfig,
) {
    let problem = comptime!(config.problem);
    let values = target + comptime!(config.value_offset());
    if keys.tail {
        if comptime!(problem.own) && index >= keys.suffix {
            let source = at(&sources.own, keys.row, keys.head, index - keys.suffix) + column;
            copy_chunk(&sources.own.key, source, stage, target);
            copy_chunk(&sources.own.value, source, stage, values);
        } else {
            let source = at(&sources.suffix, keys.row, keys.head, index) + column;
            copy_chunk(&sources.suffix.key, source, stage, target);
            copy_chunk(&sources.suffix.value, source, stage, values);
        }
    } else {
        let source = at(&sources.prompt, keys.entry, keys.head, keys.offset + index) + column;
        copy_chunk(&sources.prompt.key, source, stage, target);
        copy_chunk(&sources.prompt.value, source, stage, values);
    }
}

#[cube]
fn copy_chunk(from: &Array<Chunk>, source: usize, stage: &mut SharedMemory<MatrixRow>, target: usize) {
    let slot = stage.slice_mut(target, target + 1);
    // SAFETY: both are sixteen bytes; only the type differs.
    let mut slot = unsafe { slot.downcast_unchecked::<Chunk>() };
    copy_async(&from.slice(source, source + 1), &mut slot, 4u32);
}
