//! Memory apart, for work that is recorded.
//!
//! What a recording writes on the way is free as soon as the work has been recorded, yet is written again by every replay: nothing else
//! may come to lie there. A stage's buffers are handed out again by their size alone
//! ([`persistent allocation`](ComputeClient::memory_persistent_allocation)), so those of recorded work have sizes of their own.

use std::cell::Cell;

use cubecl::Runtime;
use cubecl::client::ComputeClient;
use cubecl::server::Handle;

/// How much longer the buffers are, in steps of the device's alignment. No two tensors of the model differ by this little.
const STEPS: u64 = 13;

thread_local! {
    static IS_APART: Cell<bool> = const { Cell::new(false) };
}

/// Does work whose tensors, as far as kernels make them, lie in memory of its own.
pub fn apart<T>(work: impl FnOnce() -> T) -> T {
    /// Back to what was, also behind a panic.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            IS_APART.set(self.0);
        }
    }
    let _before = Before(IS_APART.replace(true));
    work()
}

/// A buffer of so many bytes.
pub fn empty<R: Runtime>(client: &ComputeClient<R>, bytes: usize) -> Handle {
    if !IS_APART.get() {
        return client.empty(bytes);
    }
    let behind = STEPS * client.properties().memory.alignment;
    client.empty(bytes + behind as usize).offset_end(behind)
}
