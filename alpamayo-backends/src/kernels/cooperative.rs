//! Cooperative matrices: what matrix units multiply through a graphics API, 16 x 16 of bf16 with f32 sums.
//!
//! A plane holds a matrix together, and which unit has which element is not told: operands come from shared memory, and what is
//! to be read by element goes back there.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::ir::{ElemType, FloatKind, features::MmaConfig};
use cubecl::prelude::*;
use half::bf16;

/// Side of a matrix.
pub(crate) const SIDE: usize = 16;
/// Units per plane.
pub(crate) const PLANE: usize = 32;

/// Sixteen bytes: eight bf16.
pub(crate) type Chunk = Vector<u32, Const<4>>;

/// Half a chunk, as a row's elements: SPIR-V has no vectors of more than four.
pub(crate) type Elements = Vector<bf16, Const<4>>;

/// Whether the device multiplies such matrices, in planes of 32.
pub(crate) fn has_cooperative_matrices<R: Runtime>(client: &ComputeClient<R>) -> bool {
    let bf16 = ElemType::Float(FloatKind::BF16).into();
    let properties = client.properties();
    let hardware = &properties.hardware;
    hardware.plane_size_min as usize == PLANE
        && hardware.plane_size_max as usize == PLANE
        && properties.features.matmul.cmma.contains(&MmaConfig {
            a_type: bf16,
            b_type: bf16,
            cd_type: ElemType::Float(FloatKind::F32).into(),
            m: SIDE as u32,
            n: SIDE as u32,
            k: SIDE as u32,
        })
}

/// Sums of zero.
#[cube]
pub(crate) fn zeros() -> Matrix<f32> {
    Matrix::<f32>::from_value(
        MatrixIdent::Accumulator,
        SIDE,
        SIDE,
        SIDE,
        MatrixLayout::Undefined,
        0.0f32,
    )
}

/// The left (`A`) or right (`B`) operand whose rows, or columns, begin at `chunk` and lie `stride` chunks apart.
#[cube]
pub(crate) fn operand(
    stage: &SharedMemory<Elements>,
    chunk: usize,
    #[comptime] ident: MatrixIdent,
    #[comptime] layout: MatrixLayout,
    #[comptime] stride: usize,
) -> Matrix<bf16> {
    // SAFETY: loaded before it is used.
    let matrix = unsafe { Matrix::<bf16>::uninitialized(ident, SIDE, SIDE, SIDE, layout) };
    cmma::load(
        &matrix,
        &stage.slice(2 * chunk, 2 * chunk + comptime!(2 * SIDE * stride)),
        comptime!(8 * stride as u32),
    );
    matrix
}

/// Puts a chunk's halves next to each other, as chunk `at` of the stage.
#[cube]
pub(crate) fn store_chunk(stage: &mut SharedMemory<Elements>, at: usize, chunk: Chunk) {
    #[unroll]
    for half in 0..2usize {
        let mut words = Vector::<u32, Const<2>>::empty();
        words[0] = chunk[comptime!(2 * half)];
        words[1] = chunk[comptime!(2 * half + 1)];
        stage[2 * at + half] = Elements::reinterpret(words);
    }
}
