//! Memory of recorded work.
//!
//! What a recording writes on the way is free as soon as the work has been recorded, yet is written again by every replay. An arena keeps
//! such buffers as long as the recording, so that nothing else comes to lie there, and lends them to the work itself as it goes along.

use std::cell::RefCell;

use cubecl::Runtime;
use cubecl::client::ComputeClient;
use cubecl::server::Handle;

thread_local! {
    static OPEN: RefCell<Option<Arena>> = const { RefCell::new(None) };
}

/// Buffers that only one piece of work is given.
#[derive(Default)]
pub struct Arena(Vec<Handle>);

impl Arena {
    /// Does work whose tensors, as far as kernels make them, lie in this arena.
    pub fn lend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        /// Takes the buffers back, also behind a panic.
        struct Lent<'a>(&'a mut Arena, Option<Arena>);
        impl Drop for Lent<'_> {
            fn drop(&mut self) {
                let lent = OPEN.replace(self.1.take());
                *self.0 = lent.unwrap_or_default();
            }
        }
        let before = OPEN.replace(Some(std::mem::take(self)));
        let _lent = Lent(self, before);
        work()
    }

    /// A buffer of so many bytes that nobody else holds, or a new one.
    fn empty<R: Runtime>(&mut self, client: &ComputeClient<R>, bytes: usize) -> Handle {
        let is_free = |handle: &&Handle| handle.size_in_used() == bytes as u64 && handle.can_mut();
        if let Some(handle) = self.0.iter().find(is_free) {
            return handle.clone();
        }
        let handle = client.empty(bytes);
        self.0.push(handle.clone());
        handle
    }

    /// A buffer that nothing else has lain in, nor will.
    fn alone<R: Runtime>(&mut self, client: &ComputeClient<R>, bytes: usize) -> Handle {
        let handle = client.empty(bytes);
        // Kept twice it is never free.
        self.0.extend([handle.clone(), handle.clone()]);
        handle
    }
}

/// A buffer of so many bytes, for what one of several launches that overlap (`signals.rs`) writes: processors may still have what was read
/// before at any other place of an arena.
pub fn alone<R: Runtime>(client: &ComputeClient<R>, bytes: usize) -> Handle {
    OPEN.with_borrow_mut(|open| match open {
        Some(arena) => arena.alone(client, bytes),
        None => client.empty(bytes),
    })
}

/// A buffer of so many bytes, of the arena that is lent to this thread's work where there is one.
pub fn empty<R: Runtime>(client: &ComputeClient<R>, bytes: usize) -> Handle {
    OPEN.with_borrow_mut(|open| match open {
        Some(arena) => arena.empty(client, bytes),
        None => client.empty(bytes),
    })
}
