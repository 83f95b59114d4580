//! Driving a sweep: each clip is looked at once, what a perturbation leaves is not computed again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alpamayo_backends::ModelBackend;
use alpamayo_core::Clip;
use alpamayo_core::perturb::{PerturbationSpec, Perturbed};
use alpamayo_models::pipeline::View;
use alpamayo_models::{Alpamayo, DriveOptions};

use super::grid::{Condition, GridItem, Task, control_seed, drive_seed};
use super::record::{Change, CleanRecord, Drive, PerturbedRecord, Record};
use crate::error::Result;
use crate::evaluate::ClipItem;
use crate::run::{self, BoxedError, Interrupt, Item, Outcome, ResultFile};

/// The clip that was read last, for the items that follow each other with the same one.
#[derive(Debug, Default)]
pub(super) struct LastClip(Mutex<Option<(String, Arc<Clip>)>>);

impl LastClip {
    pub(super) fn read(&self, item: &ClipItem) -> alpamayo_core::Result<Arc<Clip>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = item.key();
        if let Some((known, clip)) = &*last
            && *known == key
        {
            return Ok(Arc::clone(clip));
        }
        let clip = Arc::new(item.read()?);
        *last = Some((key, Arc::clone(&clip)));
        Ok(clip)
    }
}

/// A clip under its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub key: &'a str,
    pub clip: &'a Clip,
}

/// A model with what it saw last.
pub(super) struct Driver<'a, B: ModelBackend> {
    model: &'a Alpamayo<B>,
    options: &'a DriveOptions,
    clean: Option<CleanView<B>>,
    perturbed: Option<(PerturbationSpec, View<B>)>,
}

struct CleanView<B: ModelBackend> {
    key: String,
    view: View<B>,
    drives: HashMap<u64, Drive>,
}

impl<'a, B: ModelBackend> Driver<'a, B> {
    pub fn new(model: &'a Alpamayo<B>, options: &'a DriveOptions) -> Self {
        Self {
            model,
            options,
            clean: None,
            perturbed: None,
        }
    }

    /// Seconds between poses.
    pub fn dt(&self) -> f64 {
        self.model.action_space().dt()
    }

    /// The seed that the sweep starts from.
    pub fn seed(&self) -> u64 {
        self.options.seed
    }

    /// Drives the clean clip; a seed that was driven already is not driven again.
    pub fn clean(&mut self, clip: Named<'_>, seed: u64) -> Result<Drive, BoxedError> {
        self.look(clip)?;
        let (model, options) = (self.model, self.options);
        let Some(clean) = &mut self.clean else {
            return Err("the clip was not looked at".into());
        };
        if let Some(drive) = clean.drives.get(&seed) {
            return Ok(drive.clone());
        }
        let drive = drive(model, &clean.view, options, seed)?;
        clean.drives.insert(seed, drive.clone());
        Ok(drive)
    }

    /// Drives the clip perturbed; the view of the perturbation before is kept for other seeds of the same.
    pub fn perturbed(
        &mut self,
        clip: Named<'_>,
        spec: &PerturbationSpec,
        perturbed: &Perturbed,
        seed: u64,
    ) -> Result<(Drive, &View<B>), BoxedError> {
        self.look(clip)?;
        let known = self.perturbed.take().filter(|(known, _)| known == spec);
        let view = match (known, &self.clean) {
            (Some((_, view)), _) => view,
            (None, Some(clean)) => self
                .model
                .view_perturbed(perturbed, &clean.view, &self.options.prompt)?,
            (None, None) => return Err("the clip was not looked at".into()),
        };
        let drive = drive(self.model, &view, self.options, seed)?;
        let (_, view) = self.perturbed.insert((spec.clone(), view));
        Ok((drive, &*view))
    }

    /// Looks at the clip, unless it was the last one.
    fn look(&mut self, clip: Named<'_>) -> Result<(), BoxedError> {
        if self.clean.as_ref().is_some_and(|clean| clean.key == clip.key) {
            return Ok(());
        }
        // The views before are given back before the next one is made.
        (self.clean, self.perturbed) = (None, None);
        self.clean = Some(CleanView {
            key: clip.key.to_owned(),
            view: self.model.view(clip.clip, &self.options.prompt)?,
            drives: HashMap::new(),
        });
        Ok(())
    }
}

fn drive<B: ModelBackend>(
    model: &Alpamayo<B>,
    view: &View<B>,
    options: &DriveOptions,
    seed: u64,
) -> Result<Drive, BoxedError> {
    let options = DriveOptions {
        seed,
        ..options.clone()
    };
    let plan = model.drive_view(view, &options)?;
    Ok(Drive::new(&plan, seed, model.action_space().dt())?)
}

/// A clip that is ready to be driven.
struct Prepared {
    clip: Arc<Clip>,
    perturbed: Option<Perturbed>,
}

/// Drives the items that are `pending`; the next clip is read and perturbed while the device is busy.
///
/// # Errors
/// Where a line cannot be written; what goes wrong with an item becomes its line.
pub fn drive_grid<B: ModelBackend>(
    model: &Alpamayo<B>,
    options: &DriveOptions,
    results: &mut ResultFile<Record>,
    pending: &[&GridItem<'_>],
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let last = LastClip::default();
    let mut driver = Driver::new(model, options);
    let prepare = |item: &GridItem<'_>| {
        let clip = last.read(item.clip)?;
        let perturbed = match &item.task {
            Task::Clean => None,
            Task::Perturbed(condition) => Some(condition.spec.apply(&clip)?),
        };
        Ok(Prepared { clip, perturbed })
    };
    let work = |item: &GridItem<'_>, prepared: Prepared| {
        let key = item.clip.key();
        let clip = Named {
            key: &key,
            clip: &prepared.clip,
        };
        match (&item.task, &prepared.perturbed) {
            (Task::Perturbed(condition), Some(perturbed)) => {
                pair(&mut driver, clip, item.repetition, condition, perturbed)
            }
            _ => control(&mut driver, clip, item.repetition),
        }
    };
    run::run(results, pending, interrupt, prepare, work)
}

fn control<B: ModelBackend>(
    driver: &mut Driver<'_, B>,
    clip: Named<'_>,
    repetition: u32,
) -> Result<Record, BoxedError> {
    let drive = driver.clean(clip, drive_seed(driver.seed(), clip.key, repetition))?;
    let control = driver.clean(clip, control_seed(driver.seed(), clip.key, repetition))?;
    let truth = clip.clip.ego_future_xyz.as_deref();
    Ok(Record::Clean(Box::new(CleanRecord {
        clip: clip.key.to_owned(),
        repetition,
        change: Change::between(&drive, &control, truth, driver.dt())?,
        drive,
        control,
    })))
}

fn pair<B: ModelBackend>(
    driver: &mut Driver<'_, B>,
    clip: Named<'_>,
    repetition: u32,
    condition: &Condition,
    perturbed: &Perturbed,
) -> Result<Record, BoxedError> {
    let (seed, dt) = (drive_seed(driver.seed(), clip.key, repetition), driver.dt());
    let clean = driver.clean(clip, seed)?;
    let (drive, view) = driver.perturbed(clip, &condition.spec, perturbed, seed)?;
    let truth = clip.clip.ego_future_xyz.as_deref();
    Ok(Record::Perturbed(Box::new(PerturbedRecord {
        clip: clip.key.to_owned(),
        repetition,
        experiment: condition.experiment.clone(),
        severity: condition.severity,
        spec: condition.spec.clone(),
        change: Change::between(&clean, &drive, truth, dt)?,
        drive,
        images: view.images.len(),
        reused_images: view.reused_images,
        reused_prompt: view.reused_prompt,
    })))
}
