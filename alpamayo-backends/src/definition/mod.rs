//! What each operation of [`ModelBackend`](crate::ModelBackend) computes, in plain Burn operations.
//!
//! These bodies run on any backend and are what kernels are tested against.

mod attention;
mod f16_range;
mod fourier;
mod host;
mod linear;
mod norm;
mod pixels;
mod quantize;
mod rotary;
mod rows;
mod slabs;
mod step;
mod weight;

pub use attention::{decode_attention, expert_attention, prefill_attention, vision_attention, write_cache};
pub use fourier::fourier_features;
pub use host::{host_values, is_stored_as_it_is};
pub use linear::{activate, finish, gate, project};
pub use norm::normalize;
pub use pixels::normalize_pixels;
pub use quantize::{first_bad_step, quantized_words};
pub use rotary::{normalize_heads, rotate};
pub use rows::{add_rows, lookup_rows};
pub use slabs::store_weight_in_slabs;
pub use step::decode_step;
pub use weight::{float_weight, from_values, packed, quantized, random_weight, store_weight, supports_format, uniform};
