//! Weights added up in bins by their bits, which are ordered as the weights are.
//!
//! Three levels: the exponent and five bits of the mantissa; of one of those bins the ten bits that follow; of one of these the
//! last eight. Where the running sum passes a limit is known to a single value of the weight then.

use cubecl::prelude::*;

use super::wide::{PIECE, Pieces, SharedWides, UNITS, Wide, add, is_within, join, share, subtract};

/// Bits of a weight below its bin.
const SHIFTS: [u32; 3] = [18, 8, 0];
/// What lies below 2⁻⁴⁰ is no part of any sum, and in the first level's bin 0.
const BEFORE: u32 = (87 << 5) - 1;
/// Bins of a level; the first's are those of 2⁻⁴⁰ to 1, and the one below them.
pub const BINS: [usize; 3] = [(127 << 5) - BEFORE as usize + 1, 1 << 10, 1 << 8];
/// Bits of the lower word of a bin in global memory: 64 cubes add such numbers up in 32 bits.
const HALF: u32 = 26;

/// The bin of a weight's bits on a level.
#[cube]
pub fn bin_of(bits: u32, #[comptime] level: usize) -> u32 {
    let leading = bits >> comptime!(SHIFTS[level]);
    if comptime!(level == 0) {
        max(leading, BEFORE) - BEFORE
    } else {
        leading & comptime!(BINS[level] as u32 - 1)
    }
}

/// The leading bits of the weights in a bin of a level: `above` are those of the level's before.
#[cube]
pub fn leading_of(above: u32, bin: u32, #[comptime] level: usize) -> u32 {
    if comptime!(level == 0) {
        bin + BEFORE
    } else {
        (above << comptime!(SHIFTS[level - 1] - SHIFTS[level])) | bin
    }
}

/// The bits of a weight that its bins on the levels up to this one stand for.
#[cube]
pub fn leading(bits: u32, #[comptime] level: usize) -> u32 {
    bits >> comptime!(SHIFTS[level])
}

/// Zeroes words that the units of a cube share.
///
/// One word per branch: of two stores of the same number in one block CubeCL 0.10's optimiser keeps the first.
#[cube]
pub fn clear(words: &SharedMemory<Atomic<u32>>, #[comptime] count: usize) {
    #[unroll]
    for i in 0..comptime!(count.div_ceil(UNITS)) {
        let word = UNIT_POS as usize + comptime!(i * UNITS);
        if word < count {
            words[word].store(0u32);
        }
    }
}

/// A cube's sums.
#[derive(CubeType)]
pub struct SharedHistogram {
    low: SharedMemory<Atomic<u32>>,
    high: SharedMemory<Atomic<u32>>,
    #[cube(comptime)]
    bins: usize,
}

#[cube]
impl SharedHistogram {
    /// All of them zero, once the units have met.
    pub fn new(#[comptime] bins: usize) -> SharedHistogram {
        let low = SharedMemory::<Atomic<u32>>::new(bins);
        let high = SharedMemory::<Atomic<u32>>::new(bins);
        clear(&low, bins);
        clear(&high, bins);
        SharedHistogram { low, high, bins }
    }

    pub fn add(&self, bin: u32, weight: Pieces) {
        if weight.low > 0 {
            self.low[bin as usize].fetch_add(weight.low);
        }
        if weight.high > 0 {
            self.high[bin as usize].fetch_add(weight.high);
        }
    }

    /// Adds the sums to those of the row in global memory, from bin `base` on.
    pub fn flush(&self, histogram: &mut Array<Atomic<u32>>, base: usize) {
        let mut bin = UNIT_POS as usize;
        while bin < self.bins {
            let sum = join(self.high[bin].load(), self.low[bin].load(), PIECE);
            if sum.low > 0 || sum.high > 0 {
                let at = 2 * (base + bin);
                histogram[at].fetch_add(sum.low & comptime!((1u32 << HALF) - 1));
                histogram[at + 1].fetch_add((sum.low >> HALF) | (sum.high << comptime!(32 - HALF)));
            }
            bin += UNITS;
        }
    }
}

/// The bin where the running sum passes a limit, and what the limit leaves above the bins before.
#[derive(CubeType, Clone, Copy)]
pub struct Cut {
    pub bin: u32,
    pub rest: Wide,
}

/// Finds the cut in a row's bins of a level. The limit is, on the first, a share (its low word over 2³²) of the total. Where nothing
/// passes the limit, the bin is `u32::MAX`.
#[cube]
pub fn find_cut(
    histogram: &Array<u32>,
    row: usize,
    limit: Wide,
    sums: &mut SharedWides,
    #[comptime] level: usize,
) -> Cut {
    let bins = comptime!(BINS[level]);
    let base = row * bins;
    let mut found = SharedMemory::<u32>::new(3usize);
    let run = comptime!(bins.div_ceil(UNITS));
    let first = UNIT_POS as usize * run;
    let mut low = 0u32;
    let mut high = 0u32;
    #[unroll]
    for i in 0..run {
        let sum = add(Wide { low, high }, bin_sum(histogram, base, first + i, bins));
        low = sum.low;
        high = sum.high;
    }
    let own = Wide { low, high };
    if UNIT_POS == 0 {
        found[0] = 0xffff_ffffu32;
        found[1] = 0u32;
        found[2] = 0u32;
    }
    let scan = sums.scan(own);
    let mut target_low = limit.low;
    let mut target_high = limit.high;
    if comptime!(level == 0) {
        let target = share(scan.total, limit.low);
        target_low = target.low;
        target_high = target.high;
    }
    let target = Wide {
        low: target_low,
        high: target_high,
    };
    if is_within(target, scan.before, own) {
        let mut passed_low = scan.before.low;
        let mut passed_high = scan.before.high;
        let mut open = true;
        // One unit's work, with bins that it has just read.
        for i in 0..run {
            let passed = Wide {
                low: passed_low,
                high: passed_high,
            };
            let sum = bin_sum(histogram, base, first + i, bins);
            if open && is_within(target, passed, sum) {
                let rest = subtract(target, passed);
                found[0] = (first + i) as u32;
                found[1] = rest.low;
                found[2] = rest.high;
                open = false;
            }
            let passed = add(passed, sum);
            passed_low = passed.low;
            passed_high = passed.high;
        }
    }
    sync_cube();
    Cut {
        bin: found[0],
        rest: Wide {
            low: found[1],
            high: found[2],
        },
    }
}

#[cube]
fn bin_sum(histogram: &Array<u32>, base: usize, bin: usize, #[comptime] bins: usize) -> Wide {
    // Something is loaded where there is no such bin: loads that depend on a condition are waited for one by one.
    let at = 2 * (base + min(bin, comptime!(bins - 1)));
    let (low, high) = (histogram[at], histogram[at + 1]);
    let sum = join(high, low, HALF);
    Wide {
        low: select(bin < bins, sum.low, 0u32.runtime()),
        high: select(bin < bins, sum.high, 0u32.runtime()),
    }
}
