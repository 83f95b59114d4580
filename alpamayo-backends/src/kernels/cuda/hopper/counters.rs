//! Counters by which the blocks of a launch share their work.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use cudarc::driver::{result, sys};

/// Counters of a stream: many more than the launches that can be under way at once need.
const COUNT: usize = 4096;

/// The counters of every stream, by its address.
static POOLS: LazyLock<Mutex<HashMap<usize, Pool>>> = LazyLock::new(Mutex::default);

/// Zeros in device memory, which every launch leaves as it finds them.
struct Pool {
    address: u64,
    next: usize,
}

/// The address of so many counters that no launch on this stream uses any more, or `None` where memory can't be had.
///
/// The context of the stream has to be current.
pub(super) fn reserve(stream: sys::CUstream, count: usize) -> Option<u64> {
    if count > COUNT {
        return None;
    }
    let mut pools = POOLS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let key = stream as usize;
    if !pools.contains_key(&key) {
        pools.insert(key, Pool::new(stream)?);
    }
    let pool = pools.get_mut(&key)?;
    if pool.next + count > COUNT {
        pool.next = 0;
    }
    let address = pool.address + 4 * pool.next as u64;
    pool.next += count;
    Some(address)
}

impl Pool {
    fn new(stream: sys::CUstream) -> Option<Self> {
        // SAFETY: the memory has so many bytes and is never freed; what is launched on the stream later finds zeros.
        let address = unsafe {
            let address = result::malloc_sync(4 * COUNT).ok()?;
            result::memset_d8_async(address, 0, 4 * COUNT, stream).ok()?;
            address
        };
        Some(Self { address, next: 0 })
    }
}
