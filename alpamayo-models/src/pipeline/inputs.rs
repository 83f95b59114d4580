//! A clip as the network reads it.

use alpamayo_backends::ModelBackend;
use alpamayo_core::{Clip, MultimodalPositions, Patches, PromptBuilder, PromptStyle, fuse_history};

use super::build::Alpamayo;
use crate::error::{Error, Result};

/// A prompt as the decoder reads it: token ids with the history in them, and where image tokens go.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Token ids; those of image tokens only hold places.
    pub ids: Vec<u32>,
    /// Positions `(t, h, w)` of every token.
    pub positions: MultimodalPositions,
    /// Indices of the image tokens, ascending.
    pub image_rows: Vec<usize>,
}

impl Prompt {
    /// A prompt from its ids, the id of `<|image_pad|>`, and its positions.
    pub fn new(ids: Vec<u32>, image_pad: u32, positions: MultimodalPositions) -> Self {
        let is_image = |(row, &id): (usize, &u32)| (id == image_pad).then_some(row);
        let image_rows = ids.iter().enumerate().filter_map(is_image).collect();
        Self {
            ids,
            positions,
            image_rows,
        }
    }

    /// Tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// A batch of clips on the host, ready for the network.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Patches of all frames, clip after clip.
    pub patches: Patches,
    /// One prompt per clip.
    pub prompts: Vec<Prompt>,
}

impl<B: ModelBackend> Alpamayo<B> {
    /// Clips on the host: frames cut into patches, prompts made of tokens with the history in them.
    ///
    /// # Errors
    /// Where there is no clip, a clip contradicts itself, or the model has no tokenizer.
    pub fn preprocess(&self, clips: &[Clip], style: &PromptStyle) -> Result<Inputs> {
        let mut prompts = Vec::with_capacity(clips.len());
        let mut all: Option<Patches> = None;
        for clip in clips {
            clip.validate()?;
            let patches = self.patches(clip)?;
            prompts.push(self.prompt(clip, &patches, style)?);
            match &mut all {
                Some(all) => {
                    all.pixels.extend(patches.pixels);
                    all.grid_thw.extend(patches.grid_thw);
                }
                None => all = Some(patches),
            }
        }
        match all {
            Some(patches) => Ok(Inputs { patches, prompts }),
            None => Err(Error::Argument {
                argument: "clips",
                reason: "there is no clip to drive".into(),
            }),
        }
    }

    /// A clip's frames cut into patches, ready for [`encode`](Self::encode).
    ///
    /// # Errors
    /// Where a frame's shape is impossible.
    pub fn patches(&self, clip: &Clip) -> Result<Patches> {
        Ok(self.image_processor.process(&clip.frames)?)
    }

    /// A clip's prompt: the history's tokens in place, image tokens for the given patches.
    ///
    /// # Errors
    /// Where frames and cameras contradict each other, or the model has no tokenizer.
    pub fn prompt(&self, clip: &Clip, patches: &Patches, style: &PromptStyle) -> Result<Prompt> {
        self.prompt_for(clip, &patches.grid_thw, style)
    }

    /// As [`prompt`](Self::prompt), for images of these `[time, height, width]` in patches.
    pub(super) fn prompt_for(&self, clip: &Clip, grid_thw: &[[usize; 3]], style: &PromptStyle) -> Result<Prompt> {
        let tokenizer = self.tokenizer()?;
        let merge = self.image_processor.merge_size;
        let tokens = |grid: &[usize; 3]| grid.iter().product::<usize>() / (merge * merge);
        let tokens_per_image: Vec<usize> = grid_thw.iter().map(tokens).collect();
        let builder = PromptBuilder::new(tokenizer, &self.config);
        let mut ids = builder.build(&tokens_per_image, &clip.camera_indices, style)?;
        if !matches!(style, PromptStyle::Question { .. }) {
            let bins = self
                .history_tokenizer
                .encode(&clip.ego_history_xyz, &clip.ego_history_rot)?;
            let history = self.config.traj_token_ids.history;
            fuse_history(&mut ids, history, self.config.history_token_start(), &bins)?;
        }
        let image_pad = tokenizer.image_pad();
        let positions = MultimodalPositions::new(&ids, image_pad, grid_thw, merge)?;
        Ok(Prompt::new(ids, image_pad, positions))
    }
}
