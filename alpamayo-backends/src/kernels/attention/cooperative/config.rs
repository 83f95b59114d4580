//! What a cube attends to at once.

use crate::kernels::attention::problem::Problem;
use crate::kernels::cooperative::{PLANE, SIDE};

/// The tile of an attention on cooperative matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::kernels::attention) struct CooperativeConfig {
    pub problem: Problem,
    /// Query heads per cube, all of one key-value head.
    pub heads: usize,
    /// Planes per cube, a multiple of its heads.
    pub planes: usize,
    /// Rows of 16 queries per plane.
    pub tiles: usize,
    /// Keys per step, a multiple of 16.
    pub keys: usize,
    /// Whether the result is written as bf16 (not with a split).
    pub pack_output: bool,
}

impl CooperativeConfig {
    /// Rows of queries per cube.
    pub(super) fn rows(&self) -> usize {
        self.planes * self.tiles * SIDE
    }

    /// Queries of each of the cube's heads.
    pub fn queries(&self) -> usize {
        self.rows() / self.heads
    }

    /// Chunks of a head.
    pub(super) fn chunks(&self) -> usize {
        self.problem.head_dim / 8
    }

    /// Matrices over a head, the last filled up with zeros.
    pub(super) fn depth(&self) -> usize {
        self.problem.head_dim.div_ceil(SIDE)
    }

    /// Matrices over a step's keys.
    pub(super) fn columns(&self) -> usize {
        self.keys / SIDE
    }

    /// Chunks from a staged row to the next: odd, so that rows fall on different banks.
    pub(super) fn stride(&self) -> usize {
        2 * self.depth() + 1
    }

    /// Quads from a row of scores to the next: eight neighbours read eight different groups of banks.
    pub(super) fn score_stride(&self) -> usize {
        self.keys / 4 + 2
    }

    /// Chunks from a row of weights to the next, an odd number at whole pairs of matrices.
    pub(super) fn weight_stride(&self) -> usize {
        self.keys / 8 + 1
    }

    /// Units per cube.
    pub(super) fn units(&self) -> usize {
        self.planes * PLANE
    }

    /// Chunks that a unit fetches of a step's keys, and of its values.
    pub(super) fn fetches(&self) -> usize {
        (self.keys * self.chunks()).div_ceil(self.units())
    }

    /// Shared memory of a cube, in bytes.
    pub fn shared_bytes(&self) -> usize {
        let stage = 2 * self.keys * self.stride();
        let rows = self.rows() * (self.score_stride() + self.weight_stride());
        16 * (stage + rows) + 4
    }

    /// With so few keys per step, then planes, that the cube's shared memory stays within so many bytes.
    pub fn fitted(mut self, limit: usize) -> Self {
        while self.shared_bytes() > limit && self.keys > SIDE {
            self.keys -= SIDE;
        }
        while self.shared_bytes() > limit && self.planes > self.heads {
            self.planes -= self.heads;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_shared_memory() {
        for head_dim in [8, 72, 80, 128, 256] {
            let problem = Problem {
                heads: 4,
                key_value_heads: 2,
                head_dim,
                packed: true,
                causal: false,
                split: false,
                row_lengths: false,
                own: false,
                ragged: false,
            };
            for (heads, planes, tiles, keys) in [(1, 4, 1, 32), (1, 4, 1, 48), (2, 8, 1, 32), (1, 4, 2, 32)] {
                let config = CooperativeConfig {
                    problem,
                    heads,
                    planes,
                    tiles,
                    keys,
                    pack_output: true,
                };
                let fitted = config.fitted(48 << 10);
                assert!(fitted.shared_bytes() <= 48 << 10, "{fitted:?}");
                assert!(fitted.queries() > 0 && fitted.keys.is_multiple_of(SIDE), "{fitted:?}");
            }
        }
    }
}
