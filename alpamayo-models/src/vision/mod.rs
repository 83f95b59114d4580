//! The vision tower: patches of pixels → image tokens, with deepstack.

mod block;
mod features;
mod kept_tables;
mod merger;
mod patch_embedding;
mod position_grid;
mod tables;
mod tower;

#[cfg(test)]
mod tests;

pub use block::VisionBlock;
pub use features::VisionFeatures;
pub(crate) use kept_tables::KeptTables;
pub use merger::{Merger, MergerNorm};
pub use patch_embedding::PatchEmbedding;
pub use position_grid::PositionGrid;
pub use tables::VisionTables;
pub use tower::VisionTower;

/// Every LayerNorm of the tower.
pub(crate) const LAYER_NORM_EPSILON: f64 = 1e-6;

/// `(row, column)` of every patch of an image in the order of the tower's rows: cell by cell, and row by row inside a cell of
/// `merge` x `merge` patches.
pub(crate) fn patch_order(height: usize, width: usize, merge: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height / merge).flat_map(move |cell_row| {
        (0..width / merge).flat_map(move |cell_column| {
            (0..merge * merge).map(move |inner| (cell_row * merge + inner / merge, cell_column * merge + inner % merge))
        })
    })
}
