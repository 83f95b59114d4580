//! Which items of a run are done.

use std::fmt;
use std::str::FromStr;

use clap::Args;

/// Which items of a run are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct RunArguments {
    /// Do every n-th item only, as 2/8 for the second of eight; each shard with its own file, put together with `cat`
    #[arg(long, value_name = "I/N", default_value_t)]
    pub shard: Shard,
    /// Do those items again that failed
    #[arg(long)]
    pub retry_failed: bool,
}

/// One of `of` parts of a list: every `of`-th item, from item number `index` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Default for Shard {
    /// The whole list.
    fn default() -> Self {
        Self { index: 1, of: 1 }
    }
}

impl Shard {
    /// The items of this part, in their order.
    pub fn of<T>(self, items: &[T]) -> impl Iterator<Item = &T> {
        items.iter().skip(self.index - 1).step_by(self.of)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').map(|(index, of)| (index.parse(), of.parse()));
        match numbers {
            Some((Ok(index), Ok(of))) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(format!(
                "`{text}` is no shard; write 1/8 for the first of eight, 8/8 for the last"
            )),
        }
    }
}
