//! Roundings that have to happen.

use cubecl::prelude::*;

/// The value, rounded as it was computed; `zero` is zero, but not to a compiler: the highest bit of an argument that has none.
///
/// Some drivers merge a product with the sum or the product that follows, or reorder them, where a kernel can't forbid it: what it
/// computes from the rounding error is then lost. They don't look through bits. (A maximum with a number far below is
/// not enough: Mesa moves it in front of the product.)
#[cube]
pub(super) fn rounded(value: f32, zero: u32) -> f32 {
    f32::reinterpret(u32::reinterpret(value) ^ zero)
}
