//! The results of a cube.

use cubecl::cmma::Matrix;
use cubecl::prelude::*;

use super::weights::{Rows, store_matrix};
use super::{CooperativeConfig, Stages, first_row, row_of_unit};
use crate::kernels::attention::element::{Chunk, Quad, pack_bf16};
use crate::kernels::attention::problem::{Extents, HeadQueries};
use crate::kernels::cooperative::SIDE;

/// The result's rows, or a part's sums and statistics, as many matrices at once as a row of scores takes.
#[cube]
pub(super) fn write(
    stages: &mut Stages,
    sums: &Sequence<Matrix<f32>>,
    rows: &Rows,
    queries: &HeadQueries,
    extents: &Extents,
    output: &mut Array<Chunk>,
    statistics: &mut Array<f32>,
    #[comptime] config: CooperativeConfig,
) {
    let half = UNIT_POS_X as usize % 2;
    #[unroll]
    for tile in 0..config.tiles {
        let row = first_row(tile, config) + row_of_unit();
        let token = queries.first + row % comptime!(config.queries());
        let head = queries.head + row / comptime!(config.queries());
        let all = rows.total[tile] + plane_shuffle_xor(rows.total[tile], 1u32);
        let mut place = (queries.start + token) * config.problem.heads + head;
        let mut factor = 1.0f32 / all;
        if comptime!(config.problem.split) {
            place = place * extents.slots as usize + queries.split;
            factor = 1.0f32;
            if token < queries.tokens && half == 0 {
                statistics[2 * place] = rows.maximum[tile];
                statistics[2 * place + 1] = all;
            }
        }
        #[unroll]
        for group in 0..comptime!(config.depth().div_ceil(config.columns())) {
            let first = comptime!(group * config.columns());
            let count = comptime!(config.columns().min(config.depth() - group * config.columns()));
            #[unroll]
            for column in 0..count {
                let matrix = sums.index(comptime!(tile * config.depth() + first + column));
                store_matrix(stages, matrix, tile, column, config);
            }
            sync_cube();
            #[unroll]
            for column in 0..count {
                let chunk = 2 * (first + column) + half;
                if token < queries.tokens && chunk < comptime!(config.chunks()) {
                    let at = row * comptime!(config.score_stride()) + comptime!(column * SIDE / 4) + 2 * half;
                    let low = stages.scores[at] * Quad::new(factor);
                    let high = stages.scores[at + 1] * Quad::new(factor);
                    write_chunk(
                        output,
                        place * comptime!(config.chunks()) + chunk,
                        low,
                        high,
                        config.pack_output,
                    );
                }
            }
            sync_cube();
        }
    }
}

/// Eight elements of the result: one chunk, or two of f32.
#[cube]
fn write_chunk(output: &mut Array<Chunk>, at: usize, low: Quad, high: Quad, #[comptime] packed: bool) {
    if comptime!(packed) {
        let mut words = Chunk::empty();
        words[0] = pack_bf16(low[0], low[1]);
        words[1] = pack_bf16(low[2], low[3]);
        words[2] = pack_bf16(high[0], high[1]);
        words[3] = pack_bf16(high[2], high[3]);
        output[at] = words;
    } else {
        output[2 * at] = Chunk::reinterpret(low);
        output[2 * at + 1] = Chunk::reinterpret(high);
    }
}
