//! A token's layers, as they can be repeated over one cache.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::DecodeStep;
use alpamayo_backends::repetition::Repetition;
use burn::tensor::backend::Backend;

use crate::decoder::Decoder;

/// What is done the same for every token of a plan.
pub(super) struct Decoding<B: Backend> {
    /// The memory that tells the layers which token it is.
    pub step: Option<DecodeStep<B>>,
    /// Of the first part of the layers, and of the others.
    pub repetitions: [Box<dyn Repetition<B>>; 2],
}

impl<B: ModelBackend> Decoding<B> {
    /// Nothing recorded yet.
    pub fn new(decoder: &Decoder<B>) -> Self {
        Self {
            step: None,
            repetitions: [(); 2].map(|()| decoder.repetition()),
        }
    }
}
