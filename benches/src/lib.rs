//! What the benches share: which backend and which size, and a clock that waits for the device.
//!
//! ```sh
//! cargo bench -p alpamayo-benches --bench stages
//! ALPAMAYO_BACKEND=vulkan cargo bench -p alpamayo-benches --features vulkan --bench operations -- attention
//! ALPAMAYO_BACKEND=cuda ALPAMAYO_SIZE=r1-10b cargo bench -p alpamayo-benches --features cuda
//! ```
//!
//! | variable | | default |
//! |---|---|---|
//! | `ALPAMAYO_BACKEND` | a device of this build by name: `cpu`, `candle`, `vulkan:0`, `cuda:0` … | `cpu` |
//! | `ALPAMAYO_SIZE` | `nano` (the bundled checkpoint, frames of 288x480), `r1-10b` (random weights, frames of 1080x1920) | `nano` |
//! | `ALPAMAYO_WEIGHTS` | `f32`, `bf16`, `f16`, `int8`, `int4` | the backend's choice |
//! | `ALPAMAYO_CACHE` | `f32`, `bf16` | the backend's choice |
//!
//! What stands behind `--` goes to Criterion: a pattern of names, `--save-baseline before`, `--baseline before`. Backend and size
//! are part of every name, so runs of several can be kept side by side in `target/criterion`.
#![deny(missing_docs)]

mod clock;
pub mod inputs;
#[cfg(feature = "paper")]
pub mod paper;
mod settings;
mod shapes;

pub use clock::Clock;
pub use settings::{Settings, Size};
pub use shapes::shapes;
