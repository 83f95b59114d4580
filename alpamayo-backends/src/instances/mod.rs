//! The backends that the model runs on, one file each.

#[cfg(feature = "candle")]
pub(crate) mod candle;
#[cfg(feature = "flex")]
mod flex;

#[cfg(feature = "candle")]
pub use candle::Candle;
#[cfg(feature = "flex")]
pub use flex::Flex;
