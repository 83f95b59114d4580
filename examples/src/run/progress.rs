//! How far a run is.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::runner::Outcome;

const TEMPLATE: &str = "{wide_bar} {pos}/{len} {elapsed}, {eta} left {msg}";
/// Without a terminal there is no bar but a line every so often.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// A bar on a terminal, lines elsewhere.
pub(super) struct Progress {
    bar: ProgressBar,
    last_line: Instant,
}

impl Progress {
    pub fn new(items: usize) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(items as u64).with_style(style);
        bar.enable_steady_tick(Duration::from_secs(1));
        Self {
            bar,
            last_line: Instant::now(),
        }
    }

    /// One more item is done.
    pub fn advance(&mut self, outcome: &Outcome) {
        self.bar.inc(1);
        if outcome.failed > 0 {
            self.bar.set_message(format!("{} failed", outcome.failed));
        }
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let left = indicatif::HumanDuration(self.bar.eta());
            eprintln!("{done} of {all}, {} failed, {left:#} left", outcome.failed);
        }
    }

    /// An item failed.
    pub fn failure(&self, key: &str, error: &str) {
        self.bar.suspend(|| eprintln!("failed: {key}: {error}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
