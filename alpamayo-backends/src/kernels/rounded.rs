//! Roundings that have to happen.

use cubecl::prelude::*;

/// The value, rounded as it was computed.
///
/// Some drivers merge a product with the sum or the product that follows, or reorder them, where a kernel can't forbid it: what it
/// computes from the rounding error is then lost. They don't look through a maximum that they can't foresee. For values
/// above -10³⁰.
#[cube]
pub(super) fn rounded(value: f32) -> f32 {
    max(value, -1.0e30f32)
}
