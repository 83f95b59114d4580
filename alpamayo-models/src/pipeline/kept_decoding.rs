//! What was recorded of decoding, kept for the next plan.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::DecodeStep;
use alpamayo_backends::repetition::{Place, Repetition};
use burn::tensor::backend::Backend;

use crate::cache::KeyValueCache;
use crate::decoder::Decoder;

/// A token's layers as they can be repeated over one cache.
pub(super) struct Decoding<B: Backend> {
    /// Where the cache lies; none where the backend doesn't say.
    places: Option<Vec<Place>>,
    /// The memory that tells the layers which token it is.
    pub step: Option<DecodeStep<B>>,
    /// Of the first part of the layers, and of the others.
    pub repetitions: [Box<dyn Repetition<B>>; 2],
}

impl<B: ModelBackend> Decoding<B> {
    /// Nothing recorded yet.
    pub fn new(decoder: &Decoder<B>, cache: &KeyValueCache<B>) -> Self {
        Self {
            places: places(cache),
            step: None,
            repetitions: [(); 2].map(|()| decoder.repetition()),
        }
    }
}

/// The last plan's decoding. A cache that lies where its cache lay, as it does where plans are of one size and each is dropped before the
/// next begins, can be decoded with what was recorded then.
pub(super) struct KeptDecoding<B: Backend>(Mutex<Option<Decoding<B>>>);

impl<B: Backend> Default for KeptDecoding<B> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<B: Backend> fmt::Debug for KeptDecoding<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("KeptDecoding").finish_non_exhaustive()
    }
}

impl<B: ModelBackend> KeptDecoding<B> {
    /// The kept decoding where it was recorded over this memory, a new one otherwise.
    pub fn take(&self, decoder: &Decoder<B>, cache: &KeyValueCache<B>) -> Decoding<B> {
        let new = Decoding::new(decoder, cache);
        let kept = self.replace(None);
        kept.filter(|kept| kept.places.is_some() && kept.places == new.places)
            .unwrap_or(new)
    }

    /// Keeps a decoding whose plan is done with it.
    pub fn keep(&self, decoding: Decoding<B>) {
        self.replace(decoding.places.is_some().then_some(decoding));
    }

    /// Lets go of what is kept, and of the memory that it holds.
    pub fn forget(&self) {
        self.replace(None);
    }

    fn replace(&self, decoding: Option<Decoding<B>>) -> Option<Decoding<B>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut kept, decoding)
    }
}

/// Where all layers' keys and values lie.
fn places<B: ModelBackend>(cache: &KeyValueCache<B>) -> Option<Vec<Place>> {
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
