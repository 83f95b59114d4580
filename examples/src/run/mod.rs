//! Long runs over many items: resumable, sharded, interruptible, one JSON line per item.
//!
//! An [`Item`] has a key. [`ResultFile`] holds one line per item, in the order in which they were done:
//!
//! ```text
//! {"key":"red_light","options":{"samples":6,…},"result":{…}}
//! {"key":"barriers","options":{"samples":6,…},"error":"barriers/clip.json: …"}
//! ```
//!
//! Every line holds the options that its result depends on, so that lines stand alone: files of several shards are put
//! together with `cat`. Of two lines with the same key the later one counts. Opening a file repairs a torn last line and
//! refuses lines of other options; [`pending`] gives the items that are still to be done; [`run`] does them: a thread
//! prepares the next item while the current one is worked on, an item that fails becomes a line with its error, and Ctrl-C
//! ([`Interrupt`]) stops behind the current item.
//!
//! ```
//! use alpamayo_examples::run::{self, Interrupt, Item, ResultFile, RunArguments};
//!
//! struct Number(u32);
//! impl Item for Number {
//!     fn key(&self) -> String {
//!         self.0.to_string()
//!     }
//! }
//!
//! # fn main() -> alpamayo_examples::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("squares.jsonl");
//! let mut results: ResultFile<u32> = ResultFile::open(&path, &"squares")?;
//! let items: Vec<Number> = (0..5).map(Number).collect();
//! let pending = run::pending(&items, &results, &RunArguments::default())?;
//! let interrupt = Interrupt::on_ctrl_c()?;
//! let outcome = run::run(
//!     &mut results,
//!     &pending,
//!     &interrupt,
//!     |item| Ok(item.0),                         // on the look-ahead thread: reading, preprocessing
//!     |_item, prepared| Ok(prepared * prepared), // on this thread: the model
//! )?;
//! assert_eq!((outcome.done, outcome.failed), (5, 0));
//! let squares: Vec<_> = results.records().collect::<Result<_, _>>()?;
//! assert_eq!(squares[3], ("3".to_owned(), Ok(9)));
//! # Ok(())
//! # }
//! ```

mod arguments;
mod interrupt;
mod line;
mod progress;
mod results;
mod runner;
#[cfg(test)]
mod tests;

pub use arguments::{RunArguments, Shard};
pub use interrupt::{Interrupt, Interrupted};
pub use results::{Entry, ResultFile, State};
pub use runner::{BoxedError, Item, Outcome, pending, run};
