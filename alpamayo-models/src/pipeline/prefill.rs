//! Prompts through the decoder.

use alpamayo_backends::ModelBackend;
use burn::tensor::{Tensor, backend::Backend};

use super::inputs::Prompt;
use crate::cache::KeyValueCache;
use crate::decoder::{Decoder, DeepstackAdditions};
use crate::host::{indices, select_rows};
use crate::observer::{Event, Observer};
use crate::vision::VisionFeatures;

/// Prompts in the cache, and what the decoder expects next.
#[derive(Debug, Clone)]
pub struct Prefilled<B: Backend> {
    /// The prompts' keys and values.
    pub cache: KeyValueCache<B>,
    /// Logits after each prompt's last token `[clips, vocabulary]`, trajectory ids unmasked.
    pub logits: Tensor<B, 2>,
    /// Last position + 1 - prompt length, per clip: what a later token's position is ahead of its index.
    pub rope_deltas: Vec<i64>,
}

impl<B: Backend> Prefilled<B> {
    /// Clips in the batch.
    pub fn clips(&self) -> usize {
        self.rope_deltas.len()
    }
}

/// Runs prompts that were [checked](super::check::prompts) through the decoder.
pub(super) fn prefill<B: ModelBackend>(
    decoder: &Decoder<B>,
    prompts: &[Prompt],
    features: &VisionFeatures<B>,
    mut cache: KeyValueCache<B>,
    device: &B::Device,
    observer: &mut dyn Observer<B>,
) -> Prefilled<B> {
    let length = prompts.first().map_or(0, Prompt::len);
    let image_rows: Vec<usize> = image_rows(prompts).collect();
    let x = embed(decoder, prompts, features, device);
    observer.observe(Event::PromptEmbedding(&x));
    let deepstack = DeepstackAdditions {
        rows: indices::<B>(image_rows, device),
        values: features.deepstack.clone(),
    };
    let positions = prompts.iter().flat_map(|prompt| prompt.positions.ids.iter().copied());
    let rotary = decoder.rope.table(positions, device);
    let last: Vec<usize> = (1..=prompts.len()).map(|clip| clip * length - 1).collect();
    let last = if observer.wants_all() {
        let x = decoder.prefill(x, &rotary, &mut cache, &deepstack, observer);
        observer.observe(Event::TextNorm(&B::normalize(x.clone(), &decoder.norm)));
        select_rows(x, last)
    } else {
        decoder.prefill_rows(x, &rotary, &mut cache, &deepstack, &last, observer)
    };
    let logits = decoder.logits(last);
    observer.observe(Event::LastLogits(&logits));
    Prefilled {
        cache,
        logits,
        rope_deltas: prompts.iter().map(|prompt| prompt.positions.rope_delta).collect(),
    }
}

/// Rows of the image tokens in all prompts, one prompt behind the other.
pub(super) fn image_rows(prompts: &[Prompt]) -> impl Iterator<Item = usize> {
    let starts = prompts.iter().scan(0, |start, prompt| {
        let first = *start;
        *start += prompt.len();
        Some(first)
    });
    prompts
        .iter()
        .zip(starts)
        .flat_map(|(prompt, start)| prompt.image_rows.iter().map(move |row| start + row))
}

/// Embeddings `[clips · length, hidden]`: the text's from the table, the images' from the tower, put in order by one selection.
fn embed<B: ModelBackend>(
    decoder: &Decoder<B>,
    prompts: &[Prompt],
    features: &VisionFeatures<B>,
    device: &B::Device,
) -> Tensor<B, 2> {
    let tokens = prompts.iter().map(Prompt::len).sum();
    let mut is_image = vec![false; tokens];
    image_rows(prompts).for_each(|row| is_image[row] = true);
    let ids = prompts.iter().flat_map(|prompt| prompt.ids.iter().copied());
    let text: Vec<u32> = ids
        .zip(&is_image)
        .filter(|(_, image)| !**image)
        .map(|(id, _)| id)
        .collect();
    let (mut next_text, mut next_image) = (0, text.len());
    let order: Vec<usize> = is_image
        .iter()
        .map(|&image| {
            let next = if image { &mut next_image } else { &mut next_text };
            *next += 1;
            *next - 1
        })
        .collect();
    let rows = Tensor::cat(vec![decoder.embed(&text, device), features.tokens.clone()], 0);
    select_rows(rows, order)
}
