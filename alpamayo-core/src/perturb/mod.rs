//! Perturbations: one thing in a clip is changed, so that the model can drive again and show what moved.
//!
//! A [`PerturbationSpec`] is a seed and a list of [`Perturbation`]s, read from TOML or JSON:
//!
//! ```toml
//! seed = 7
//!
//! [[perturbations]]
//! name = "fog"             # an image corruption: ImageKind lists them
//! severity = 0.6           # 0 to 1, or level = 3 (of five)
//! cameras = [1]            # left out: all
//! frames = [2, 3]          # 0 is the oldest; left out: all
//!
//! [[perturbations]]
//! name = "speed_scale"     # of the ego history: HistoryKind
//! direction = "down"
//! reaches = "integrator"   # history_tokens, integrator or both
//! level = 2
//!
//! [[perturbations]]
//! name = "instruction"     # of the language: LanguageKind
//! text = "stop at once."
//! ```
//!
//! [`PerturbationSpec::apply`] applies them in order, each to what the one before left, and returns a [`Perturbed`]:
//! the changed clip, what the integrator shall see if that differs, what the pipeline shall say, and which images are
//! still those of the clean clip.
//!
//! A [`Sweep`] is a list of such experiments, each at several severities.
//!
//! Nothing is hidden: severity 0 changes nothing, to the bit; the same specification gives the same bytes on every
//! platform and with any number of threads; [`PerturbationSpec::canonical`] is one line of JSON that says all of it.

mod apply;
mod history;
mod image;
mod language;
pub mod measure;
mod perturbed;
mod sensor;
mod severity;
mod spec;
mod spec_file;
mod stream;
mod sweep;

pub use history::{HistoryKind, Reach};
pub use image::{Direction, ImageKind};
pub use language::{LanguageKind, LanguageOverrides};
pub use perturbed::{EgoHistory, Perturbed};
pub use sensor::SensorKind;
pub use severity::{LEVELS, Severity};
pub use spec::{Effect, Perturbation, PerturbationSpec, Target};
pub use sweep::{Experiment, Sweep};
