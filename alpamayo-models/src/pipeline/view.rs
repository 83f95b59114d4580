//! What the model sees of a clip, kept: to drive from it many times, and to see only what is new in a changed clip.

use alpamayo_backends::ModelBackend;
use alpamayo_core::perturb::{EgoHistory, LanguageOverrides, Perturbed};
use alpamayo_core::{Clip, Frame, PromptStyle};
use burn::tensor::backend::Backend;

use super::build::Alpamayo;
use super::drive::Clock;
use super::inputs::Prompt;
use super::options::DriveOptions;
use super::plan::{Plan, Timings};
use super::prefill::Prefilled;
use crate::error::{Error, Result};
use crate::vision::VisionFeatures;

/// A clip that the model has looked at: everything up to the first word of reasoning.
///
/// Drives from one view share its prompt. Each image went through the vision tower alone, so its features depend on nothing but
/// its pixels, and those of untouched images can be taken over into another view to the bit.
#[derive(Debug, Clone)]
pub struct View<B: Backend> {
    /// Features of each image.
    pub images: Vec<VisionFeatures<B>>,
    /// Time steps, rows and columns of patches of each image.
    pub grid_thw: Vec<[usize; 3]>,
    /// The prompt.
    pub prompt: Prompt,
    /// The prompt in the cache.
    pub prefilled: Prefilled<B>,
    /// The ego history that the integrator's v0 is estimated from; the prompt may hold another.
    pub integrator_history: EgoHistory,
    /// What every row's reasoning begins with, see [`Alpamayo::forced_reasoning`].
    pub forced_tokens: Vec<u32>,
    /// How many of the images were taken over from another view.
    pub reused_images: usize,
    /// Whether the prefilled prompt was taken over too.
    pub reused_prompt: bool,
    /// Time of preprocessing, encoding and prefill.
    pub timings: Timings,
}

impl<B: ModelBackend> Alpamayo<B> {
    /// Looks at a clip.
    ///
    /// # Errors
    /// As those of [`preprocess`](Self::preprocess), [`encode`](Self::encode) and [`prefill`](Self::prefill).
    pub fn view(&self, clip: &Clip, style: &PromptStyle) -> Result<View<B>> {
        let scene = Scene {
            clip,
            integrator_history: EgoHistory::from(clip),
            language: &LanguageOverrides::default(),
            kept: &vec![None; clip.frames.len()],
        };
        self.look(&scene, None, style)
    }

    /// Looks at a perturbed clip, of which `clean` is the view before the perturbation.
    ///
    /// What is unchanged is not computed again: features of images whose pixels are those of a clean image, and the whole prompt
    /// where nothing in it has changed. The result is the same, to the bit, as if it had been.
    ///
    /// # Errors
    /// As [`view`](Self::view), and where the language's changes don't fit the prompt's style, or are no plain text.
    pub fn view_perturbed(&self, perturbed: &Perturbed, clean: &View<B>, style: &PromptStyle) -> Result<View<B>> {
        let scene = Scene {
            clip: &perturbed.clip,
            integrator_history: perturbed.integrator_history(),
            language: &perturbed.language,
            kept: &perturbed.clean_frames,
        };
        self.look(&scene, Some(clean), style)
    }

    /// Drives from a view; of the options, `prompt` was decided when the view was made.
    ///
    /// # Errors
    /// As those of [`generate`](Self::generate), [`flow`](Self::flow) and [`trajectories`](Self::trajectories), and where both the
    /// view and the options force tokens.
    pub fn drive_view(&self, view: &View<B>, options: &DriveOptions) -> Result<Plan> {
        let mut clock = Clock::start();
        let mut timings = view.timings;
        let options = self.options_for(view, options)?;
        let generation = self.generate(&view.prefilled, &options, &mut ())?;
        self.finish("generate")?;
        timings.generate = clock.lap();
        timings.generated_tokens = generation.tokens.first().map_or(0, Vec::len);
        let actions = self.flow(&generation, &options, &mut ())?;
        timings.flow = clock.lap();
        let history = std::slice::from_ref(&view.integrator_history);
        let trajectories = self.trajectories_from(history, &actions)?;
        let mut plan = self.plans(&generation, actions, trajectories)?.remove(0);
        timings.postprocess = clock.lap();
        plan.timings = timings;
        Ok(plan)
    }

    /// The tokens that words stand for at the beginning of the reasoning, for [`DriveOptions::forced_tokens`].
    ///
    /// A beginning is gone on from; a replaced reasoning is complete, and the action follows it at once. Without either there
    /// are none.
    ///
    /// # Errors
    /// Where a text contains special tokens, both are given, or the model has no tokenizer.
    pub fn forced_reasoning(&self, language: &LanguageOverrides) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        match (&language.reasoning_prefix, &language.replaced_reasoning) {
            (None, None) => Ok(Vec::new()),
            (Some(beginning), None) => {
                // A space at the end belongs to the next word's token.
                Ok(tokenizer.encode_plain("beginning of the reasoning", beginning.trim())?)
            }
            (None, Some(reasoning)) => {
                let mut tokens = tokenizer.encode_plain("reasoning", reasoning.trim())?;
                tokens.extend(tokenizer.encode("<|cot_end|>")?);
                tokens.push(self.config.traj_token_ids.future_start);
                Ok(tokens)
            }
            (Some(_), Some(_)) => Err(Error::Argument {
                argument: "language",
                reason: "a reasoning that is replaced as a whole has no beginning to be forced; give one of the two"
                    .into(),
            }),
        }
    }

    fn look(&self, scene: &Scene<'_>, clean: Option<&View<B>>, style: &PromptStyle) -> Result<View<B>> {
        scene.clip.validate()?;
        let style = style_for(style, scene.language)?;
        let forced_tokens = self.forced_reasoning(scene.language)?;
        let mut timings = Timings::default();
        let (seen, reused_images) = self.see(scene, clean, &mut timings)?;
        let (images, grid_thw): (Vec<_>, Vec<_>) = seen.into_iter().unzip();
        let mut clock = Clock::start();
        let prompt = self.prompt_for(scene.clip, &grid_thw, &style)?;
        timings.preprocess += clock.lap();
        let same_images = scene.kept.iter().copied().eq((0..images.len()).map(Some));
        let known = clean.filter(|clean| same_images && clean.images.len() == images.len() && clean.prompt == prompt);
        let prefilled = match known {
            Some(known) => known.prefilled.clone(),
            None => {
                let features = VisionFeatures::concat(&images)?;
                self.prefill(std::slice::from_ref(&prompt), &features, &mut ())?
            }
        };
        self.finish("prefill")?;
        timings.prefill = clock.lap();
        Ok(View {
            images,
            grid_thw,
            prompt,
            prefilled,
            integrator_history: scene.integrator_history.clone(),
            forced_tokens,
            reused_images,
            reused_prompt: known.is_some(),
            timings,
        })
    }

    /// Every image, and how many of them were taken over; the others go through the vision tower one by one.
    fn see(&self, scene: &Scene<'_>, clean: Option<&View<B>>, timings: &mut Timings) -> Result<(Vec<Seen<B>>, usize)> {
        let mut clock = Clock::start();
        let taken_over: Vec<Option<Seen<B>>> = (scene.kept.iter())
            .map(|kept| clean.zip(*kept).and_then(|(clean, image)| clean.image(image)))
            .collect();
        let frames = scene.clip.frames.iter().zip(&taken_over);
        let new: Vec<Frame> = frames
            .filter(|(_, known)| known.is_none())
            .map(|(frame, _)| frame.clone())
            .collect();
        let patches = self.image_processor.process(&new)?;
        timings.preprocess = clock.lap();
        let mut new = patches.split().map(|patches| {
            let features = self.encode(&patches, &mut ())?;
            Ok((features, patches.grid_thw[0]))
        });
        let reused = taken_over.iter().flatten().count();
        let seen = (taken_over.into_iter())
            .filter_map(|known| known.map(Ok).or_else(|| new.next()))
            .collect::<Result<_>>()?;
        self.finish("encode")?;
        timings.encode = clock.lap();
        Ok((seen, reused))
    }

    fn options_for(&self, view: &View<B>, options: &DriveOptions) -> Result<DriveOptions> {
        let mut options = options.clone();
        if !view.forced_tokens.is_empty() {
            if !options.forced_tokens.is_empty() {
                return Err(Error::Argument {
                    argument: "forced_tokens",
                    reason: "the view's perturbation forces tokens already; leave one of the two out".into(),
                });
            }
            options.forced_tokens = vec![view.forced_tokens.clone()];
        }
        Ok(options)
    }
}

impl<B: Backend> View<B> {
    fn image(&self, index: usize) -> Option<Seen<B>> {
        Some((self.images.get(index)?.clone(), *self.grid_thw.get(index)?))
    }
}

/// An image's features, and its grid of patches.
type Seen<B> = (VisionFeatures<B>, [usize; 3]);

/// What is looked at.
struct Scene<'a> {
    clip: &'a Clip,
    integrator_history: EgoHistory,
    language: &'a LanguageOverrides,
    /// For each frame the image of the clean view that it equals, if any.
    kept: &'a [Option<usize>],
}

/// The style with the language's instruction in it.
fn style_for(style: &PromptStyle, language: &LanguageOverrides) -> Result<PromptStyle> {
    match (&language.instruction, style) {
        (None, style) => Ok(style.clone()),
        (Some(instruction), PromptStyle::R1 | PromptStyle::Instructed { .. }) => Ok(PromptStyle::Instructed {
            instruction: instruction.clone(),
        }),
        (Some(_), PromptStyle::Labelled { .. } | PromptStyle::Question { .. }) => Err(Error::Argument {
            argument: "language",
            reason:
                "another instruction needs Alpamayo-R1's prompt (PromptStyle::R1); other styles say where to go, or \
                     ask, in a place of their own"
                    .into(),
        }),
    }
}
