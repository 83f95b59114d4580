//! The pairs of a sweep as rows of numbers, read from its file of results.

use std::collections::HashMap;

use alpamayo_core::perturb::measure::Intent;

use super::grid::{GridItem, Task};
use super::measure;
use super::record::{Change, Drive, IntentKind, Record};
use crate::error::Result;
use crate::run::{Item, ResultFile};

/// What was driven so far of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The pairs, clean ones with other seeds among them, in the order of the grid.
    pub rows: Vec<Row>,
    /// What failed: key and error.
    pub failures: Vec<(String, String)>,
    /// What is still to be done.
    pub missing: usize,
    /// Images in the prompts of perturbed drives, and those among them whose features were the clean clip's.
    pub images: [usize; 2],
}

/// A pair of drives with the same seed (or, for the noise floor, with different ones).
#[derive(Clone, Debug)]
pub struct Row {
    /// The key of its line.
    pub key: String,
    /// The clip's key.
    pub clip: String,
    /// Which repetition, from 1.
    pub repetition: u32,
    /// Experiment and severity; `None` for the clean clip with another seed.
    pub condition: Option<(String, f64)>,
    /// The value of each of [`measure::ALL`].
    pub values: Vec<Option<f64>>,
    /// The clean drive, and the other.
    pub drives: [Words; 2],
}

/// What a drive says and does, most of its samples at least.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// The seed of its draws.
    pub seed: u64,
    /// The sentence.
    pub sentence: String,
    /// What the sentence says.
    pub stated: Intent,
    /// What the trajectory does.
    pub driven: Intent,
}

impl Words {
    fn of(drive: &Drive) -> Self {
        Self {
            seed: drive.seed,
            sentence: drive.sentence().to_owned(),
            stated: drive.intent(IntentKind::Stated),
            driven: drive.intent(IntentKind::Driven),
        }
    }
}

impl Row {
    /// The value of the measure of that name.
    pub fn value(&self, key: &str) -> Option<f64> {
        let index = measure::ALL.iter().position(|measure| measure.key == key)?;
        self.values[index]
    }
}

fn values(change: &Change) -> Vec<Option<f64>> {
    measure::ALL.iter().map(|measure| measure.value(change)).collect()
}

impl Rows {
    /// Reads the rows of `items`; records are read one by one, only their numbers are kept. Lines of other items, as of experiments
    /// that the sweep had before, are left out.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(results: &ResultFile<Record>, items: &[GridItem<'_>]) -> Result<Self> {
        let mut found = Self::default();
        let mut clean: HashMap<(String, u32), Words> = HashMap::new();
        for item in items {
            let key = item.key();
            let place = (item.clip.key(), item.repetition);
            match results.record(&key)? {
                None => found.missing += 1,
                Some(Err(error)) => found.failures.push((key, error)),
                Some(Ok(Record::Clean(record))) => {
                    let drives = [Words::of(&record.drive), Words::of(&record.control)];
                    clean.insert(place, drives[0].clone());
                    found.push(item, key, None, &record.change, drives);
                }
                Some(Ok(Record::Perturbed(record))) => {
                    found.images[0] += record.images;
                    found.images[1] += record.reused_images;
                    let before = clean.get(&place).cloned().unwrap_or_default();
                    let drives = [before, Words::of(&record.drive)];
                    found.push(item, key, condition(item), &record.change, drives);
                }
            }
        }
        Ok(found)
    }

    fn push(
        &mut self,
        item: &GridItem<'_>,
        key: String,
        condition: Option<(String, f64)>,
        change: &Change,
        drives: [Words; 2],
    ) {
        self.rows.push(Row {
            key,
            clip: item.clip.key(),
            repetition: item.repetition,
            condition,
            values: values(change),
            drives,
        });
    }
}

fn condition(item: &GridItem<'_>) -> Option<(String, f64)> {
    match &item.task {
        Task::Clean => None,
        Task::Perturbed(condition) => Some((condition.experiment.clone(), condition.severity.value())),
    }
}
