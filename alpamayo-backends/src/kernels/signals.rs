//! Launches that begin before the one in front is done.
//!
//! Between two launches a device waits until the last cube of the first one is done, then begins the second one, whose cubes ask for their
//! weights only then. Where it begins cubes in the order of their launches, and the second launch waits by itself for what the first one
//! writes, its weights are on their way in the meantime.
//!
//! A launch knows two words of memory: [`DONE`] is reached in the first one when all cubes in front are done, and to the other one its own
//! cubes add. Where launches are repeated together, the runtime gives them words of their own, and puts no barriers between them; elsewhere it
//! does, and the first word is [`DONE`] from the beginning.

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::apart;

/// What nobody has to wait for.
pub const DONE: u32 = 1 << 31;

/// The word that a launch's own cubes add to.
pub const NEXT: usize = 64;

/// Words that a launch is given.
pub const WORDS: usize = NEXT + 1;

/// Where launches tell each other that they are done; `None` on devices whose launches needn't.
pub type Signals = ComptimeOption<Array<Atomic<u32>>>;

/// Waits for the launch in front. What that one writes is read behind this, and nothing is written before; what is read on both sides
/// must be the same at all times.
#[cube]
pub(crate) fn wait(signals: &Signals) {
    #[comptime]
    match signals {
        ComptimeOption::Some(signals) => {
            if UNIT_POS == 0 {
                while signals[0].load() < DONE {}
            }
            sync_storage();
        }
        ComptimeOption::None => {}
    }
}

/// Tells the next launch that this cube is done. All of its units are to end with this.
#[cube]
pub(crate) fn done(signals: &Signals) {
    #[comptime]
    match signals {
        ComptimeOption::Some(signals) => {
            sync_storage();
            if UNIT_POS == 0 {
                signals[NEXT].fetch_add(1u32);
            }
        }
        ComptimeOption::None => {}
    }
}

/// A buffer of so many bytes for what a launch writes that has these words, or none.
pub fn output<R: Runtime>(client: &ComputeClient<R>, signals: Option<&Handle>, bytes: usize) -> Handle {
    match signals {
        Some(_) => apart::alone(client, bytes),
        None => apart::empty(client, bytes),
    }
}

/// The words as an argument.
pub fn argument<R: Runtime>(signals: Option<&Handle>) -> ComptimeOptionArgs<Array<Atomic<u32>>, R> {
    // SAFETY: so many words were given.
    signals
        .map(|words| unsafe { ArrayArg::from_raw_parts(words.clone(), WORDS) })
        .into()
}
