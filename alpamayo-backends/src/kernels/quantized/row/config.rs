//! How the product of one row is cut into units.

use burn_cubecl::CubeRuntime;

use crate::kernels::product::{Following, Product};
use crate::layers::Quantization;

/// Units that share a group of 128 columns, each with eight columns of every block.
pub(super) const GROUP_UNITS: usize = Quantization::BLOCK / 8;

/// Columns of `x` that a unit holds.
pub(super) const UNIT_COLUMNS: usize = Quantization::GROUP / GROUP_UNITS;

/// What a unit holds its columns of `x` as, for codes to be multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// Floats, as they are: every code becomes one too.
    Floats,
    /// Integers of two bytes each, for devices that multiply codes as the bytes they are.
    Bytes,
}

/// The cut: a cube has `groups` groups of `splits` planes over the columns, each of which goes through weight rows of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowShape {
    /// Units of a plane.
    pub lanes: usize,
    /// Planes that share the columns.
    pub splits: usize,
    /// Groups of planes per cube.
    pub groups: usize,
    /// Weight rows whose codes a unit asks for at once, an even number.
    pub batch: usize,
    /// Batches that a unit has room for: while one is multiplied the others are on their way.
    pub slots: usize,
    /// Batches of a group, a multiple of the slots.
    pub batches: usize,
    /// What units hold of `x`.
    pub held: Held,
}

impl RowShape {
    /// Most units of a cube: what its registers leave room for.
    const UNITS: usize = 512;

    /// Units that a cube should have at least.
    const LEAST_UNITS: usize = 128;

    /// Units of a cube from which on one batch at a time is faster: 12,288 columns of 8 bits take 20.9 µs instead of 25 on an H200.
    const LARGE_UNITS: usize = 256;

    /// Cubes that keep a large GPU busy: four for each of some 130 processors.
    const CUBES: usize = 512;

    /// The cut for planes of `lanes` units, at most `most` in a cube, and a weight of `(rows, columns)`.
    pub fn choose(lanes: usize, most: usize, (rows, columns): (usize, usize)) -> Option<Self> {
        let splits = (columns.div_ceil(Quantization::GROUP) * GROUP_UNITS).div_ceil(lanes);
        let units = lanes * splits;
        if units > most.min(Self::UNITS) {
            return None;
        }
        let groups = (Self::LEAST_UNITS / units).max(1);
        let shape = Self {
            lanes,
            splits,
            groups,
            batch: 2,
            // Large cubes hide by themselves that a batch is on its way.
            slots: if units >= Self::LARGE_UNITS { 1 } else { 2 },
            batches: 2,
            held: Held::Floats,
        };
        Some(shape.spread(rows, Self::CUBES))
    }

    /// The same cut with so many batches that so many cubes take all rows of a weight.
    pub fn spread(self, rows: usize, cubes: usize) -> Self {
        let rows = rows
            .div_ceil(cubes * self.groups)
            .next_multiple_of(self.slots * self.batch);
        Self {
            batches: rows / self.batch,
            ..self
        }
    }
}

/// Everything that a compiled product depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowConfig {
    /// The cut.
    pub shape: RowShape,
    /// The scheme.
    pub quantization: Quantization,
    /// Whether an RMSNorm is in front.
    pub norm: bool,
    /// What follows.
    pub following: Following,
    /// Whether outputs are made of a gate's row and an up projection's.
    pub gated: bool,
    /// Whether there are units whose columns are past the end of `x`.
    pub padded: bool,
}

impl RowConfig {
    /// A product in a given cut.
    pub fn new<R: CubeRuntime>(shape: RowShape, product: &Product<R>, quantization: Quantization) -> Self {
        Self {
            shape,
            quantization,
            norm: product.norm.is_some(),
            following: Following {
                activation: product.activation,
                operands: product.operands(),
            },
            gated: product.gated,
            padded: product.weight.columns != shape.lanes * shape.splits * UNIT_COLUMNS,
        }
    }

    /// Weight rows of an output.
    pub(super) fn rows_per_output(&self) -> usize {
        if self.gated { 2 } else { 1 }
    }

    /// Weight rows of a group.
    pub(super) fn rows_per_group(&self) -> usize {
        self.shape.batches * self.shape.batch
    }

    /// Outputs of a group.
    pub fn outputs_per_group(&self) -> usize {
        self.rows_per_group() / self.rows_per_output()
    }

    /// Vectors of four words that a unit loads of a weight row's codes.
    pub(super) fn code_vectors(&self) -> usize {
        self.quantization.chunks() / GROUP_UNITS
    }

    /// Vectors that a unit holds of a batch: codes and steps.
    pub(super) fn batch_vectors(&self) -> usize {
        self.shape.batch * (self.code_vectors() + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_have_whole_batches_and_cubes_their_units(
            rows in 1..200_000_usize, columns in 1..20_000_usize, planes in 0..3_usize, most in 256..1025_usize,
        ) {
            let lanes = 8 << planes;
            if let Some(shape) = RowShape::choose(lanes, most, (rows, columns)) {
                let units = shape.lanes * shape.splits;
                prop_assert!(units * shape.groups <= most);
                prop_assert!(units * UNIT_COLUMNS >= columns && (units - lanes) * UNIT_COLUMNS < columns.next_multiple_of(128));
                prop_assert!(shape.batches > 0 && shape.batches.is_multiple_of(shape.slots));
            } else {
                prop_assert!(columns > most.min(512) / 2 * UNIT_COLUMNS);
            }
        }
    }

    #[test]
    fn the_released_products_are_cut_evenly() {
        for (rows, columns, cut) in [
            (24_576, 4096, (4, 1, 24)),
            (6144, 4096, (4, 1, 6)),
            (4096, 4096, (4, 1, 4)),
            (4096, 12_288, (12, 1, 4)),
        ] {
            let shape = RowShape::choose(32, 1024, (rows, columns)).unwrap();
            assert_eq!((shape.splits, shape.groups, shape.batches), cut);
            assert_eq!(rows, shape.batch * shape.batches * shape.groups * RowShape::CUBES);
        }
    }
}
