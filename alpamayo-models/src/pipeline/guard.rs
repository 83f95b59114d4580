//! Panics of a backend become errors.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::error::catch_panic;

use crate::error::{Error, Result};

/// Runs `work`; a panic inside (no device, out of memory) is an [`Error::BackendPanic`].
///
/// Nothing that `work` writes survives it: what it builds is dropped, and what it borrows mutably is an observer of the caller's.
pub(super) fn guard<T>(stage: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_panic(work).unwrap_or_else(|message| Err(Error::BackendPanic { stage, message }))
}

/// As [`guard`], where the backend queues a stage's work best.
pub(super) fn on_device<B: ModelBackend, T: Send + 'static>(
    stage: &'static str,
    device: &B::Device,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    B::run_stage(device, || guard(stage, work))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_words() {
        let error = guard::<()>("prefill", || panic!("out of memory: {} GB", 90)).unwrap_err();
        assert!(matches!(error, Error::BackendPanic { stage: "prefill", ref message } if message.contains("90 GB")));
        assert!(error.to_string().contains("smaller weight or cache format"));
    }

    #[test]
    fn results_pass_through() {
        assert_eq!(guard("encode", || Ok(3)).unwrap(), 3);
    }
}
