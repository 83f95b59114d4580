//! The backends that the model runs on, one file each.

#[cfg(feature = "flex")]
mod flex;

#[cfg(feature = "flex")]
pub use flex::Flex;
