//! What launches of a stream share: memory that they leave as they find it, and what was launched last.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{LazyLock, Mutex};

use cudarc::driver::{result, sys};

/// Counters of a stream: many more than the launches that can be under way at once need.
const COUNTERS: usize = 4096;

/// Bytes by which the blocks of a product exchange parts of sums: several times what the largest one needs.
const EXCHANGE: usize = 16 << 20;

/// The scratch memory of every stream, by its address.
static STREAMS: LazyLock<Mutex<HashMap<usize, Scratch>>> = LazyLock::new(Mutex::default);

/// One stream's.
struct Scratch {
    /// Zeros.
    counters: u64,
    next_counter: usize,
    /// Bytes of ones: no number that a sum can be.
    exchange: u64,
    /// Whether the last product of few rows had a weight of few bits.
    few_bits: bool,
}

/// The address of so many counters, zero, that no launch under way uses; `None` where memory can't be had.
pub(super) fn counters(stream: sys::CUstream, count: usize) -> Option<u64> {
    with_scratch(stream, |scratch| scratch.reserve(count))
}

/// The address of so many bytes, all ones; `None` where so many can't be had. Launches on the stream use it one after another.
pub(super) fn exchange(stream: sys::CUstream, bytes: usize) -> Option<u64> {
    with_scratch(stream, |scratch| (bytes <= EXCHANGE).then_some(scratch.exchange))
}

/// Remembers whether the last product of few rows had a weight of few bits, for the launch behind it.
pub(super) fn set_few_bits(stream: sys::CUstream, few_bits: bool) {
    with_scratch(stream, |scratch| {
        scratch.few_bits = few_bits;
        Some(())
    });
}

/// Whether it had.
pub(super) fn few_bits(stream: sys::CUstream) -> bool {
    with_scratch(stream, |scratch| Some(scratch.few_bits)).unwrap_or(false)
}

/// The context of the stream has to be current.
fn with_scratch<T>(stream: sys::CUstream, run: impl FnOnce(&mut Scratch) -> Option<T>) -> Option<T> {
    let mut streams = STREAMS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    run(match streams.entry(stream as usize) {
        Entry::Occupied(scratch) => scratch.into_mut(),
        Entry::Vacant(place) => place.insert(Scratch::new(stream)?),
    })
}

impl Scratch {
    fn new(stream: sys::CUstream) -> Option<Self> {
        // SAFETY: the memory has so many bytes and is never freed; what is launched on the stream later finds it filled.
        unsafe {
            let counters = result::malloc_sync(4 * COUNTERS).ok()?;
            result::memset_d8_async(counters, 0, 4 * COUNTERS, stream).ok()?;
            let exchange = result::malloc_sync(EXCHANGE).ok()?;
            result::memset_d8_async(exchange, 0xff, EXCHANGE, stream).ok()?;
            Some(Self {
                counters,
                next_counter: 0,
                exchange,
                few_bits: false,
            })
        }
    }

    fn reserve(&mut self, count: usize) -> Option<u64> {
        if count > COUNTERS {
            return None;
        }
        if self.next_counter + count > COUNTERS {
            self.next_counter = 0;
        }
        let address = self.counters + 4 * self.next_counter as u64;
        self.next_counter += count;
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_handed_out_in_turn() {
        let mut scratch = Scratch {
            counters: 256,
            next_counter: 0,
            exchange: 0,
            few_bits: false,
        };
        assert_eq!(scratch.reserve(1), Some(256));
        assert_eq!(scratch.reserve(8), Some(260));
        assert_eq!(scratch.reserve(COUNTERS - 9), Some(292));
        assert_eq!(scratch.reserve(1), Some(256));
        assert_eq!(scratch.reserve(COUNTERS), Some(256));
        assert_eq!(scratch.reserve(COUNTERS + 1), None);
    }
}
