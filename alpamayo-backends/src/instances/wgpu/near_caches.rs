//! What processors' own caches may hold of buffers while launches overlap.
//!
//! A barrier empties them. Between launches without one they keep what was read before, also when another processor has written there
//! since: what is written to such a place may be read again behind a barrier only.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;

use cubecl::wgpu::WgpuResource;

/// Bytes that are kept together, at most: two of the sectors that caches take from memory one by one.
const LINE: u64 = 64;

/// A buffer, and bytes of it.
pub(super) type Span<B> = (B, Range<u64>);

/// What a resource is of its buffer.
pub(super) fn span(resource: &WgpuResource) -> Span<wgpu::Buffer> {
    let end = resource.offset + resource.size;
    (resource.buffer.clone(), resource.offset..end)
}

/// Places in buffers, in lines.
#[derive(Debug)]
struct Places<B>(HashMap<B, HashSet<Range<u64>>>);

impl<B: Hash + Eq> Places<B> {
    fn insert(&mut self, (buffer, bytes): Span<B>) {
        self.0.entry(buffer).or_default().insert(lines(&bytes));
    }

    fn meet(&self, (buffer, bytes): &Span<B>) -> bool {
        let lines = lines(bytes);
        let meets = |place: &Range<u64>| place.start < lines.end && lines.start < place.end;
        (self.0.get(buffer)).is_some_and(|places| places.iter().any(meets))
    }
}

fn lines(bytes: &Range<u64>) -> Range<u64> {
    bytes.start / LINE..bytes.end.div_ceil(LINE)
}

/// What the caches may hold since the last barrier.
#[derive(Debug)]
pub(super) struct NearCaches<B> {
    read: Places<B>,
    /// Written since, or meanwhile.
    stale: Places<B>,
}

impl<B> Default for NearCaches<B> {
    /// Empty caches.
    fn default() -> Self {
        Self {
            read: Places(HashMap::new()),
            stale: Places(HashMap::new()),
        }
    }
}

impl<B: Hash + Eq> NearCaches<B> {
    /// Whether what is to be read may be there as it was before.
    pub(super) fn is_stale(&self, place: &Span<B>) -> bool {
        self.stale.meet(place)
    }

    /// Goes through a launch.
    pub(super) fn run(&mut self, reads: impl Iterator<Item = Span<B>>, writes: impl Iterator<Item = Span<B>>) {
        reads.for_each(|place| self.read.insert(place));
        for place in writes {
            if self.read.meet(&place) {
                self.stale.insert(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans() -> impl Strategy<Value = Vec<Span<u8>>> {
        let span =
            (0..2_u8, 0..6_u64, 1..200_u64).prop_map(|(buffer, start, bytes)| (buffer, 64 * start..64 * start + bytes));
        prop::collection::vec(span, 0..3)
    }

    proptest! {
        /// A cache that keeps every byte that it ever read, of memory whose bytes say which launch wrote them last.
        #[test]
        fn nothing_that_is_read_is_older_than_it_is(launches in prop::collection::vec((spans(), spans()), 1..9)) {
            let (mut near, mut memory, mut cache) = (NearCaches::default(), HashMap::new(), HashMap::new());
            for (launch, (reads, writes)) in launches.into_iter().enumerate() {
                if reads.iter().any(|place| near.is_stale(place)) {
                    (near, cache) = Default::default();
                }
                near.run(reads.iter().cloned(), writes.iter().cloned());
                let bytes = |(buffer, bytes): &Span<u8>| bytes.clone().map(|byte| (*buffer, byte)).collect::<Vec<_>>();
                for byte in reads.iter().flat_map(bytes) {
                    let is = memory.get(&byte).copied();
                    prop_assert_eq!(*cache.entry(byte).or_insert(is), is);
                }
                memory.extend(writes.iter().flat_map(bytes).map(|byte| (byte, launch)));
            }
        }
    }

    #[test]
    fn what_is_written_once_is_never_stale() {
        let mut near = NearCaches::default();
        for launch in 0..9_u64 {
            let place = |launch: u64| (0, 64 * launch..64 * launch + 64);
            assert!(!near.is_stale(&place(launch)));
            near.run(std::iter::once(place(launch)), std::iter::once(place(launch + 1)));
        }
    }
}
