//! Ctrl-C as a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

use crate::error::Result;

/// What a shell reports for a program that Ctrl-C ended.
const EXIT_CODE: i32 = 130;

/// What an item's work returns that was stopped half-way by an [`Interrupt`]: the item stays to be done.
#[derive(Clone, Copy, Debug, Error)]
#[error("stopped before its end")]
pub struct Interrupted;

/// Whether someone asked for an end. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C, and for the signal by which a system asks for an end (SIGTERM, SIGHUP): the first one is a
    /// request, the second ends the program at once.
    ///
    /// # Errors
    /// [`Error::Interrupt`](crate::Error::Interrupt), where the program listens already.
    pub fn on_ctrl_c() -> Result<Self> {
        let interrupt = Self::default();
        let requested = interrupt.clone();
        ctrlc::set_handler(move || {
            if requested.0.swap(true, Ordering::SeqCst) {
                std::process::exit(EXIT_CODE);
            }
            eprintln!("\nstopping behind the current drive; Ctrl-C again stops at once");
        })?;
        Ok(interrupt)
    }

    /// Asks for an end.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether an end was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
