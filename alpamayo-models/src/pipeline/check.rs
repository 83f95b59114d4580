//! What callers may have put together themselves is checked before it reaches kernels, which check nothing.

use alpamayo_core::{ModelConfig, Patches, VisionConfig};
use burn::tensor::backend::Backend;

use super::generate::Generation;
use super::inputs::Prompt;
use super::options::DriveOptions;
use super::prefill::{Prefilled, image_rows};
use crate::error::{Error, Result};
use crate::vision::VisionFeatures;

/// Samples, generated tokens and flow steps beyond this are a mistake, and no machine has the memory for them.
pub(crate) const MOST: usize = 100_000;

/// A count from 1 to [`MOST`].
pub(crate) fn count(argument: &'static str, count: usize, none: &str) -> Result<()> {
    match count {
        0 => reject(argument, format!("0 {none}; give 1 or more")),
        1..=MOST => Ok(()),
        _ => reject(argument, format!("{count} is more than {MOST}, the most that is taken")),
    }
}

/// Pixels fill the patches of all images.
pub(super) fn patches(config: &VisionConfig, patches: &Patches) -> Result<()> {
    let image = |grid: &[usize; 3]| {
        grid.iter()
            .fold(1, |product: usize, &extent| product.saturating_mul(extent))
    };
    let count = patches.grid_thw.iter().map(image).fold(0, usize::saturating_add);
    let bytes = config.in_channels * config.patch_size * config.patch_size;
    if count.checked_mul(bytes) == Some(patches.pixels.len()) {
        return Ok(());
    }
    reject(
        "patches",
        format!(
            "{} bytes of pixels, but the images' sizes make {count} patches of {bytes}",
            patches.pixels.len()
        ),
    )
}

/// Prompts of one length, sound each, with as many places for image tokens as there are features.
pub(super) fn prompts<B: Backend>(
    config: &ModelConfig,
    prompts: &[Prompt],
    features: &VisionFeatures<B>,
) -> Result<()> {
    let length = prompts.first().map_or(0, Prompt::len);
    if length == 0 {
        return reject("prompts", "there is no prompt, or an empty one".into());
    }
    if let Some(other) = prompts.iter().find(|prompt| prompt.len() != length) {
        let reason = format!(
            "prompts of {length} and of {} tokens in one batch; prompts of one batch must be of equal length",
            other.len()
        );
        return reject("prompts", reason);
    }
    for (index, prompt) in prompts.iter().enumerate() {
        if let Some(reason) = flaw(prompt, config.vocab_size) {
            return reject("prompts", format!("prompt {index}: {reason}"));
        }
    }
    let wanted = [image_rows(prompts).count(), config.text.hidden_size];
    let given = features.tokens.dims();
    if given != wanted {
        return reject(
            "features",
            format!(
                "{} image tokens of {} features for prompts with places for {} of {}",
                given[0], given[1], wanted[0], wanted[1]
            ),
        );
    }
    let mergers = config.vision.deepstack_visual_indexes.len();
    if features.deepstack.len() != mergers || features.deepstack.iter().any(|values| values.dims() != wanted) {
        let given: Vec<_> = features.deepstack.iter().map(|values| values.dims()).collect();
        return reject(
            "features",
            format!("deepstack features of {given:?} where {mergers} of {wanted:?} are needed"),
        );
    }
    Ok(())
}

/// What is wrong with a prompt.
fn flaw(prompt: &Prompt, vocab_size: usize) -> Option<String> {
    let length = prompt.len();
    if prompt.positions.ids.len() != length {
        return Some(format!("{} positions for {length} tokens", prompt.positions.ids.len()));
    }
    let ascending = prompt.image_rows.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || prompt.image_rows.last().is_some_and(|&last| last >= length) {
        return Some(format!("`image_rows` must ascend and stay below its {length} tokens"));
    }
    let mut images = prompt.image_rows.iter().copied().peekable();
    let unknown = prompt.ids.iter().enumerate().find(|&(row, &id)| {
        let is_image = images.next_if_eq(&row).is_some();
        !is_image && id as usize >= vocab_size
    });
    unknown.map(|(row, id)| format!("id {id} of token {row} is outside the vocabulary of {vocab_size}"))
}

/// A prompt in the cache that this model can go on from.
pub(super) fn prefilled<B: Backend>(config: &ModelConfig, prefilled: &Prefilled<B>) -> Result<()> {
    prefilled.cache.check(&config.text)?;
    let clips = prefilled.cache.clips();
    let logits = prefilled.logits.dims();
    if logits != [clips, config.vocab_size] || prefilled.rope_deltas.len() != clips {
        let reason = format!(
            "logits of {logits:?} and {} rope deltas beside a cache of {clips} prompts and a vocabulary of {}",
            prefilled.rope_deltas.len(),
            config.vocab_size
        );
        return reject("prefilled", reason);
    }
    Ok(())
}

/// Options that fit the prompts; returns the most tokens that a row may generate.
pub(super) fn options<B: Backend>(
    config: &ModelConfig,
    prefilled: &Prefilled<B>,
    options: &DriveOptions,
) -> Result<usize> {
    count("samples", options.samples, "rows plan nothing")?;
    let limit = options.max_generation_length.unwrap_or(config.tokens_per_future_traj);
    count("max_generation_length", limit, "tokens make no reasoning")?;
    let rows = prefilled.clips() * options.samples;
    let forced = options.forced_tokens.len();
    if forced > 1 && forced != rows {
        return reject(
            "forced_tokens",
            format!("{forced} sequences for {rows} rows; give none, one, or one per row"),
        );
    }
    let unknown = |id: &&u32| **id as usize >= config.vocab_size;
    if let Some(id) = options.forced_tokens.iter().flatten().find(unknown) {
        return reject(
            "forced_tokens",
            format!("id {id} is outside the vocabulary of {}", config.vocab_size),
        );
    }
    Ok(limit)
}

/// Generated rows that go together with their cache.
pub(super) fn generation<B: Backend>(generation: &Generation<B>) -> Result<()> {
    let Generation {
        tokens,
        stops,
        cache,
        rope_deltas,
    } = generation;
    let rows = cache.rows();
    if rows == 0 || [tokens.len(), stops.len()] != [rows; 2] || rope_deltas.len() != cache.clips() {
        let reason = format!(
            "{} rows of tokens, {} stops and {} rope deltas beside a cache of {rows} rows of {} clips",
            tokens.len(),
            stops.len(),
            rope_deltas.len(),
            cache.clips()
        );
        return reject("generation", reason);
    }
    let capacity = cache.suffix_capacity();
    for (row, (tokens, stop)) in tokens.iter().zip(stops).enumerate() {
        if stop.index >= tokens.len() || tokens.len() - 1 > capacity {
            let reason = format!(
                "row {row} has {} tokens, a stop at {} and a cache of {capacity}",
                tokens.len(),
                stop.index
            );
            return reject("generation", reason);
        }
    }
    Ok(())
}

pub(super) fn reject<T>(argument: &'static str, reason: String) -> Result<T> {
    Err(Error::Argument { argument, reason })
}
