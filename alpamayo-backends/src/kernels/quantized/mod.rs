//! Products with weights of few bits: read as they are stored, or widened to bf16 first.

mod codes;
pub mod integer;
mod matvec;
mod random;
pub mod row;
mod streamed;
#[cfg(all(test, feature = "wgpu", feature = "flex"))]
mod tests;
mod widen;

pub(crate) use codes::{Quad, read_quad, run, scheme, step};
pub use matvec::{QuantizedMatvecConfig, choose, matvec, matvec_with};
pub use random::random_words;
pub use streamed::{
    QuantizedStreamedConfig, QuantizedStreamedShape, choose as choose_streamed, streamed, streamed_with, streams,
};
pub use widen::{part_buffer, parts, widened, widened_rows, widens};
