//! What stages were last asked for: memory of other extents is of no use any more.

use std::sync::Mutex;

/// A stage's extents of its last run.
#[derive(Debug)]
pub(super) struct LastExtents<E>(Mutex<Option<E>>);

impl<E> Default for LastExtents<E> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<E: PartialEq> LastExtents<E> {
    /// Whether the stage ran with other extents before; the given ones are its last from now on.
    pub(super) fn changed(&self, extents: E) -> bool {
        let mut last = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let changed = last.as_ref().is_some_and(|last| *last != extents);
        *last = Some(extents);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_extents_are_a_change() {
        let last = LastExtents::default();
        assert!(!last.changed((1, 3006)));
        assert!(!last.changed((1, 3006)));
        assert!(last.changed((2, 3006)));
        assert!(!last.changed((2, 3006)));
        assert!(last.changed((1, 3006)));
    }
}
