//! How the product of one row is cut into units.

use burn_cubecl::CubeRuntime;
use cubecl::client::ComputeClient;
use cubecl::ir::{ElemType, FloatKind};

use crate::kernels::product::{Following, Product};
use crate::layers::Quantization;

/// Units that share a group of 128 columns, each with eight columns of every block.
pub(super) const GROUP_UNITS: usize = Quantization::BLOCK / 8;

/// Columns of `x` that a unit holds.
pub(super) const UNIT_COLUMNS: usize = Quantization::GROUP / GROUP_UNITS;

/// What lies between the blocks of a shared row, in vectors, so that four of them are written at once.
pub(super) const SHARED_PADDING: usize = 2;

/// What a unit holds its columns of `x` as, for codes to be multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// Floats, as they are: every code becomes one too.
    Floats,
    /// Integers of two bytes each, for devices that multiply codes as the bytes they are.
    Bytes,
    /// The same, as the product in front has [written](super::prepared) them.
    Prepared,
}

/// What a product leaves for the next one, besides its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prepares {
    /// The next weight's scheme.
    pub quantization: Quantization,
    /// Whether an RMSNorm is in between, and outputs are written as they are as well: otherwise only the next product reads them.
    pub normed: bool,
}

/// The cut: a cube has `groups` groups of `splits` planes over the columns, each of which goes through weight rows of its own, once per
/// pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowShape {
    /// Units of a plane.
    pub lanes: usize,
    /// Planes that share the columns of a pass.
    pub splits: usize,
    /// Times that a group goes through its rows, with other columns each time.
    pub passes: usize,
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

/// What a device allows a cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CubeLimits {
    /// Units of a plane.
    pub lanes: usize,
    /// Most units.
    pub units: usize,
    /// Most bytes of shared memory.
    pub shared: usize,
}

impl RowShape {
    /// Most units of a cube, where each of them reads its columns by itself.
    const UNITS: usize = 512;

    /// Units that such a cube should have at least.
    const LEAST_UNITS: usize = 128;

    /// Units of such a cube from which on one batch at a time is faster: 12,288 columns of 8 bits take 20.9 µs instead of 25 on an H200.
    const LARGE_UNITS: usize = 256;

    /// Cubes of few units that keep a large GPU busy: four for each of some 130 processors.
    const CUBES: usize = 512;

    /// Units of a cube whose row is prepared: with 768 a token's layer takes as long.
    const PREPARED_UNITS: usize = 1024;

    /// Cubes that read `x` once for all their units: one for each of as many processors.
    const LARGE_CUBES: usize = 128;

    /// Most planes that share the columns of a pass, where a cube's units share what was read.
    const SPLITS: usize = 4;

    /// The cut for a weight of `(rows, columns)`, or `None` where a cube can't hold a row.
    pub fn choose(limits: CubeLimits, extents: (usize, usize), quantization: Quantization, held: Held) -> Option<Self> {
        match held {
            Held::Floats => Self::of_floats(limits, extents),
            Held::Bytes => Self::of_bytes(limits, extents, quantization),
            Held::Prepared => Self::of_prepared(limits, extents, quantization),
        }
    }

    /// Planes over all columns, few of them in a cube: each unit reads its own.
    fn of_floats(limits: CubeLimits, (rows, columns): (usize, usize)) -> Option<Self> {
        let splits = slices(limits.lanes, columns);
        let units = limits.lanes * splits;
        if units > limits.units.min(Self::UNITS) {
            return None;
        }
        let shape = Self {
            lanes: limits.lanes,
            splits,
            passes: 1,
            groups: (Self::LEAST_UNITS / units).max(1),
            batch: 2,
            // Large cubes hide by themselves that a batch is on its way.
            slots: if units >= Self::LARGE_UNITS { 1 } else { 2 },
            batches: 2,
            held: Held::Floats,
        };
        Some(shape.spread(rows, Self::CUBES))
    }

    /// Cubes as large as they can be: what one of them has read and made bytes of is for all its units.
    fn of_bytes(limits: CubeLimits, (rows, columns): (usize, usize), quantization: Quantization) -> Option<Self> {
        let slices = slices(limits.lanes, columns);
        let passes = slices.div_ceil(Self::SPLITS);
        let splits = slices.div_ceil(passes);
        // What measured best on an H200, where registers leave room for one such cube.
        let units = match quantization {
            Quantization::Int8 => 768,
            Quantization::Int4 => 1024,
        };
        let shape = Self {
            lanes: limits.lanes,
            splits,
            passes,
            groups: (limits.units.min(units) / (limits.lanes * splits)).max(1),
            batch: 2,
            slots: 1,
            batches: 2,
            held: Held::Bytes,
        };
        Some(shape.fitted(limits, rows)?.early(quantization))
    }

    /// Planes over all columns, as many as there can be: a unit reads its own, once.
    fn of_prepared(limits: CubeLimits, (rows, columns): (usize, usize), quantization: Quantization) -> Option<Self> {
        let splits = slices(limits.lanes, columns);
        let shape = Self {
            lanes: limits.lanes,
            splits,
            passes: 1,
            groups: (limits.units.min(Self::PREPARED_UNITS) / (limits.lanes * splits)).max(1),
            batch: 2,
            slots: 1,
            batches: 2,
            held: Held::Prepared,
        };
        Some(shape.fitted(limits, rows)?.early(quantization))
    }

    /// The same cut in cubes whose parts of all rows' sums fit beside the row; `None` where they don't, or a cube has too many units.
    fn fitted(self, limits: CubeLimits, rows: usize) -> Option<Self> {
        let room = limits.shared.checked_sub(self.row_bytes())? / size_of::<f32>();
        let together = self.groups * self.slots * self.batch;
        let rows_per_cube = room / self.parts() / together * together;
        let cubes = rows.div_ceil(Some(rows_per_cube).filter(|&rows| rows > 0)?);
        (self.lanes * self.splits <= limits.units).then(|| self.spread(rows, cubes.max(Self::LARGE_CUBES)))
    }

    /// The same cut where cubes have whole sets of the outputs, of so many weight rows each, to [prepare](super::prepared) them; `None`
    /// where that takes more shared memory than there is.
    pub fn of_sets(
        self,
        limits: CubeLimits,
        (rows, rows_per_output): (usize, usize),
        quantization: Quantization,
    ) -> Option<Self> {
        let groups = 1 << self.groups.min(UNIT_COLUMNS).ilog2();
        let shape = Self {
            groups,
            slots: 1,
            ..self
        };
        let set = (UNIT_COLUMNS / groups * rows_per_output).max(shape.batch);
        let cubes = Self::LARGE_CUBES.min(rows / (set * groups)).max(1);
        let rows_per_group = rows.div_ceil(cubes * groups).next_multiple_of(set);
        let sums = (rows_per_group * shape.parts() + rows_per_group) * groups * size_of::<f32>();
        let fits = set.is_multiple_of(shape.batch) && shape.row_bytes() + sums <= limits.shared;
        let shape = Self {
            batches: rows_per_group / shape.batch,
            ..shape
        };
        fits.then(|| shape.early(quantization))
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

    /// The same cut whose units ask for as many batches as registers leave room for before they wait for the launch in front: memory has
    /// nothing else to do then.
    fn early(self, quantization: Quantization) -> Self {
        let most = match quantization {
            Quantization::Int8 => 1,
            Quantization::Int4 => 2,
        };
        let slots = (1..=most).rev().find(|slots| self.batches.is_multiple_of(*slots));
        Self {
            slots: slots.unwrap_or(1),
            ..self
        }
    }

    /// Units of a cube.
    pub(super) fn units(&self) -> usize {
        self.lanes * self.splits * self.groups
    }

    /// Parts of a row's sum: as many as there are slices of columns.
    pub(super) fn parts(&self) -> usize {
        self.splits * self.passes
    }

    /// Sets of columns of which a unit holds one in each pass.
    pub(super) fn column_sets(&self) -> usize {
        self.lanes * self.parts()
    }

    /// Bytes of shared memory that a cube's row takes with its scales and squares.
    fn row_bytes(&self) -> usize {
        let shared = match self.held {
            Held::Prepared => 0,
            Held::Floats | Held::Bytes => {
                let words = (self.column_sets() + SHARED_PADDING) * Quantization::BLOCKS * 4;
                words + 2 * self.column_sets()
            }
        };
        (shared + self.splits * self.groups) * size_of::<u32>()
    }
}

/// Planes that hold all columns.
fn slices(lanes: usize, columns: usize) -> usize {
    (columns.div_ceil(Quantization::GROUP) * GROUP_UNITS).div_ceil(lanes)
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
    /// Whether the last cube has room for more weight rows than there are.
    pub ragged: bool,
    /// Whether the device has f16.
    pub has_halves: bool,
    /// What it leaves for the next product.
    pub prepares: Option<Prepares>,
}

impl RowConfig {
    /// A product in a given cut.
    pub fn new<R: CubeRuntime>(
        client: &ComputeClient<R>,
        shape: RowShape,
        product: &Product<R>,
        quantization: Quantization,
        prepares: Option<Prepares>,
    ) -> Self {
        let mut config = Self {
            shape,
            quantization,
            norm: product.norm.is_some(),
            following: Following {
                activation: product.activation,
                operands: product.operands(),
            },
            gated: product.gated,
            padded: product.weight.columns != shape.column_sets() * UNIT_COLUMNS,
            ragged: false,
            has_halves: client.properties().supports_type(ElemType::Float(FloatKind::F16)),
            prepares,
        };
        config.ragged = !(product.out_features()).is_multiple_of(config.outputs_per_cube());
        config
    }

    /// Weight rows of an output.
    pub(super) fn rows_per_output(&self) -> usize {
        if self.gated { 2 } else { 1 }
    }

    /// Weight rows of a group.
    pub(super) fn rows_per_group(&self) -> usize {
        self.shape.batches * self.shape.batch
    }

    /// Outputs of a cube.
    pub(super) fn outputs_per_cube(&self) -> usize {
        self.outputs_per_group() * self.shape.groups
    }

    /// Outputs of a group.
    pub fn outputs_per_group(&self) -> usize {
        self.rows_per_group() / self.rows_per_output()
    }

    /// The next weight's scheme, where something is left for it.
    pub(super) fn next_quantization(&self) -> Quantization {
        self.prepares
            .map_or(self.quantization, |prepares| prepares.quantization)
    }

    /// Vectors of four words that a unit loads of a weight row's codes.
    pub(super) fn code_vectors(&self) -> usize {
        self.quantization.chunks() / GROUP_UNITS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEMES: [Quantization; 2] = [Quantization::Int8, Quantization::Int4];
    const HELDS: [Held; 3] = [Held::Floats, Held::Bytes, Held::Prepared];

    proptest! {
        #[test]
        fn cubes_have_their_units_and_what_they_share(
            rows in 1..200_000_usize, columns in 1..20_000_usize, planes in 0..3_usize, units in 256..1025_usize, shared in 15..17_u32,
        ) {
            let limits = CubeLimits { lanes: 8 << planes, units, shared: 1 << shared };
            for (quantization, held) in SCHEMES.into_iter().flat_map(|scheme| HELDS.map(|held| (scheme, held))) {
                if let Some(shape) = RowShape::choose(limits, (rows, columns), quantization, held) {
                    let slice = shape.lanes * UNIT_COLUMNS;
                    prop_assert!(shape.units() <= units);
                    // All columns, and no plane without any but in the last pass.
                    prop_assert!(shape.parts() * slice >= columns);
                    prop_assert!((shape.parts() - shape.passes) * slice < columns.next_multiple_of(128));
                    prop_assert!(shape.batches > 0 && shape.batches.is_multiple_of(shape.slots));
                    let sums = shape.groups * shape.batch * shape.batches * shape.parts() * 4;
                    prop_assert!(held == Held::Floats || sums + shape.row_bytes() <= limits.shared);
                    for rows_per_output in [1, 2] {
                        let rows = 128 * rows_per_output * rows.div_ceil(256);
                        let Some(sets) = shape.of_sets(limits, (rows, rows_per_output), quantization) else { continue };
                        let per_cube = sets.groups * sets.batch * sets.batches;
                        prop_assert!(sets.units() <= units && sets.batches.is_multiple_of(sets.slots));
                        prop_assert!(per_cube.is_multiple_of(UNIT_COLUMNS * rows_per_output));
                        prop_assert!(4 * per_cube * (sets.parts() + 1) + sets.row_bytes() <= limits.shared);
                    }
                } else if held == Held::Prepared {
                    prop_assert!(slices(limits.lanes, columns) * limits.lanes > units || columns * 2 > limits.shared / 8);
                } else if held == Held::Floats {
                    prop_assert!(columns > units.min(512) / 2 * UNIT_COLUMNS);
                } else {
                    prop_assert!(columns * 2 > limits.shared / 2);
                }
            }
        }
    }

    #[test]
    fn the_released_products_are_cut_evenly() {
        let limits = CubeLimits {
            lanes: 32,
            units: 1024,
            shared: 48 << 10,
        };
        let cut = |shape: RowShape| (shape.splits, shape.passes, shape.groups, shape.batches);
        for (rows, columns, floats, int8, int4) in [
            (24_576, 4096, (4, 1, 1, 24), (4, 1, 6, 16), (4, 1, 8, 12)),
            (6144, 4096, (4, 1, 1, 6), (4, 1, 6, 4), (4, 1, 8, 3)),
            (4096, 4096, (4, 1, 1, 4), (4, 1, 6, 3), (4, 1, 8, 2)),
            (4096, 12_288, (12, 1, 1, 4), (4, 3, 6, 3), (4, 3, 8, 2)),
        ] {
            for quantization in SCHEMES {
                let choose = |held| RowShape::choose(limits, (rows, columns), quantization, held).unwrap();
                let (shape, shared) = (choose(Held::Floats), choose(Held::Bytes));
                assert_eq!(cut(shape), floats);
                assert_eq!(rows, shape.batch * shape.batches * shape.groups * 512);
                assert_eq!(
                    cut(shared),
                    if quantization == Quantization::Int8 { int8 } else { int4 }
                );
                // No more cubes than processors that read `x`.
                assert!(rows.div_ceil(shared.batch * shared.batches * shared.groups) <= 128);
            }
        }
    }
}
