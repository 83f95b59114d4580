//! A row as integers of two bytes that the product in front leaves, so that each unit reads its columns once and has nothing to make of
//! them.
//!
//! A set's 32 columns are outputs of one cube, which knows the largest of them. Behind the words of all sets, block after block, is a
//! vector per set: what its integers are multiplied by, the mask that makes codes signed, and the sum of squares of what was there before
//! the norm's weight.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::bytes::{Integers, SIGNS, Words, code_scale, integer, largest, power, scale_of, words_of};
use super::columns::first_column;
use super::config::{RowConfig, UNIT_COLUMNS};
use crate::instances::KernelRuntime;
use crate::kernels::quantized::codes::Quad;
use crate::kernels::signals;
use crate::kernels::tensors::{cubes, empty, extents};
use crate::layers::Quantization;

/// Vectors of a set: its blocks' words, and what is said of it.
const VECTORS: usize = Quantization::BLOCKS + 1;

/// The element type that tensors of such rows carry; the integers' bytes lie as the codes of a scheme do.
fn dtype(quantization: Quantization) -> DType {
    match quantization {
        Quantization::Int8 => DType::I16,
        Quantization::Int4 => DType::U16,
    }
}

/// For whose codes a row is prepared, if it is.
pub fn scheme<R: CubeRuntime>(x: &CubeTensor<R>) -> Option<Quantization> {
    [Quantization::Int8, Quantization::Int4]
        .into_iter()
        .find(|scheme| dtype(*scheme) == x.dtype)
}

/// Room for a row of so many columns, whole groups of them.
pub(super) fn room<R: KernelRuntime>(
    beside: &CubeTensor<R>,
    columns: usize,
    quantization: Quantization,
) -> CubeTensor<R> {
    let bytes = columns / UNIT_COLUMNS * VECTORS * size_of::<[u32; 4]>();
    CubeTensor::new_contiguous(
        beside.client.clone(),
        beside.device.clone(),
        Shape::new([1, columns]),
        signals::output(&beside.client, R::signals(&beside.device).as_ref(), bytes),
        dtype(quantization),
    )
}

/// All of a row's buffer.
pub(super) fn vectors<R: CubeRuntime>(row: &CubeTensor<R>) -> ArrayArg<R> {
    let words = row.handle.size_in_used() as usize / size_of::<u32>();
    // SAFETY: the length is the buffer's own.
    unsafe { ArrayArg::from_raw_parts(row.handle.clone(), words) }
}

/// The columns of a row in f32, as close as they were kept; others as they are.
pub fn plain<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    let Some(quantization) = scheme(&x) else { return x };
    const UNITS: usize = 64;
    let (_, columns) = extents(&x);
    let out = empty(&x, 1, columns, DType::F32);
    let blocks = columns / UNIT_COLUMNS * Quantization::BLOCKS;
    // SAFETY: units past the last block do nothing.
    unsafe {
        unpack::launch_unchecked::<R>(
            &x.client,
            cubes(blocks.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            vectors(&x),
            vectors(&out),
            (columns / UNIT_COLUMNS) as u32,
            quantization,
        );
    }
    out
}

/// A unit per set and block.
#[cube(launch_unchecked)]
fn unpack(row: &Array<Words>, out: &mut Array<f32>, sets: u32, #[comptime] quantization: Quantization) {
    let sets = sets as usize;
    if ABSOLUTE_POS >= sets * Quantization::BLOCKS {
        terminate!();
    }
    let (set, block) = (ABSOLUTE_POS / Quantization::BLOCKS, ABSOLUTE_POS % Quantization::BLOCKS);
    let words = row[block * sets + set];
    let scale =
        f32::reinterpret(row[comptime!(Quantization::BLOCKS) * sets + set][0]) * comptime!(code_scale(quantization));
    let column = first_column(set, block);
    #[unroll]
    for place in 0..8usize {
        out[column + place] = integer(words, place, quantization) * scale;
    }
}

/// The columns of a set; of none where there is no such set.
#[cube]
pub(super) fn read(row: &Array<Words>, set: usize, columns: usize, #[comptime] config: RowConfig) -> Integers {
    let sets = columns / UNIT_COLUMNS;
    let mut own = set;
    if comptime!(config.padded) {
        own = min(set, sets - 1);
    }
    let mut words = Array::<Words>::new(Quantization::BLOCKS);
    #[unroll]
    for block in 0..Quantization::BLOCKS {
        words[block] = row[comptime!(block) * sets + own];
    }
    let about = row[comptime!(Quantization::BLOCKS) * sets + own];
    let mut scale = f32::reinterpret(about[0]);
    let mut square = f32::reinterpret(about[2]);
    if comptime!(config.padded) {
        scale = select(set < sets, scale, 0.0f32.runtime());
        square = select(set < sets, square, 0.0f32.runtime());
    }
    Integers {
        words,
        scale,
        square,
        signs: about[1],
    }
}

/// The output that is the `place`-th of a cube's, or of all cubes': sets of 32 lie one after another, each eight of every block of a group.
#[cube]
pub(super) fn output_of(place: usize) -> usize {
    // Two bits say which eight of a block, two which block.
    let swapped = ((place >> 2usize) ^ place) & 0x18usize;
    place ^ swapped ^ (swapped << 2usize)
}

/// Writes the sets of the cube's outputs, `values` in their order. Four neighbours write a set, a block each.
#[cube]
pub(super) fn write(
    values: &SharedMemory<f32>,
    norm: &ComptimeOption<Array<f32>>,
    row: &mut Array<Words>,
    outputs: usize,
    #[comptime] config: RowConfig,
) {
    let sets = outputs / UNIT_COLUMNS;
    let own_sets = comptime!(config.outputs_per_cube() / UNIT_COLUMNS);
    let quantization = comptime!(config.next_quantization());
    let mut at = UNIT_POS as usize;
    while at < comptime!(own_sets * Quantization::BLOCKS) {
        let (local, block) = (at / Quantization::BLOCKS, at % Quantization::BLOCKS);
        let set = CUBE_POS * own_sets + local;
        if set < sets {
            let from = local * UNIT_COLUMNS + block * 8;
            let column = first_column(set, block);
            let mut first = quad(values, from);
            let mut second = quad(values, from + 4);
            let squares = fma(first, first, second * second);
            let mut square = squares[0] + squares[1] + squares[2] + squares[3];
            #[comptime]
            match norm {
                ComptimeOption::Some(norm) =>
                {
                    #[unroll]
                    for i in 0..4usize {
                        first[i] = first[i] * norm[column + i];
                        second[i] = second[i] * norm[column + 4 + i];
                    }
                }
                ComptimeOption::None => {}
            }
            #[unroll]
            for level in 0..2usize {
                square += plane_shuffle_xor(square, comptime!(1u32 << level));
            }
            let power = power(largest(first, second));
            row[block * sets + set] = words_of(first, second, power, quantization);
            if block == 0 {
                let mut about = Words::empty();
                about[0] = u32::reinterpret(scale_of(power, quantization));
                about[1] = SIGNS;
                about[2] = u32::reinterpret(square);
                about[3] = 0u32;
                row[comptime!(Quantization::BLOCKS) * sets + set] = about;
            }
        }
        at += comptime!(config.shape.units());
    }
}

#[cube]
fn quad(values: &SharedMemory<f32>, from: usize) -> Quad {
    let mut quad = Quad::empty();
    #[unroll]
    for i in 0..4usize {
        quad[i] = values[from + i];
    }
    quad
}
