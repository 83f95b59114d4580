//! What the tower makes of images, image by image.

use std::ops::Range;

use burn::tensor::{Tensor, backend::Backend};

use crate::error::{Error, Result};

/// Image tokens and deepstack features of a sequence of images, on the device.
///
/// Images don't see each other in the tower, so features can be kept, taken apart and put together anew:
/// [`images`](Self::images), [`concat`](Self::concat).
#[derive(Debug, Clone)]
pub struct VisionFeatures<B: Backend> {
    /// `[image tokens, text hidden]`, image after image.
    pub tokens: Tensor<B, 2>,
    /// One `[image tokens, text hidden]` per deepstack merger.
    pub deepstack: Vec<Tensor<B, 2>>,
    /// Tokens of each image.
    pub tokens_per_image: Vec<usize>,
}

impl<B: Backend> VisionFeatures<B> {
    /// The features of some neighbouring images.
    ///
    /// # Errors
    /// [`Error::Argument`] where the range is empty or exceeds the images.
    pub fn images(&self, range: Range<usize>) -> Result<Self> {
        if range.is_empty() || range.end > self.tokens_per_image.len() {
            return Err(Error::Argument {
                argument: "images",
                reason: format!("{range:?} of {} images", self.tokens_per_image.len()),
            });
        }
        let start = self.tokens_per_image[..range.start].iter().sum();
        let tokens_per_image = self.tokens_per_image[range].to_vec();
        let count = tokens_per_image.iter().sum();
        let rows = |x: &Tensor<B, 2>| x.clone().narrow(0, start, count);
        Ok(Self {
            tokens: rows(&self.tokens),
            deepstack: self.deepstack.iter().map(rows).collect(),
            tokens_per_image,
        })
    }

    /// Features of images from several encodings, one behind the other.
    ///
    /// # Errors
    /// [`Error::Argument`] where there are none, or they come from different towers.
    pub fn concat(parts: &[Self]) -> Result<Self> {
        let mergers = parts.first().map(|part| part.deepstack.len());
        if mergers.is_none() || parts.iter().any(|part| Some(part.deepstack.len()) != mergers) {
            return Err(Error::Argument {
                argument: "parts",
                reason: "give one or more features of the same vision tower".into(),
            });
        }
        let join = |of: &dyn Fn(&Self) -> Tensor<B, 2>| Tensor::cat(parts.iter().map(of).collect(), 0);
        Ok(Self {
            tokens: join(&|part| part.tokens.clone()),
            deepstack: (0..mergers.unwrap_or(0))
                .map(|index| join(&|part| part.deepstack[index].clone()))
                .collect(),
            tokens_per_image: parts.iter().flat_map(|part| part.tokens_per_image.clone()).collect(),
        })
    }
}
