//! 1/√x in f32 as the reference's linear algebra has it.
//!
//! The reference factors by oneMKL. On an AMD processor, which the golden values came from, that scales a column of the factor by
//! the estimate of the instruction RSQRTSS, 12 bits, after one step of Newton's: a unit or so in the last place away from 1/√x. A
//! history's system multiplies that unit to 10⁻⁵ m/s. Integers in place of the instruction give the same on every processor.

/// Bit `middle` of `[octave][segment]`: where the estimate at the start of 16 cells is rounded up.
const ROUNDED_UP: [[u16; 16]; 2] = [
    [
        0x8088, 0xafe5, 0xecf2, 0xec02, 0xc780, 0xfbaa, 0xd523, 0x6004, 0xdbfb, 0xe7f8, 0x6aa4, 0xffff, 0x4918, 0xdb55,
        0x307c, 0x4c60,
    ],
    [
        0xade6, 0xa604, 0x7f88, 0x9b52, 0xa47f, 0xe76f, 0xb31f, 0xcdaa, 0x83e0, 0x5299, 0x736b, 0xffff, 0x4886, 0x954a,
        0xcc92, 0xf078,
    ],
];

/// Bit `cell` of `[octave][segment]`: whether the estimate is one lower in the next of 16 cells.
const FALLS: [[u16; 16]; 2] = [
    [
        0x7f7f, 0x77f7, 0x5f7b, 0x5ddb, 0x5b76, 0x6d6d, 0x5b56, 0x356a, 0x5555, 0x2aaa, 0x552a, 0x4aa5, 0x2a52, 0x494a,
        0x4a52, 0x24a4,
    ],
    [
        0x5b6d, 0x36d6, 0x2b56, 0x5556, 0x2aaa, 0x4aa9, 0x254a, 0x294a, 0x1494, 0x2492, 0x2492, 0x2249, 0x1224, 0x1224,
        0x2222, 0x2222,
    ],
];

/// Bits of an f32 below those that an estimate has.
const BELOW: u32 = 11;

/// 1/√x of a normal positive number, to 22 bits.
pub(crate) fn reciprocal_root(x: f32) -> f32 {
    let root = estimate(x);
    root * 0.5 * (3.0 - x * root * root)
}

/// 1/√x to 12 bits. The mantissa's leading bits are four of a segment, four of a middle and four of a cell.
fn estimate(x: f32) -> f32 {
    let bits = x.to_bits();
    let four = |shift: u32| (bits >> shift & 15) as usize;
    let (segment, middle, cell) = (four(19), four(15), four(BELOW));
    // The exponent's bias is odd: the even exponents are the octave from 1, odd ones that from 2.
    let octave = usize::from(bits >> 23 & 1 == 0);
    let first_cell = f32::from_bits(bits >> 15 << 15 | 1 << (BELOW - 1));
    let exact = (1.0 / f64::from(first_cell).sqrt()) as f32;
    let up = u32::from(ROUNDED_UP[octave][segment] >> middle & 1);
    let down = (FALLS[octave][segment] & ((1 << cell) - 1)).count_ones();
    f32::from_bits(((exact.to_bits() >> BELOW) + up - down) << BELOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn estimates_are_the_instructions() {
        let known = [
            (1.0, 0.999_877_9),
            (1.001_709, 0.999_023_44),
            (2.0, 0.707_031_25),
            (2.007_812_5, 0.705_688_5),
        ];
        for (x, truth) in known {
            assert_eq!(estimate(x), truth, "{x}");
            assert_eq!(estimate(x * 0.25), truth * 2.0, "{x}");
        }
    }

    #[test]
    fn every_estimate_is_the_instructions() {
        let octaves = (1.0_f32.to_bits()..4.0_f32.to_bits()).step_by(1 << BELOW);
        let checksum = octaves.fold(0_u32, |sum, bits| {
            let estimate = estimate(f32::from_bits(bits)).to_bits() >> BELOW;
            sum.wrapping_mul(31).wrapping_add(estimate)
        });
        // What the instruction gives on an EPYC of the third generation.
        assert_eq!(checksum, 0x41c1_8080);
    }

    proptest! {
        #[test]
        fn roots_have_22_bits(x in 1e-30f32..1e30) {
            let truth = 1.0 / f64::from(x).sqrt();
            let error = f64::from(reciprocal_root(x)) / truth - 1.0;
            prop_assert!(error.abs() <= 2.4e-7, "{} {}", x, error);
        }
    }
}
