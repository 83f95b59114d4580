//! From scores to weights, by row.

use cubecl::cmma::{self, Matrix, MatrixLayout};
use cubecl::prelude::*;

use super::{CooperativeConfig, Stages, first_row, row_of_unit};
use crate::kernels::attention::element::{HIDDEN, LOWEST, Quad};
use crate::kernels::cooperative::{Elements, SIDE};

/// How far scores may exceed the maximum that weights are relative to: `exp(8)` is 2,981.
pub(super) const SLACK: f32 = 8.0;

/// What a unit keeps of its row of each of the plane's tiles.
#[derive(CubeType)]
pub(super) struct Rows {
    /// What weights are relative to.
    pub maximum: Array<f32>,
    /// Sum of the weights that the unit computed.
    pub total: Array<f32>,
    /// What the row's sums have to be scaled by before this step's are added.
    pub decay: Array<f32>,
}

#[cube]
impl Rows {
    /// Before the first key.
    pub(super) fn new(#[comptime] config: CooperativeConfig) -> Rows {
        let mut rows = Rows {
            maximum: Array::<f32>::new(config.tiles),
            total: Array::<f32>::new(config.tiles),
            decay: Array::<f32>::new(config.tiles),
        };
        #[unroll]
        for tile in 0..config.tiles {
            rows.maximum[tile] = LOWEST;
            rows.total[tile] = 0.0f32;
        }
        rows.settle(config);
        rows
    }

    /// Nothing has to be scaled.
    pub(super) fn settle(&mut self, #[comptime] config: CooperativeConfig) {
        #[unroll]
        for tile in 0..config.tiles {
            self.decay[tile] = 1.0f32;
        }
    }
}

/// A matrix to column `column` of the scores of one of the plane's tiles.
#[cube]
pub(super) fn store_matrix(
    stages: &mut Stages,
    matrix: &Matrix<f32>,
    #[comptime] tile: usize,
    #[comptime] column: usize,
    #[comptime] config: CooperativeConfig,
) {
    let at = first_row(tile, config) * comptime!(config.score_stride()) + comptime!(column * SIDE / 4);
    cmma::store(
        &mut stages
            .scores
            .slice_mut(at, at + comptime!(SIDE * config.score_stride())),
        matrix,
        comptime!(4 * config.score_stride() as u32),
        MatrixLayout::RowMajor,
    );
}

/// The weights of a unit's half of a row, every second quad, from its scores.
#[cube]
pub(super) fn weigh(
    stages: &mut Stages,
    rows: &mut Rows,
    begin: usize,
    visible: usize,
    hides: bool,
    #[comptime] tile: usize,
    #[comptime] config: CooperativeConfig,
) {
    let row = first_row(tile, config) + row_of_unit();
    let half = UNIT_POS_X as usize % 2;
    let mut scores = Array::<Quad>::new(comptime!(config.keys / 8));
    let previous = rows.maximum[tile];
    let mut highest = LOWEST.runtime();
    #[unroll]
    for i in 0..comptime!(config.keys / 8) {
        let mut quad = stages.scores[row * comptime!(config.score_stride()) + comptime!(2 * i) + half];
        if hides {
            let index = begin + 4 * (comptime!(2 * i) + half);
            #[unroll]
            for e in 0..4usize {
                quad[e] = select(index + e < visible, quad[e], HIDDEN.runtime());
            }
        }
        highest = max(highest, max(max(quad[0], quad[1]), max(quad[2], quad[3])));
        scores[i] = quad;
    }
    highest = max(highest, plane_shuffle_xor(highest, 1u32));
    if highest > previous + SLACK {
        rows.decay[tile] = (previous - highest).exp();
        rows.maximum[tile] = highest;
        stages.raised[0] = begin as u32 + 1;
    }
    let maximum = rows.maximum[tile];
    let mut total = rows.total[tile] * rows.decay[tile];
    #[unroll]
    for i in 0..comptime!(config.keys / 8) {
        let scores = scores[i];
        let mut weights = Quad::empty();
        #[unroll]
        for e in 0..4usize {
            weights[e] = (scores[e] - maximum).exp();
            total += weights[e];
        }
        stages.weights[row * comptime!(2 * config.weight_stride()) + comptime!(2 * i) + half] =
            Elements::cast_from(weights);
    }
    rows.total[tile] = total;
}

/// Scales the sums of rows whose maximum was raised. All planes of the cube take part.
#[cube]
pub(super) fn scale(
    stages: &mut Stages,
    sums: &Sequence<Matrix<f32>>,
    rows: &Rows,
    #[comptime] config: CooperativeConfig,
) {
    let half = UNIT_POS_X as usize % 2;
    #[unroll]
    for tile in 0..config.tiles {
        let first = first_row(tile, config) * comptime!(config.score_stride());
        #[unroll]
        for step in 0..comptime!(config.depth()) {
            let matrix = sums.index(comptime!(tile * config.depth() + step));
            store_matrix(stages, matrix, tile, 0usize, config);
            sync_cube();
            #[unroll]
            for i in 0..2usize {
                let at = first + row_of_unit() * comptime!(config.score_stride()) + comptime!(2 * i) + half;
                stages.scores[at] = stages.scores[at] * Quad::new(rows.decay[tile]);
            }
            sync_cube();
            cmma::load_with_layout(
                matrix,
                &stages
                    .scores
                    .slice(first, first + comptime!(SIDE * config.score_stride())),
                comptime!(4 * config.score_stride() as u32),
                MatrixLayout::RowMajor,
            );
            sync_cube();
        }
    }
}
