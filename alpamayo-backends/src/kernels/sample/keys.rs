//! What logits and weights are compared by, and how weights come from logits.

use std::f32::consts::LOG2_E;

use cubecl::prelude::*;

use super::wide::{GROUP, UNITS};

/// The key of every NaN; those of numbers are below.
const NAN: u32 = 0xffff_ffff;
/// The key of +∞.
const INFINITY: u32 = 0xff80_0000;
/// The key of -∞; what can't be drawn has the key 0.
const NEGATIVE_INFINITY: u32 = 0x007f_ffff;

/// Below this, `exp` is close to the smallest normal number, and counts as zero.
const UNDERFLOW: f32 = -87.0;
/// ln 2 in two parts; the first has so few digits that multiples of it are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// A number that is ordered as the f32 of these bits; both zeros have the same.
#[cube]
pub fn order_key(bits: u32) -> u32 {
    let magnitude = bits & 0x7fff_ffffu32;
    let mut key = bits | 0x8000_0000u32;
    if magnitude != bits && magnitude > 0 {
        key = bits ^ 0xffff_ffffu32;
    }
    if magnitude > 0x7f80_0000u32 {
        key = NAN;
    }
    key
}

/// The f32 of a key.
#[cube]
fn value(key: u32) -> f32 {
    let mut bits = key & 0x7fff_ffffu32;
    if bits == key {
        bits = key ^ 0xffff_ffffu32;
    }
    f32::reinterpret(bits)
}

/// The most likely token, the first if several are.
#[derive(CubeType, Clone, Copy)]
pub struct Best {
    pub key: u32,
    pub id: u32,
}

/// One candidate per unit.
#[derive(CubeType)]
pub struct SharedBest {
    keys: SharedMemory<u32>,
    ids: SharedMemory<u32>,
}

#[cube]
impl SharedBest {
    pub fn new() -> SharedBest {
        SharedBest {
            keys: SharedMemory::<u32>::new(UNITS),
            ids: SharedMemory::<u32>::new(UNITS),
        }
    }

    /// The best of the units' candidates, of groups of them first. Once per kernel.
    pub fn reduce(&mut self, own: Best) -> Best {
        let unit = UNIT_POS as usize;
        self.keys[unit] = own.key;
        self.ids[unit] = own.id;
        sync_cube();
        if unit % GROUP == 0 {
            let best = best_of(&self.keys, &self.ids, unit, 1usize);
            self.keys[unit] = best.key;
            self.ids[unit] = best.id;
        }
        sync_cube();
        best_of(&self.keys, &self.ids, 0usize.runtime(), GROUP)
    }
}

/// The best of 16 candidates from `start` on.
#[cube]
fn best_of(keys: &SharedMemory<u32>, ids: &SharedMemory<u32>, start: usize, #[comptime] stride: usize) -> Best {
    let mut key = keys[start];
    let mut id = ids[start];
    #[unroll]
    for i in 1..GROUP {
        let at = start + comptime!(i * stride);
        let (other_key, other_id) = (keys[at], ids[at]);
        if other_key > key || (other_key == key && other_id < id) {
            key = other_key;
            id = other_id;
        }
    }
    Best { key, id }
}

/// What is wrong with a row whose largest logit has this key, in the numbers of [`Sampled`](crate::sampling::Sampled).
#[cube]
pub fn fault(key: u32) -> u32 {
    let mut fault = 0u32;
    if key <= NEGATIVE_INFINITY {
        fault = 3u32;
    }
    if key >= INFINITY {
        fault = 2u32;
    }
    if key == NAN {
        fault = 1u32;
    }
    fault
}

/// The largest logit over the temperature, and what is wrong with the row.
#[derive(CubeType, Clone, Copy)]
pub struct Largest {
    pub scaled: f32,
    pub fault: u32,
}

#[cube]
pub fn largest(key: u32, temperature: f32) -> Largest {
    let scaled = value(key) / temperature;
    let mut fault = fault(key);
    if fault == 0 {
        if (u32::reinterpret(scaled) & 0x7f80_0000u32) == 0x7f80_0000u32 {
            fault = 4u32;
        }
    }
    Largest { scaled, fault }
}

/// The weight of a logit relative to the largest one's: alpamayo-core's exponential function, within 2e-7.
#[cube]
pub fn weight(logit: f32, temperature: f32, largest: f32) -> f32 {
    let x = min(logit / temperature - largest, 0.0f32);
    let clamped = max(x, UNDERFLOW);
    let n = (clamped * LOG2_E + 0.5f32).floor();
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let mut sum = 1.987_569_1e-4f32.runtime();
    sum = sum * r + 1.398_2e-3f32;
    sum = sum * r + 8.333_452e-3f32;
    sum = sum * r + 4.166_579_6e-2f32;
    sum = sum * r + 1.666_666_5e-1f32;
    sum = sum * r + 0.5f32;
    let two_to_n = f32::reinterpret(u32::cast_from(i32::cast_from(n) + 127i32) << 23);
    let mut value = (sum * r * r + r + 1.0f32) * two_to_n;
    if x < UNDERFLOW {
        value = 0.0f32;
    }
    value
}
