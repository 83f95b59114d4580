//! What a device recorded for one plan, kept for the next.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use alpamayo_backends::ModelBackend;
use alpamayo_backends::repetition::Place;

use crate::cache::KeyValueCache;

/// Where all layers' keys and values lie; none where the backend doesn't say.
pub(super) type Places = Option<Vec<Place>>;

/// Where a cache lies.
pub(super) fn places<B: ModelBackend>(cache: &KeyValueCache<B>) -> Places {
    let tensors = (cache.layers.iter()).flat_map(|layer| {
        [
            &layer.prompt.key,
            &layer.prompt.value,
            &layer.suffix.key,
            &layer.suffix.value,
        ]
    });
    tensors.map(B::place).collect()
}

/// What was recorded over the last plan's cache. A cache that lies where that one lay, as it does where plans are of one size and each is
/// dropped before the next begins, is one over which it can be repeated.
pub(super) struct Kept<T>(Mutex<Option<(Vec<Place>, T)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Kept").finish_non_exhaustive()
    }
}

impl<T> Kept<T> {
    /// What was recorded over a cache in these places. Nothing is kept from then on.
    pub fn take(&self, places: &Places) -> Option<T> {
        let (of, recorded) = self.replace(None)?;
        (places.as_ref() == Some(&of)).then_some(recorded)
    }

    /// Keeps what a plan is done with.
    pub fn keep(&self, places: Places, recorded: T) {
        self.replace(places.map(|places| (places, recorded)));
    }

    /// Lets go of what is kept, and of the memory that it holds.
    pub fn forget(&self) {
        self.replace(None);
    }

    fn replace(&self, recorded: Option<(Vec<Place>, T)>) -> Option<(Vec<Place>, T)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut kept, recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_recorded_in_the_same_places_is_taken_and_only_once() {
        let place = |offset| Place {
            buffer: 7,
            offset,
            extents: [1, 2, 3, 4],
        };
        let (places, others) = (Some(vec![place(0), place(96)]), Some(vec![place(0), place(128)]));
        let kept = Kept::default();
        assert_eq!(kept.take(&places), None);
        kept.keep(places.clone(), "recorded");
        assert_eq!(kept.take(&places), Some("recorded"));
        assert_eq!(kept.take(&places), None);
        for other in [&others, &None] {
            kept.keep(places.clone(), "recorded");
            assert_eq!(kept.take(other), None);
            assert_eq!(kept.take(&places), None);
        }
        // Nothing can be said of memory without a place.
        kept.keep(None, "recorded");
        assert_eq!(kept.take(&None), None);
        kept.keep(places.clone(), "recorded");
        kept.forget();
        assert_eq!(kept.take(&places), None);
    }
}
