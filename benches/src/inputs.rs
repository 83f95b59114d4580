//! Models of each size, and what they are given.

use std::iter;
use std::path::{Path, PathBuf};

use alpamayo_backends::ModelBackend;
use alpamayo_core::{Frame, ImageProcessor, ModelConfig, MultimodalPositions};
use alpamayo_models::Alpamayo;
use alpamayo_models::pipeline::{Inputs, Prompt};

use crate::settings::{Settings, Size};

/// Four cameras, four frames each.
const FRAMES: usize = 16;

/// What one clip is, at a size.
struct ClipShape {
    /// Height and width of a camera's frames.
    frame: [usize; 2],
    /// The prompt's text tokens before and behind its images.
    text_tokens: [usize; 2],
}

impl ClipShape {
    fn of(size: Size) -> Self {
        match size {
            // A prompt of 399 tokens.
            Size::Nano => Self {
                frame: [288, 480],
                text_tokens: [18, 109],
            },
            // A prompt of 3,006 tokens.
            Size::R1 => Self {
                frame: [1080, 1920],
                text_tokens: [18, 76],
            },
        }
    }
}

/// Errors as words, for a program that can only print them.
type Result<T> = std::result::Result<T, String>;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/data")
        .join(path)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// The configuration of a size.
///
/// # Errors
/// Where the bundled files cannot be read.
pub fn config(size: Size) -> Result<ModelConfig> {
    match size {
        Size::Nano => ModelConfig::from_checkpoint(&data("nano/checkpoint"), None).map_err(text),
        Size::R1 => {
            let config = include_str!("../../examples/data/r1-10b/config.json");
            let backbone = include_str!("../../examples/data/r1-10b/backbone.json");
            ModelConfig::from_json(config, backbone).map_err(text)
        }
    }
}

/// The model: the bundled checkpoint, or random weights of the released size.
///
/// # Errors
/// Where it cannot be loaded, or the device cannot hold it.
pub fn model<B: ModelBackend>(settings: &Settings, device: &B::Device) -> Result<Alpamayo<B>> {
    let options = settings.load_options();
    match settings.size {
        Size::Nano => Alpamayo::load(data("nano/checkpoint"), device, options).map_err(text),
        Size::R1 => Alpamayo::random(&config(Size::R1)?, None, device, &options).map_err(text),
    }
}

/// One clip as the network reads it: noise-like frames, and a prompt without a tokenizer, text around the images as long as the
/// real one's.
///
/// # Errors
/// Where the configuration's image sizes are impossible.
pub fn inputs(size: Size, config: &ModelConfig) -> Result<Inputs> {
    let ClipShape {
        frame: [height, width],
        text_tokens,
    } = ClipShape::of(size);
    let pixel = |frame: usize, i: usize| (i * 31 + i / 977 + frame * 7) as u8;
    let pixels = |frame| (0..height * width * 3).map(|i| pixel(frame, i)).collect();
    let frames = (0..FRAMES).map(|frame| Frame::new(width, height, pixels(frame)));
    let frames: Vec<Frame> = frames.collect::<alpamayo_core::Result<_>>().map_err(text)?;
    let patches = ImageProcessor::new(config).process(&frames).map_err(text)?;
    let image_pad = u32::MAX;
    let [before, behind] = text_tokens.map(|tokens| 0..tokens as u32);
    let image = |tokens| [1].into_iter().chain(iter::repeat_n(image_pad, tokens)).chain([2]);
    let images = patches.tokens_per_image().into_iter().flat_map(image);
    let ids: Vec<u32> = before.chain(images).chain(behind).collect();
    let merge = config.vision.spatial_merge_size;
    let positions = MultimodalPositions::new(&ids, image_pad, &patches.grid_thw, merge).map_err(text)?;
    Ok(Inputs {
        patches,
        prompts: vec![Prompt::new(ids, image_pad, positions)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_have_the_real_ones_extents() {
        for (size, patches, tokens) in [(Size::Nano, 960, 399), (Size::R1, 11_520, 3006)] {
            let inputs = inputs(size, &config(size).unwrap()).unwrap();
            assert_eq!(
                (inputs.patches.num_patches(), inputs.prompts[0].len()),
                (patches, tokens)
            );
        }
    }
}
