//! Frames to what the vision tower reads: patches of resized pixels.
//!
//! Every step is exact: the same bytes come out on every machine, and they are the bytes that PyTorch's
//! `interpolate(…, mode="bicubic", antialias=True)` gives on a CPU for 8-bit images.

mod patches;
mod processor;
mod resample;
mod resize;
mod smart_resize;

pub use patches::Patches;
pub use processor::ImageProcessor;
pub use resize::resize;
pub use smart_resize::{MAX_ASPECT_RATIO, smart_resize};
