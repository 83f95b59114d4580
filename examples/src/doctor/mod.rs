//! Whether a device runs the model rightly, how fast, and how large a model it holds: one report of everything that a person with
//! that device can send to one without it.

mod machine;
mod memory;
mod nano;
mod operations;
mod report;

pub use machine::Machine;
pub use memory::MemoryEstimate;
pub use nano::{ClipParity, NanoRun, SixSamples, StageTimes};
pub use operations::OperationCheck;
pub use report::Report;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use alpamayo_backends::layers::WeightFormat;
use alpamayo_backends::verify::ModelShapes;
use alpamayo_backends::{Device, DeviceVisitor, ModelBackend};
use serde::{Deserialize, Serialize};

/// What is examined.
#[derive(Debug, Clone)]
pub struct Examination {
    /// The device.
    pub device: Device,
    /// How weights are stored, one examination each.
    pub weights: Vec<WeightFormat>,
    /// Whether operations are also run at the released model's shapes, which takes a GPU and 8 GB of memory.
    pub released_shapes: bool,
    /// Timed drives of the miniature with six samples; 0 leaves them out.
    pub repetitions: usize,
}

/// What was found in one weight format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormatReport {
    /// The format's name.
    pub weights: String,
    /// Every operation against a host reference in f64.
    pub operations: Outcome<Vec<OperationCheck>>,
    /// Every operation at the released model's shapes, where that was asked for.
    pub released_operations: Option<Outcome<Vec<OperationCheck>>>,
    /// The miniature's plans for the bundled clips against the reference's, and how long they take.
    pub nano: Outcome<NanoRun>,
}

/// A result, or what went wrong in the program's or the driver's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<T> {
    /// What came out.
    Found(T),
    /// An error, or the words of a panic.
    Failed(String),
}

impl<T> Outcome<T> {
    /// Runs something that may fail or panic; a report tells of both and goes on.
    pub fn of(work: impl FnOnce() -> Result<T, Box<dyn std::error::Error + Send + Sync>>) -> Self {
        // Nothing that a panic may have left half done is looked at afterwards.
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(found)) => Self::Found(found),
            Ok(Err(error)) => Self::Failed(error.to_string()),
            Err(panic) => Self::Failed(format!("panic: {}", words(panic.as_ref()))),
        }
    }

    /// What was found.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Failed(_) => None,
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}

/// Examines a device.
///
/// # Errors
/// Where the device can't be opened; everything else that goes wrong is in the report.
pub fn examine(examination: &Examination) -> alpamayo_backends::Result<Report> {
    let found = examination.device.check()?;
    examination.device.run(Doctor {
        examination,
        description: found.description,
    })
}

struct Doctor<'a> {
    examination: &'a Examination,
    description: String,
}

impl DeviceVisitor for Doctor<'_> {
    type Output = Report;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Report {
        let examination = self.examination;
        let limits = B::limits(&device);
        let machine = Machine::new(examination.device, self.description, &limits);
        let formats = examination.weights.iter().map(|&weights| {
            eprintln!("examining {} with {} weights", examination.device, weights.name());
            let operations = |shapes: &ModelShapes| operations::check::<B>(shapes, weights, &device);
            FormatReport {
                weights: weights.name().to_owned(),
                operations: operations(&ModelShapes::small()),
                released_operations: examination
                    .released_shapes
                    .then(|| operations(&ModelShapes::released())),
                nano: nano::run::<B>(weights, examination.repetitions, &device),
            }
        });
        let formats = formats.collect();
        Report {
            memory: memory::estimate(examination.device, &limits, machine.memory),
            machine,
            formats,
        }
    }
}
