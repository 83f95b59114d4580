//! Random streams that are the same on every platform and backend.
//!
//! Every consumer of randomness has a stream of its own, addressed by `(seed, purpose, row)`. What a row draws therefore
//! depends neither on how many rows there are, nor on what other rows or other purposes have drawn.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a stream is used for. Two purposes never share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Token sampling.
    Tokens = 0,
    /// The noise that flow matching starts from.
    FlowNoise = 1,
    /// Resampling for confidence intervals.
    Bootstrap = 2,
    /// Sign flips of the paired test.
    Permutation = 3,
    /// Perturbations of clips; see [`crate::perturb`].
    Perturbation = 4,
}

/// A seeded ChaCha stream with eight rounds.
#[derive(Clone, Debug)]
pub struct RandomStream(ChaCha8Rng);

impl RandomStream {
    /// The stream for `row` (a clip's sample, or whatever is numbered) of this seed and purpose.
    pub fn new(seed: u64, purpose: Purpose, row: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = purpose as u8;
        let mut chacha = ChaCha8Rng::from_seed(key);
        chacha.set_stream(row);
        Self(chacha)
    }

    /// The stream of this key, for perturbations. Byte 8, where [`Self::new`] keeps the purpose, is overwritten with theirs.
    pub(crate) fn perturbation(mut key: [u8; 32]) -> Self {
        key[8] = Purpose::Perturbation as u8;
        Self(ChaCha8Rng::from_seed(key))
    }

    /// The stream's next bytes.
    pub(crate) fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A uniform number in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A uniform integer in `0..bound` (0 where `bound` is 0), with a bias below `bound / 2⁶⁴`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.0.next_u64() >> 63 == 1
    }

    /// Two independent standard normal numbers, by Box and Muller's transform.
    ///
    /// It takes exactly two uniform numbers, never a rejected one, so that draw n sits at a fixed place of the stream. Its
    /// logarithm, sine and cosine are those of the `libm` crate, which is pure Rust; the standard library's are the
    /// platform's and differ in the last bit from one system to the next (a ziggurat's tail needs them too).
    pub fn normal_pair(&mut self) -> [f64; 2] {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * self.uniform());
        [radius * cos, radius * sin]
    }
}

/// Standard normal noise for one row of the flow (`x0` of shape `[waypoints, 2]`, row-major), `count` values.
///
/// A shorter row is a prefix of a longer one.
pub fn flow_noise(seed: u64, row: u64, count: usize) -> Vec<f32> {
    let mut stream = RandomStream::new(seed, Purpose::FlowNoise, row);
    let mut noise: Vec<f32> = (0..count.div_ceil(2))
        .flat_map(|_| stream.normal_pair())
        .map(|value| value as f32)
        .collect();
    noise.truncate(count);
    noise
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn noise_has_the_moments_of_a_standard_normal() {
        let n = 400_000;
        let noise = flow_noise(7, 3, n);
        let moment = |power: i32| noise.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / n as f64;
        // Five standard errors: the k-th moment's variance is (m_2k - m_k²) / n.
        for (power, truth, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let bound = 5.0 * f64::sqrt(variance / n as f64);
            let found = moment(power);
            assert!((found - truth).abs() < bound, "moment {power}: {found}");
        }
        let within = noise.iter().filter(|x| x.abs() < 1.0).count() as f64 / n as f64;
        assert!((within - 0.682_689_5).abs() < 5.0 * f64::sqrt(0.6827 * 0.3173 / n as f64));
        let lag: f64 = noise.windows(2).map(|w| f64::from(w[0] * w[1])).sum::<f64>() / n as f64;
        assert!(lag.abs() < 5.0 / (n as f64).sqrt());
    }

    #[test]
    fn noise_is_pinned() {
        // The same bits on every platform and in every later version: published results depend on them.
        let bits: Vec<u32> = flow_noise(42, 0, 4).iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, PINNED);
    }

    const PINNED: [u32; 4] = [1_060_476_920, 1_065_209_971, 1_059_687_510, 3_212_352_298];

    proptest! {
        #[test]
        fn streams_are_addressed_not_shared(seed: u64, row in 0u64..1000, n in 1usize..50) {
            prop_assert_eq!(&flow_noise(seed, row, 50)[..n], &flow_noise(seed, row, n)[..]);
            prop_assert_ne!(flow_noise(seed, row, 8), flow_noise(seed, row + 1, 8));
            prop_assert_ne!(flow_noise(seed, row, 8), flow_noise(seed.wrapping_add(1), row, 8));
            let first = |purpose| RandomStream::new(seed, purpose, row).uniform();
            prop_assert_ne!(first(Purpose::Tokens), first(Purpose::FlowNoise));
        }

        #[test]
        fn below_is_in_range(seed: u64, bound in 1usize..1_000_000) {
            let mut stream = RandomStream::new(seed, Purpose::Bootstrap, 0);
            prop_assert!(stream.below(bound) < bound);
            prop_assert!((0.0..1.0).contains(&stream.uniform()));
        }
    }
}
