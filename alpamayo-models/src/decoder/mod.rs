//! The language model: decoder layers with grouped-query attention and interleaved multimodal rotary positions.

mod layer;
mod model;
mod rope;

#[cfg(test)]
mod tests;

pub use layer::DecoderLayer;
pub use model::{Decoder, DeepstackAdditions};
pub use rope::MultimodalRope;
