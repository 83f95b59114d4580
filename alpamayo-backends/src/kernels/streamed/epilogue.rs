//! From a plane's sums to the product's results.

use cubecl::prelude::*;

use super::StreamedConfig;
use super::kernel::Sums;
use crate::kernels::activation::{activate, silu};

/// What a plane's results are.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Outputs {
    /// Where the first result lies.
    pub base: usize,
    /// Rows of `x`.
    pub tokens: usize,
    /// Outputs of the product.
    pub rows: usize,
    /// The plane's first output.
    pub first: usize,
    /// The plane's first row of `x`.
    pub first_token: usize,
    /// One over the columns, for the norm's mean.
    pub inverse_columns: f32,
    /// The norm's.
    pub epsilon: f32,
}

/// Adds up the planes that share columns, and writes what the product asks for.
#[cube]
pub(crate) fn finish<E: Float>(
    sums: &Sequence<Array<Sums>>,
    square: f32,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<E>,
    outputs: &Outputs,
    #[comptime] config: StreamedConfig,
) {
    let shape = comptime!(config.shape);
    let blocks = comptime!(config.blocks());
    let scale = norm_scale(square, outputs, config);
    if comptime!(shape.splits == 1) {
        #[unroll]
        for block in 0..blocks {
            let pair = sums.index(block);
            write::<E>(
                pair[0],
                pair[1],
                scale,
                block.runtime(),
                bias,
                residual,
                out,
                outputs,
                config,
            );
        }
    } else {
        let lane = UNIT_POS_X as usize;
        let split = UNIT_POS_Y as usize;
        let mut shared = SharedMemory::<Sums>::new(comptime!(
            config.shape.groups * config.shape.splits * config.blocks() * 64
        ));
        let base = UNIT_POS_Z as usize * comptime!(config.shape.splits * config.blocks() * 64) + lane;
        let own = base + split * comptime!(config.blocks() * 64);
        #[unroll]
        for block in 0..blocks {
            let pair = sums.index(block);
            shared[own + comptime!(block * 64)] = pair[0];
            shared[own + comptime!(block * 64 + 32)] = pair[1];
        }
        sync_cube();
        let mut block = split;
        while block < blocks {
            let mut low = Sums::new(0.0f32);
            let mut high = Sums::new(0.0f32);
            #[unroll]
            for part in 0..shape.splits {
                let at = base + comptime!(part * config.blocks() * 64) + block * 64;
                low += shared[at];
                high += shared[at + 32];
            }
            write::<E>(low, high, scale, block, bias, residual, out, outputs, config);
            block += shape.splits;
        }
    }
}

/// The norm's factors of the two rows of `x` whose results a lane holds; one without a norm.
#[cube]
fn norm_scale(square: f32, outputs: &Outputs, #[comptime] config: StreamedConfig) -> Sums {
    if comptime!(config.norm) {
        let shape = comptime!(config.shape);
        let lane = UNIT_POS_X as usize;
        let mut squares = SharedMemory::<f32>::new(comptime!(8 * config.shape.groups * config.shape.splits));
        let mut sum = square;
        sum += plane_shuffle_xor(sum, 1u32);
        sum += plane_shuffle_xor(sum, 2u32);
        let base = UNIT_POS_Z as usize * comptime!(8 * config.shape.splits);
        if lane % 4 == 0 {
            squares[base + UNIT_POS_Y as usize * 8 + lane / 4] = sum;
        }
        sync_cube();
        let mut totals = Sums::new(0.0f32);
        #[unroll]
        for part in 0..shape.splits {
            let at = base + comptime!(8 * part) + 2 * (lane % 4);
            totals[0] += squares[at];
            totals[1] += squares[at + 1];
        }
        let mut scale = Sums::empty();
        #[unroll]
        for i in 0..2usize {
            scale[i] = 1.0f32 / (totals[i] * outputs.inverse_columns + outputs.epsilon).sqrt();
        }
        scale
    } else {
        Sums::new(1.0f32)
    }
}

/// Writes a block's results of this lane: two rows of `x` for each of two weight rows, or for a gated pair.
#[cube]
pub(crate) fn write<E: Float>(
    low: Sums,
    high: Sums,
    scale: Sums,
    block: usize,
    bias: &ComptimeOption<Array<f32>>,
    residual: &ComptimeOption<Array<f32>>,
    out: &mut Array<E>,
    outputs: &Outputs,
    #[comptime] config: StreamedConfig,
) {
    let lane = UNIT_POS_X as usize;
    let (row_tile, token_tile) = (block / config.token_tiles, block % config.token_tiles);
    let row = outputs.first + row_tile * comptime!(config.outputs_per_tile()) + lane / 4;
    #[unroll]
    for i in 0..2usize {
        let token = outputs.first_token + token_tile * 8 + 2 * (lane % 4) + i;
        if token < outputs.tokens {
            if comptime!(config.gated) {
                if row < outputs.rows {
                    let gate = biased(low[i] * scale[i], bias, row);
                    let value = silu(gate) * biased(high[i] * scale[i], bias, outputs.rows + row);
                    store::<E>(value, residual, out, outputs.base + token * outputs.rows + row);
                }
            } else {
                if row < outputs.rows {
                    let value = activate(biased(low[i] * scale[i], bias, row), config.activation);
                    store::<E>(value, residual, out, outputs.base + token * outputs.rows + row);
                }
                if row + 8 < outputs.rows {
                    let value = activate(biased(high[i] * scale[i], bias, row + 8), config.activation);
                    store::<E>(value, residual, out, outputs.base + token * outputs.rows + row + 8);
                }
            }
        }
    }
}

#[cube]
fn store<E: Float>(value: f32, residual: &ComptimeOption<Array<f32>>, out: &mut Array<E>, at: usize) {
    let mut sum = value;
    #[comptime]
    match residual {
        ComptimeOption::Some(residual) => {
            sum += residual[at];
        }
        ComptimeOption::None => {}
    }
    out[at] = E::cast_from(sum);
}

#[cube]
fn biased(value: f32, bias: &ComptimeOption<Array<f32>>, row: usize) -> f32 {
    let mut sum = value;
    #[comptime]
    match bias {
        ComptimeOption::Some(bias) => {
            sum += bias[row];
        }
        ComptimeOption::None => {}
    }
    sum
}
