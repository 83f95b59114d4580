//! Sums of weights as 64-bit integers in pairs of 32-bit words, which every GPU has.
//!
//! A weight in [0, 1] counts as `floor(weight · 2⁴⁰)`. Sums of such numbers are exact, whatever their order: so is what is drawn.

use cubecl::prelude::*;

/// Units of a cube.
pub const UNITS: usize = 256;
/// Bits of the lower of two pieces of a weight. Cubes add up pieces of fewer than 2¹² weights in 32 bits.
pub const PIECE: u32 = 20;
/// 2²⁰.
const SCALE: f32 = 1_048_576.0;

/// `high · 2³² + low`.
#[derive(CubeType, Clone, Copy)]
pub struct Wide {
    pub low: u32,
    pub high: u32,
}

/// A weight in pieces of 20 bits, or sums of them.
#[derive(CubeType, Clone, Copy)]
pub struct Pieces {
    pub low: u32,
    pub high: u32,
}

/// `floor(weight · 2⁴⁰)` in pieces. Every operation is exact, fused or not.
#[cube]
pub fn pieces(weight: f32) -> Pieces {
    let scaled = weight * SCALE;
    let high = u32::cast_from(scaled);
    let low = u32::cast_from((scaled - f32::cast_from(high)) * SCALE);
    Pieces { low, high }
}

/// `high · 2^shift + low`.
#[cube]
pub fn join(high: u32, low: u32, #[comptime] shift: u32) -> Wide {
    let sum = (high << shift) + low;
    let carry = u32::cast_from(sum < low);
    Wide {
        low: sum,
        high: (high >> comptime!(32 - shift)) + carry,
    }
}

#[cube]
pub fn add(a: Wide, b: Wide) -> Wide {
    let low = a.low + b.low;
    Wide {
        low,
        high: a.high + b.high + u32::cast_from(low < a.low),
    }
}

/// `a - b`, which isn't negative.
#[cube]
pub fn subtract(a: Wide, b: Wide) -> Wide {
    Wide {
        low: a.low - b.low,
        high: a.high - b.high - u32::cast_from(a.low < b.low),
    }
}

#[cube]
pub fn is_less(a: Wide, b: Wide) -> bool {
    a.high < b.high || (a.high == b.high && a.low < b.low)
}

/// `floor(value · fraction / 2³²)`.
#[cube]
pub fn share(value: Wide, fraction: u32) -> Wide {
    let product = multiply(value.high, fraction);
    let rest = multiply(value.low, fraction);
    add(
        product,
        Wide {
            low: rest.high,
            high: 0u32.runtime(),
        },
    )
}

#[cube]
fn multiply(a: u32, b: u32) -> Wide {
    let (a0, a1) = (a & 0xffffu32, a >> 16);
    let (b0, b1) = (b & 0xffffu32, b >> 16);
    let (outer, inner) = (a0 * b1, a1 * b0);
    let middle = ((a0 * b0) >> 16) + (outer & 0xffffu32) + (inner & 0xffffu32);
    Wide {
        low: a * b,
        high: a1 * b1 + (outer >> 16) + (inner >> 16) + (middle >> 16),
    }
}

/// Sums over the units of a cube.
#[derive(CubeType, Clone, Copy)]
pub struct Scan {
    /// Of the units before this one.
    pub before: Wide,
    /// Of all units.
    pub total: Wide,
}

/// Units whose numbers are added up first.
pub const GROUP: usize = 16;

/// One word pair per unit, and one per group of them, that all units of the cube see.
#[derive(CubeType)]
pub struct SharedWides {
    low: SharedMemory<u32>,
    high: SharedMemory<u32>,
    group_low: SharedMemory<u32>,
    group_high: SharedMemory<u32>,
}

#[cube]
impl SharedWides {
    pub fn new() -> SharedWides {
        SharedWides {
            low: SharedMemory::<u32>::new(UNITS),
            high: SharedMemory::<u32>::new(UNITS),
            group_low: SharedMemory::<u32>::new(GROUP),
            group_high: SharedMemory::<u32>::new(GROUP),
        }
    }

    /// Adds up the units' numbers, in groups and then the groups: units meet three times.
    pub fn scan(&mut self, own: Wide) -> Scan {
        let unit = UNIT_POS as usize;
        let (group, lane) = (unit / GROUP, unit % GROUP);
        sync_cube();
        self.low[unit] = own.low;
        self.high[unit] = own.high;
        sync_cube();
        let in_group = sum(&self.low, &self.high, unit - lane, lane, lane).total;
        if lane == GROUP - 1 {
            let sum = add(in_group, own);
            self.group_low[group] = sum.low;
            self.group_high[group] = sum.high;
        }
        sync_cube();
        let groups = sum(
            &self.group_low,
            &self.group_high,
            0usize.runtime(),
            group,
            GROUP.runtime(),
        );
        Scan {
            before: add(groups.before, in_group),
            total: groups.total,
        }
    }
}

/// The sum of the first `count` numbers from `start` on, and of those in front of the one at `before`, where it is among them.
///
/// A loop, though it is short: as straight code a draw's kernels take longer to arrive at a processor than to run.
#[cube]
fn sum(low: &SharedMemory<u32>, high: &SharedMemory<u32>, start: usize, before: usize, count: usize) -> Scan {
    let mut sum_low = 0u32;
    let mut sum_high = 0u32;
    let mut before_low = 0u32;
    let mut before_high = 0u32;
    for i in 0..count {
        if i == before {
            before_low = sum_low;
            before_high = sum_high;
        }
        let sum = add(
            Wide {
                low: sum_low,
                high: sum_high,
            },
            Wide {
                low: low[start + i],
                high: high[start + i],
            },
        );
        sum_low = sum.low;
        sum_high = sum.high;
    }
    Scan {
        before: Wide {
            low: before_low,
            high: before_high,
        },
        total: Wide {
            low: sum_low,
            high: sum_high,
        },
    }
}

/// Whether `target` lies in the share of this unit, behind those before it.
#[cube]
pub fn is_within(target: Wide, before: Wide, own: Wide) -> bool {
    let behind = add(before, own);
    !is_less(target, before) && is_less(target, behind)
}
