//! Doing what is still to be done.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::RunArguments;
use super::interrupt::{Interrupt, Interrupted};
use super::progress::Progress;
use super::results::{ResultFile, State};
use crate::error::{Error, Result};

/// Any error of an item's; its words go into the item's line.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// One of the things that a run does.
pub trait Item: Sync {
    /// What tells it from all others, in this run and in those that resume it.
    fn key(&self) -> String;
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Items with a result.
    pub done: usize,
    /// Items with an error.
    pub failed: usize,
    /// Whether it was stopped before its last item.
    pub interrupted: bool,
}

/// The items of `arguments.shard` that `results` lacks, and those that failed where they are to be done again.
///
/// # Errors
/// [`Error::DuplicateKey`].
pub fn pending<'a, I: Item, R: Serialize + DeserializeOwned>(
    items: &'a [I],
    results: &ResultFile<R>,
    arguments: &RunArguments,
) -> Result<Vec<&'a I>> {
    let mut keys = HashSet::new();
    if let Some(twice) = items.iter().map(Item::key).find(|key| !keys.insert(key.clone())) {
        return Err(Error::DuplicateKey(twice));
    }
    let is_pending = |item: &&I| match results.state(&item.key()) {
        None => true,
        Some(State::Failed) => arguments.retry_failed,
        Some(State::Done) => false,
    };
    Ok(arguments.shard.of(items).filter(is_pending).collect())
}

/// Does `items` in their order; every one of them becomes a line of `results`.
///
/// `prepare` runs on a thread of its own, one item ahead of `work`, which runs on the calling thread. What either of them
/// returns as an error, or panics with, is the item's error, and the run goes on. `interrupt` is looked at between items; work
/// that looks at it too ends the run with [`Interrupted`], without a line.
///
/// # Errors
/// [`Error::Io`] where a line cannot be written.
pub fn run<I: Item, P: Send, R: Serialize + DeserializeOwned>(
    results: &mut ResultFile<R>,
    items: &[&I],
    interrupt: &Interrupt,
    prepare: impl Fn(&I) -> std::result::Result<P, BoxedError> + Sync,
    mut work: impl FnMut(&I, P) -> std::result::Result<R, BoxedError>,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut progress = Progress::new(items.len());
    let (sender, receiver) = sync_channel(1);
    thread::scope(|scope| {
        // The receiver ends with this closure: the other thread then stops by itself.
        let receiver = receiver;
        let prepare = &prepare;
        scope.spawn(move || {
            for item in items {
                let prepared = caught(|| prepare(item));
                if sender.send(prepared).is_err() {
                    break;
                }
            }
        });
        for (item, prepared) in items.iter().zip(&receiver) {
            if interrupt.is_requested() {
                outcome.interrupted = true;
                break;
            }
            let key = item.key();
            let result = prepared.and_then(|prepared| caught(|| work(item, prepared)));
            match result {
                Ok(record) => {
                    results.append(&key, Ok(&record))?;
                    outcome.done += 1;
                }
                Err(error) if error.is::<Interrupted>() => {
                    outcome.interrupted = true;
                    break;
                }
                Err(error) => {
                    let error = words(error.as_ref());
                    results.append(&key, Err(&error))?;
                    outcome.failed += 1;
                    progress.failure(&key, &error);
                }
            }
            progress.advance(&outcome);
        }
        Ok(outcome)
    })
}

/// The result, or its error, or the words of a panic.
fn caught<T>(work: impl FnOnce() -> std::result::Result<T, BoxedError>) -> std::result::Result<T, BoxedError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            Err(format!("a panic: {}", text.unwrap_or("it gave no reason")).into())
        }
    }
}

/// An error's words, followed by those of its causes that it does not quote itself.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        source = cause.source();
    }
    words
}
