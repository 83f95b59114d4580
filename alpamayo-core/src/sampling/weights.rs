//! Unnormalised probabilities of a whole vocabulary, without sorting it.
//!
//! Top-p is defined on the sorted vocabulary, but only tokens close to where the cut falls need an order. Weights are
//! added up in buckets by their leading bits, which are ordered as the weights are; buckets below the one that holds the
//! cut are dropped as a whole, and only that one is sorted.

use std::ops::Range;

use super::exp::exp_nonpositive;
use super::wide::widest;
use super::{LogitsFault, SamplingOptions};
use crate::{Error, Result};

/// Bits of a weight below its bucket's number: what stays is the exponent and six bits of the mantissa.
const BUCKET_SHIFT: u32 = 17;
/// The bucket of the weight 1, the last.
const LAST_BUCKET: u32 = 1.0f32.to_bits() >> BUCKET_SHIFT;
/// Separate sums of each bucket: neighbours often share one, and an addition would wait for the one before.
const COPIES: usize = 4;
/// Tokens whose weights are added up together when one is picked.
const BLOCK: usize = 1024;
/// Tokens that are looked at one by one if any of them is in the cut's bucket.
const PART: usize = 64;
/// Independent sums or maxima in loops over the vocabulary, so that they vectorise; the order of additions is fixed.
const LANES: usize = 16;

/// The weights of all tokens relative to the most likely one's; zero for tokens that are not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Weights {
    weights: Vec<f32>,
    /// Sum of the weights of each block.
    blocks: Vec<f64>,
    /// Sums of the weights of each bucket.
    buckets: Vec<[f64; COPIES]>,
    /// The ids of the tokens in the bucket that holds the cut, and room for one more.
    border_ids: Vec<u32>,
    /// The tokens of the bucket that holds the cut: scaled logit and id.
    border: Vec<(f32, usize)>,
    /// Copy of the logits that top-k may reorder.
    selection: Vec<f32>,
}

impl Weights {
    /// Fills in the weights, drops what `options` drop, and returns the total of the rest.
    pub fn compute(&mut self, logits: &[f32], masked: &Range<u32>, options: &SamplingOptions) -> Result<f64> {
        let allowed = allowed(logits.len(), masked);
        let temperature = options.temperature as f32;
        let max = max_logit(logits, &allowed)? / temperature;
        let least = match options.top_k {
            Some(k) => self.kth_largest(logits, &allowed, k) / temperature,
            None => f32::NEG_INFINITY,
        };
        self.weights.resize(logits.len(), 0.0);
        self.weights[allowed[0].end..allowed[1].start].fill(0.0);
        for range in allowed {
            weigh(
                &mut self.weights[range.clone()],
                &logits[range],
                temperature,
                max,
                least,
            );
        }
        let total = self.total();
        if !total.is_finite() {
            return Err(Error::Logits(LogitsFault::Overflow));
        }
        if options.top_p >= 1.0 {
            return Ok(total);
        }
        self.drop_unlikely(logits, temperature, (1.0 - options.top_p) * total);
        Ok(self.total())
    }

    /// The weights, zero for dropped tokens.
    pub fn kept(&self) -> &[f32] {
        &self.weights
    }

    /// The token in whose share of the total `target` lies, tokens being laid out in the order of their ids.
    pub fn pick(&self, target: f64) -> usize {
        let mut remaining = target;
        let mut last = 0;
        for (block, (weights, &in_block)) in self.weights.chunks(BLOCK).zip(&self.blocks).enumerate() {
            if in_block == 0.0 {
                continue;
            }
            if remaining < in_block {
                for (i, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
                    last = block * BLOCK + i;
                    remaining -= f64::from(weight);
                    if remaining < 0.0 {
                        return last;
                    }
                }
                // Rounding alone leads here: the block's last token it is.
                return last;
            }
            remaining -= in_block;
            let position = weights.iter().rposition(|&weight| weight > 0.0);
            last = block * BLOCK + position.unwrap_or(0);
        }
        last
    }

    /// The k-th largest allowed logit, -∞ where there are no more than k.
    fn kth_largest(&mut self, logits: &[f32], allowed: &[Range<usize>; 2], k: usize) -> f32 {
        self.selection.clear();
        for range in allowed {
            self.selection.extend_from_slice(&logits[range.clone()]);
        }
        if k >= self.selection.len() {
            return f32::NEG_INFINITY;
        }
        let (_, kth, _) = self.selection.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        *kth
    }

    /// Zeroes, from the least likely token upwards, every weight up to which the sum is ≤ `limit`, but not the last one.
    fn drop_unlikely(&mut self, logits: &[f32], temperature: f32, limit: f64) {
        let (border, mut dropped) = self.cut(limit);
        // Buckets are ordered as the weights are: the border's are those from `low` up to, not including, `high`.
        let [low, high] = [border, border + 1].map(|bucket| f32::from_bits(bucket << BUCKET_SHIFT));
        self.border_ids.resize(self.weights.len() + 1, 0);
        let count = drop_below(&mut self.weights, low, high, &mut self.border_ids);
        self.border.clear();
        let ids = self.border_ids[..count].iter().map(|&id| id as usize);
        self.border.extend(ids.map(|id| (logits[id] / temperature, id)));
        self.border
            .sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let removable = self.border.len() - usize::from(border == LAST_BUCKET);
        for &(_, id) in &self.border[..removable] {
            dropped += f64::from(self.weights[id]);
            if dropped > limit {
                break;
            }
            self.weights[id] = 0.0;
        }
    }

    /// The bucket where the sum of all weights from the least on passes `limit`, and the sum of those below it.
    fn cut(&mut self, limit: f64) -> (u32, f64) {
        // Weights so small that all tokens' together stay within the limit need no order: they share the first bucket.
        let negligible = (limit / self.weights.len() as f64) as f32;
        let first = (negligible.to_bits() >> BUCKET_SHIFT).min(LAST_BUCKET);
        self.buckets.clear();
        self.buckets.resize((LAST_BUCKET - first) as usize + 1, [0.0; COPIES]);
        add_by_bucket(&mut self.buckets, &self.weights, first);
        let mut dropped = 0.0;
        for (bucket, copies) in (first..LAST_BUCKET).zip(&self.buckets) {
            let sum = dropped + copies.iter().sum::<f64>();
            if sum > limit {
                return (bucket, dropped);
            }
            dropped = sum;
        }
        (LAST_BUCKET, dropped)
    }

    /// The sum of all weights, and those of the blocks.
    fn total(&mut self) -> f64 {
        self.blocks.clear();
        self.blocks.extend(self.weights.chunks(BLOCK).map(sum));
        self.blocks.iter().sum()
    }
}

widest! {
    /// exp(logit / temperature - max) of every logit, zero below `least`.
    fn weigh(weights: &mut [f32], logits: &[f32], temperature: f32, max: f32, least: f32) {
        for (weight, &logit) in weights.iter_mut().zip(logits) {
            let scaled = logit / temperature;
            let kept = exp_nonpositive(scaled - max);
            *weight = if scaled < least { 0.0 } else { kept };
        }
    }
}

widest! {
    /// Adds weights in [0, 1] to the sums of their buckets; those below the bucket `first` to its.
    fn add_by_bucket(buckets: &mut [[f64; COPIES]], weights: &[f32], first: u32) {
        let bucket = |weight: f32| ((weight.to_bits() >> BUCKET_SHIFT).max(first) - first) as usize;
        let (chunks, rest) = weights.as_chunks::<COPIES>();
        for chunk in chunks {
            for (copy, &weight) in chunk.iter().enumerate() {
                buckets[bucket(weight)][copy] += f64::from(weight);
            }
        }
        for &weight in rest {
            buckets[bucket(weight)][0] += f64::from(weight);
        }
    }
}

widest! {
    /// Zeroes the weights below `low`; writes the ids of those that are left below `high` to the front of `ids`, which has room
    /// for all and one more, and returns how many there are.
    fn drop_below(weights: &mut [f32], low: f32, high: f32, ids: &mut [u32]) -> usize {
        let is_left = |weight: f32| u32::from(weight >= low) & u32::from(weight < high);
        let mut count = 0;
        for (block, weights) in weights.chunks_mut(BLOCK).enumerate() {
            let mut any = 0;
            for weight in weights.iter_mut() {
                *weight = if *weight < low { 0.0 } else { *weight };
                any |= is_left(*weight);
            }
            if any == 0 {
                continue;
            }
            for (part, weights) in weights.chunks(PART).enumerate() {
                if weights.iter().fold(0, |any, &weight| any | is_left(weight)) == 0 {
                    continue;
                }
                // Written whether it counts or not: nobody can foresee a branch here.
                for (id, &weight) in (block * BLOCK + part * PART..).zip(weights) {
                    ids[count] = id as u32;
                    count += is_left(weight) as usize;
                }
            }
        }
        count
    }
}

/// The ids below and above the masked ones.
pub(super) fn allowed(vocabulary: usize, masked: &Range<u32>) -> [Range<usize>; 2] {
    let start = (masked.start as usize).min(vocabulary);
    let end = (masked.end as usize).clamp(start, vocabulary);
    [0..start, end..vocabulary]
}

/// The largest allowed logit.
pub(super) fn max_logit(logits: &[f32], allowed: &[Range<usize>; 2]) -> Result<f32> {
    let mut max = f32::NEG_INFINITY;
    for range in allowed {
        let (found, nan) = max_or_nan(&logits[range.clone()]);
        if nan {
            return Err(Error::Logits(LogitsFault::Nan));
        }
        max = max.max(found);
    }
    match max {
        f32::INFINITY => Err(Error::Logits(LogitsFault::Infinite)),
        f32::NEG_INFINITY => Err(Error::Logits(LogitsFault::Nothing)),
        max => Ok(max),
    }
}

widest! {
    /// The largest logit, and whether one is NaN.
    fn max_or_nan(logits: &[f32]) -> (f32, bool) {
        // Plain loops: with closures or iterators over the lanes these don't vectorise.
        let mut max = [f32::NEG_INFINITY; 2 * LANES];
        let mut nan = [0u32; 2 * LANES];
        let (chunks, rest) = logits.as_chunks::<{ 2 * LANES }>();
        for chunk in chunks {
            for lane in 0..2 * LANES {
                let logit = chunk[lane];
                max[lane] = if logit > max[lane] { logit } else { max[lane] };
                nan[lane] |= u32::from(logit.is_nan());
            }
        }
        for &logit in rest {
            max[0] = if logit > max[0] { logit } else { max[0] };
            nan[0] |= u32::from(logit.is_nan());
        }
        (max.into_iter().fold(f32::NEG_INFINITY, f32::max), nan != [0; 2 * LANES])
    }
}

widest! {
    fn sum(weights: &[f32]) -> f64 {
        let mut sums = [0.0; LANES];
        let (chunks, rest) = weights.as_chunks::<LANES>();
        for chunk in chunks {
            (0..LANES).for_each(|lane| sums[lane] += f64::from(chunk[lane]));
        }
        sums.into_iter().sum::<f64>() + rest.iter().map(|&weight| f64::from(weight)).sum::<f64>()
    }
}
