//! Recorded drives: a local copy of NVIDIA's PhysicalAI-Autonomous-Vehicles, and one's own cameras.
//!
//! [`Dataset`] makes a [`Clip`](crate::Clip) of any of the dataset's clips at any time:
//!
//! ```no_run
//! # fn main() -> alpamayo_core::Result<()> {
//! use alpamayo_core::dataset::{Dataset, SampleOptions};
//!
//! let dataset = Dataset::open("PhysicalAI-Autonomous-Vehicles".as_ref())?;
//! for entry in dataset.clips().iter().filter(|entry| entry.is_valid) {
//!     let clip = dataset.clip(&entry.clip_id, 5_100_000, &SampleOptions::default())?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Recording`] does the same for a video per camera and a table of timed poses. Both read video through the `ffmpeg`
//! command.
//!
//! Inside: [`Features`] and the clip index say where things are, `archive` and `table` read zip members and Parquet
//! columns, [`PoseTrack`] (on [`CubicSpline`]) and [`Egomotion`] say where the car was, [`FrameTimes`] which frame was
//! the latest, [`Video`] decodes it (in place where a zip stores it), [`SampleOptions`] say what is taken at t0.

mod archive;
mod calibration;
mod camera;
mod egomotion;
mod features;
mod ffmpeg;
mod index;
mod poses;
mod reader;
mod recording;
mod sample;
mod source;
mod spline;
mod table;
#[cfg(test)]
mod tests;
mod video;

pub use camera::{CAMERA_FEATURES, DEFAULT_CAMERAS, FrameTimes, camera_index};
pub use egomotion::{Egomotion, EgomotionState};
pub use features::{Feature, Features};
pub use ffmpeg::Ffmpeg;
pub use index::ClipEntry;
pub use poses::{LocalPoses, Pose, PoseTrack};
pub use reader::{Dataset, EARLIEST_T0_US};
pub use recording::{PoseLog, Recording, RecordingCamera};
pub use sample::{Future, INTERVAL_US, SampleOptions};
pub use source::Source;
pub use spline::CubicSpline;
pub use video::Video;
