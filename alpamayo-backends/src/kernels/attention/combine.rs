//! Merges the parts of a split attention.

use cubecl::prelude::*;

use super::element::{LOWEST, Quad, pack_bf16};
use crate::kernels::signals::{self, Signals};

/// Units of a cube that share the parts of a head.
pub(super) const GROUPS: usize = 8;

/// What is fixed when the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CombineConfig {
    /// Features per head.
    pub head_dim: usize,
    /// Most parts, a multiple of [`GROUPS`].
    pub parts: usize,
    /// Whether the result is written as bf16.
    pub packed: bool,
}

impl CombineConfig {
    /// A configuration for so many parts: kernels are shared by similar numbers of them.
    pub fn new(head_dim: usize, parts: usize, packed: bool) -> Self {
        Self {
            head_dim,
            parts: parts.next_power_of_two().max(GROUPS),
            packed,
        }
    }

    /// Quads of a head, each a unit's.
    pub fn columns(&self) -> usize {
        self.head_dim / 4
    }
}

/// One cube per head of a token, units `(quads of the head, groups of parts)`: from `[heads of all tokens, parts, head_dim]` to
/// `[heads of all tokens, head_dim]`. `statistics` are every part's maximum and sum of weights.
///
/// `output` is words: an f32 or two bf16 each.
#[cube(launch_unchecked)]
pub(super) fn combine(
    sums: &Array<Quad>,
    statistics: &Array<Vector<f32, Const<2>>>,
    output: &mut Array<u32>,
    signals: &mut Signals,
    heads: u32,
    parts: u32,
    #[comptime] config: CombineConfig,
) {
    // Cubes past the last head do the last one's once more.
    let target = CUBE_POS.min(heads as usize - 1);
    let columns = comptime!(config.columns());
    let parts = parts as usize;
    let first = target * parts;
    let column = UNIT_POS_X as usize;
    let group = UNIT_POS_Y as usize;

    signals::wait(signals);
    // Everything is on its way before anything is waited for: one trip to memory is most of what this takes.
    let levels = comptime!(config.parts / GROUPS);
    let mut loaded = Array::<Quad>::new(levels);
    let mut maxima = Array::<f32>::new(levels);
    let mut totals = Array::<f32>::new(levels);
    #[unroll]
    for level in 0..levels {
        let part = group + comptime!(level * GROUPS);
        let place = first + part.min(parts - 1);
        loaded[level] = sums[place * columns + column];
        let statistics = statistics[place];
        // Parts past the last weigh nothing.
        maxima[level] = select(part < parts, statistics[0], LOWEST.runtime());
        totals[level] = statistics[1];
    }
    let mut group_sums = SharedMemory::<Quad>::new(comptime!(GROUPS * config.columns()));
    let mut group_maxima = SharedMemory::<f32>::new(GROUPS);
    let mut group_totals = SharedMemory::<f32>::new(GROUPS);
    let mut maximum = LOWEST.runtime();
    #[unroll]
    for level in 0..levels {
        maximum = max(maximum, maxima[level]);
    }
    let mut total = 0.0f32;
    let mut sum = Quad::new(0.0f32);
    #[unroll]
    for level in 0..levels {
        let weight = (maxima[level] - maximum).exp();
        total = fma(weight, totals[level], total);
        sum = fma(Quad::new(weight), loaded[level], sum);
    }
    group_sums[group * columns + column] = sum;
    if column == 0 {
        group_maxima[group] = maximum;
        group_totals[group] = total;
    }
    sync_cube();
    if group == 0 {
        let mut maximum = LOWEST.runtime();
        #[unroll]
        for group in 0..GROUPS {
            maximum = max(maximum, group_maxima[group]);
        }
        let mut all = 0.0f32;
        let mut result = Quad::new(0.0f32);
        #[unroll]
        for group in 0..GROUPS {
            let weight = (group_maxima[group] - maximum).exp();
            all = fma(weight, group_totals[group], all);
            result = fma(Quad::new(weight), group_sums[group * columns + column], result);
        }
        let result = result * Quad::new(1.0f32 / all);
        let place = target * columns + column;
        if comptime!(config.packed) {
            output[2 * place] = pack_bf16(result[0], result[1]);
            output[2 * place + 1] = pack_bf16(result[2], result[3]);
        } else {
            #[unroll]
            for element in 0..4usize {
                output[4 * place + element] = u32::reinterpret(result[element]);
            }
        }
    }
    signals::done(signals);
}
