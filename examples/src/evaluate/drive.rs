//! Driving the clips of a run.

use std::slice;
use std::time::{Duration, Instant};

use alpamayo_backends::ModelBackend;
use alpamayo_core::Clip;
use alpamayo_models::pipeline::Inputs;
use alpamayo_models::{Alpamayo, DriveOptions};

use super::clips::{ClipItem, clip_seed};
use super::record::{ClipRecord, Driven};
use crate::error::Result;
use crate::run::{self, Interrupt, Item, Outcome, ResultFile};

/// A clip that is ready to be driven.
struct Prepared {
    clip: Clip,
    inputs: Inputs,
    /// How long reading and preprocessing took.
    before: [Duration; 2],
}

/// Drives the clips that are `pending`, each with a seed of its own ([`clip_seed`]); the next clip is read and preprocessed
/// while the device is busy.
///
/// # Errors
/// Where a line cannot be written; what goes wrong with a clip becomes its line.
pub fn drive<B: ModelBackend>(
    model: &Alpamayo<B>,
    options: &DriveOptions,
    results: &mut ResultFile<ClipRecord>,
    pending: &[&ClipItem],
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let prepare = |item: &ClipItem| {
        let started = Instant::now();
        let clip = item.read()?;
        let read = started.elapsed();
        let inputs = model.preprocess(slice::from_ref(&clip), &options.prompt)?;
        let before = [read, started.elapsed() - read];
        Ok(Prepared { clip, inputs, before })
    };
    let work = |item: &ClipItem, prepared: Prepared| {
        let Prepared { clip, inputs, before } = prepared;
        let options = DriveOptions {
            seed: clip_seed(options.seed, &item.key()),
            ..options.clone()
        };
        let plan = &model.drive_inputs(&inputs, slice::from_ref(&clip), &options, &mut ())?[0];
        let driven = Driven {
            clip: &clip,
            source: item.source(),
            options: &options,
            plan,
            before,
        };
        ClipRecord::new(&driven, model.action_space())
    };
    run::run(results, pending, interrupt, prepare, work)
}
