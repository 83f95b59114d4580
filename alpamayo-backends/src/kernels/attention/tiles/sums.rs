//! From scores to weighted sums of values, and from the planes' to the cube's.

use cubecl::prelude::*;

use super::kernel::key_of_score;
use super::tile::{Span, Tile, widen_pair};
use super::{QUERIES, TilesConfig};
use crate::kernels::attention::element::{LOWEST, Quad};
use crate::kernels::attention::problem::Queries;

/// What the planes of a cube share.
#[derive(CubeType)]
pub(super) struct Weights {
    /// Weights of a key for all queries, by plane and key.
    keys: SharedMemory<Quad>,
    /// Maxima and sums of weights, by query and plane.
    maxima: SharedMemory<f32>,
    totals: SharedMemory<f32>,
}

#[cube]
impl Weights {
    pub fn new(#[comptime] config: TilesConfig) -> Weights {
        Weights {
            keys: SharedMemory::<Quad>::new(comptime!(config.planes * config.keys)),
            maxima: SharedMemory::<f32>::new(comptime!(QUERIES * config.planes)),
            totals: SharedMemory::<f32>::new(comptime!(QUERIES * config.planes)),
        }
    }
}

/// Makes weights of a lane's scores under their tile's maximum, and sums the tile's values by them: a lane's four features of every query.
#[cube]
pub(super) fn weigh(
    scores: Array<f32>,
    tile: &Tile,
    span: &Span,
    weights: &mut Weights,
    sums: &mut Array<Quad>,
    #[comptime] config: TilesConfig,
) {
    let lane = UNIT_POS_X as usize;
    let (plane, lanes) = (UNIT_POS_Y as usize, comptime!(config.lanes() as u32));
    let mut maximum = LOWEST.runtime();
    #[unroll]
    for round in 0..comptime!(config.scores()) {
        maximum = max(maximum, scores[round]);
    }
    if comptime!(config.pairs()) {
        maximum = max(maximum, plane_shuffle_xor(maximum, 4u32));
    }
    maximum = max(maximum, plane_shuffle_xor(maximum, lanes));
    let mut total = 0.0f32;
    #[unroll]
    for round in 0..comptime!(config.scores()) {
        let weight = (scores[round] - maximum).exp();
        total += weight;
        let mut quad = Quad::empty();
        quad[0] = weight;
        #[unroll]
        for query in 1..QUERIES {
            quad[query] = plane_shuffle_xor(weight, comptime!(query as u32));
        }
        // Its first lane has the queries in order.
        if lane % QUERIES == 0 {
            weights.keys[plane * config.keys + key_of_score(round, config)] = quad;
        }
    }
    if comptime!(config.pairs()) {
        total += plane_shuffle_xor(total, 4u32);
    }
    total += plane_shuffle_xor(total, lanes);
    if lane < QUERIES {
        weights.maxima[lane * config.planes + plane] = maximum;
        weights.totals[lane * config.planes + plane] = total;
    }
    sync_plane();
    #[unroll]
    for query in 0..QUERIES {
        sums[query] = Quad::new(0.0f32);
    }
    if span.begin < span.end {
        #[unroll]
        for key in 0..config.keys {
            let value = widen_pair(tile.values[key]);
            let weight = weights.keys[plane * config.keys + key];
            #[unroll]
            for query in 0..QUERIES {
                sums[query] = fma(Quad::new(weight[query]), value, sums[query]);
            }
        }
    }
}

/// Merges the planes of the cube and writes what comes out as the queries' part.
#[cube]
pub(super) fn merge_planes(
    weights: &Weights,
    sums: &Array<Quad>,
    queries: &Queries,
    slots: usize,
    output: &mut Array<Quad>,
    statistics: &mut Array<f32>,
    #[comptime] config: TilesConfig,
) {
    let (columns, planes) = comptime!((config.columns(), config.planes));
    let lane = UNIT_POS_X as usize;
    let mut shared = SharedMemory::<Quad>::new(comptime!(config.planes * QUERIES * config.columns()));
    #[unroll]
    for query in 0..QUERIES {
        shared[(UNIT_POS_Y as usize * QUERIES + query) * columns + lane] = sums[query];
    }
    sync_cube();
    let mut query = UNIT_POS_Y as usize;
    while query < QUERIES {
        // A lane for each of the planes.
        let of_plane = query * planes + lane % planes;
        let own = weights.maxima[of_plane];
        let mut maximum = own;
        #[unroll]
        for level in 0..comptime!(planes.ilog2()) {
            maximum = max(maximum, plane_shuffle_xor(maximum, comptime!(1u32 << level)));
        }
        let factor = (own - maximum).exp();
        let mut total = factor * weights.totals[of_plane];
        #[unroll]
        for level in 0..comptime!(planes.ilog2()) {
            total += plane_shuffle_xor(total, comptime!(1u32 << level));
        }
        let mut sum = Quad::new(0.0f32);
        #[unroll]
        for plane in 0..planes {
            let factor = plane_shuffle(factor, comptime!(plane as u32));
            sum = fma(
                shared[(plane * QUERIES + query) * columns + lane],
                Quad::new(factor),
                sum,
            );
        }
        let target = queries.place(query, config.problem) * slots + queries.slot;
        output[target * columns + lane] = sum;
        if lane == 0 {
            statistics[2 * target] = maximum;
            statistics[2 * target + 1] = total;
        }
        query += planes;
    }
}
