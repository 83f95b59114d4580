//! Checkpoint import: from safetensors files to a model's parameters on a device.
//!
//! [`Checkpoint::open`] reads the headers of all files; [`verify`] compares them with a model and tells everything that doesn't
//! fit at once; [`CheckpointSource`] then streams the tensors to a device as the modules ask for them. Which tensor fills which
//! field is one table (`table.rs`), from which [`expected_tensors`] lists them for a model.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use alpamayo_backends::{instances::Flex, layers::WeightFormat};
//! # use alpamayo_models::import::{Checkpoint, CheckpointSource};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = Path::new("Alpamayo-R1-10B");
//! let config = alpamayo_core::ModelConfig::from_checkpoint(directory, None)?;
//! let checkpoint = Arc::new(Checkpoint::open(directory)?);
//! let mut progress = |p: alpamayo_models::import::Progress<'_>| println!("{} of {} bytes", p.bytes_done, p.bytes_total);
//! let device = Default::default();
//! let source =
//!     CheckpointSource::<Flex>::new(checkpoint, &config, WeightFormat::Bf16, &device, Some(&mut progress))?;
//! // … build modules from `&mut source` …
//! source.finish()?;
//! # Ok(())
//! # }
//! ```

mod checkpoint;
mod header;
mod layout;
mod mapped_file;
mod mapped_tensor;
mod memory;
mod nearest;
mod problem;
mod quantize;
mod read_ahead;
mod source;
mod summary;
mod table;
mod values;
mod verify;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, INDEX_FILE, QuantizedEntry, SINGLE_FILE, TensorEntry};
pub use layout::{ExpectedTensor, Part, expected_tensors};
pub(crate) use memory::check_memory;
pub use memory::{MemoryNeed, Workload, memory_needs, weight_bytes};
pub use problem::{TensorProblem, TensorProblems};
pub use quantize::{QUANTIZATION_KEY, quantize};
pub use source::{CheckpointSource, Progress, ProgressCallback};
pub use summary::{CheckpointSummary, Count, PartSummary};
pub(crate) use values::to_f32;
pub use verify::{problems, verify};
