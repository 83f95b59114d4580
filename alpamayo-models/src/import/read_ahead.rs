//! A thread that reads a checkpoint ahead of the import and checks that every value is a number.
//!
//! While the import copies one tensor to the device, this thread brings the next ones in from the disk. What is read but not yet
//! taken is bounded, and what has been taken is given back to the system, so that the import's own memory does not grow with
//! the checkpoint.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use alpamayo_backends::layers::SourceType;

use super::checkpoint::{Checkpoint, TensorEntry};
use super::mapped_tensor::MappedTensor;
use super::values::{first_non_finite, first_non_finite_in_slabs};
use crate::error::{Error, Result};

/// Bytes that may be read ahead of the import.
const WINDOW: usize = 256 << 20;
/// Larger tensors are checked in slabs of so many bytes that are given back one by one. The import reads them again: mostly from
/// the system's own memory, where the first reading has left them.
const SLAB: usize = 64 << 20;

/// A tensor to be read.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// Its name.
    pub name: String,
    /// Its place.
    pub entry: TensorEntry,
    /// Its element type.
    pub source_type: SourceType,
}

impl Planned {
    fn is_large(&self) -> bool {
        self.entry.size() > WINDOW
    }

    /// Bytes that are in memory once it is read.
    fn held(&self) -> usize {
        if self.is_large() { SLAB } else { self.entry.size() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Waiting,
    Reading,
    /// Read; where a value is no number, its position.
    Read(Option<usize>),
    Released,
}

#[derive(Debug)]
struct State {
    status: Vec<Status>,
    /// Bytes that are read and not yet released.
    held: usize,
    stop: bool,
}

#[derive(Debug)]
struct Shared {
    checkpoint: Arc<Checkpoint>,
    plan: Vec<Planned>,
    state: Mutex<State>,
    changed: Condvar,
}

/// Reads planned tensors ahead, in order.
#[derive(Debug)]
pub(super) struct ReadAhead {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Starts reading the planned tensors.
    pub fn new(checkpoint: Arc<Checkpoint>, plan: Vec<Planned>) -> Self {
        let state = State {
            status: vec![Status::Waiting; plan.len()],
            held: 0,
            stop: false,
        };
        let shared = Arc::new(Shared {
            checkpoint,
            plan,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let reader = Arc::clone(&shared);
        // Without a thread everything is read when it is asked for.
        let worker = std::thread::Builder::new()
            .name("read-ahead".into())
            .spawn(move || reader.run())
            .ok();
        Self { shared, worker }
    }

    /// All planned tensors.
    pub fn plan(&self) -> &[Planned] {
        &self.shared.plan
    }

    /// A planned tensor's bytes, read and checked.
    ///
    /// # Errors
    /// When a value is NaN or infinite.
    pub fn bytes(&self, number: usize) -> Result<&[u8]> {
        let planned = &self.shared.plan[number];
        if let Some(position) = self.shared.read(number) {
            return Err(Error::NonFiniteWeight {
                path: self.shared.checkpoint.path_of(&planned.entry).to_path_buf(),
                name: planned.name.clone(),
                position,
            });
        }
        Ok(self.shared.checkpoint.bytes(&planned.entry))
    }

    /// A planned tensor's bytes where they are mapped, for as long as they are needed.
    pub fn mapped(&self, number: usize) -> MappedTensor {
        MappedTensor::new(Arc::clone(&self.shared.checkpoint), self.plan()[number].entry.clone())
    }

    /// Gives the memory of a part of a tensor's bytes back, which may be read again.
    pub fn release_bytes(&self, bytes: &[u8]) {
        self.shared.checkpoint.release_bytes(bytes);
    }

    /// Gives a tensor's memory back; its bytes are not needed any more.
    pub fn release(&self, number: usize) {
        let planned = &self.shared.plan[number];
        self.shared.checkpoint.release(&planned.entry);
        let mut state = self.shared.state();
        if matches!(state.status[number], Status::Read(_)) {
            state.held = state.held.saturating_sub(planned.held());
        }
        state.status[number] = Status::Released;
        self.shared.changed.notify_all();
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.changed.notify_all();
        if let Some(worker) = self.worker.take() {
            // The worker can't panic with the lock held; if it did panic there is nothing to add here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker: reads whatever is next and fits the window.
    fn run(&self) {
        for (number, planned) in self.plan.iter().enumerate() {
            let mut state = self.state();
            while !state.stop
                && state.status[number] == Status::Waiting
                && state.held > 0
                && state.held.saturating_add(planned.held()) > WINDOW
            {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            drop(self.read_if_waiting(state, number));
        }
    }

    /// Reads a tensor, or waits for whoever is reading it. Returns where a value is no number.
    fn read(&self, number: usize) -> Option<usize> {
        let mut state = self.state();
        loop {
            match state.status[number] {
                Status::Waiting => state = self.read_if_waiting(state, number),
                Status::Reading => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Status::Read(found) => return found,
                // It was checked before it was released, and may be looked at again.
                Status::Released => return None,
            }
        }
    }

    fn read_if_waiting<'a>(&'a self, mut state: MutexGuard<'a, State>, number: usize) -> MutexGuard<'a, State> {
        if state.status[number] != Status::Waiting {
            return state;
        }
        let planned = &self.plan[number];
        state.status[number] = Status::Reading;
        state.held += planned.held();
        drop(state);
        let bytes = self.checkpoint.bytes(&planned.entry);
        let found = if planned.is_large() {
            let release = |bytes: &[u8]| self.checkpoint.release_bytes(bytes);
            first_non_finite_in_slabs(bytes, planned.source_type, SLAB, release)
        } else {
            first_non_finite(bytes, planned.source_type)
        };
        let mut state = self.state();
        state.status[number] = Status::Read(found);
        self.changed.notify_all();
        state
    }
}
