//! The vision tower: patches of pixels → image tokens, with deepstack.

mod block;
mod merger;
mod patch_embedding;
mod position_grid;
mod tower;

pub use block::VisionBlock;
pub use merger::Merger;
pub use patch_embedding::PatchEmbedding;
pub use position_grid::PositionGrid;
pub use tower::VisionTower;

/// Every LayerNorm of the tower.
pub(crate) const LAYER_NORM_EPSILON: f64 = 1e-6;
