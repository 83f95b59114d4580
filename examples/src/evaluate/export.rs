//! A run as NumPy arrays.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use npyz::{AutoSerialize, DType, TypeStr, WriteOptions, WriterBuilder};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::clips::ClipItem;
use super::metrics::{self, Metric};
use super::record::{ClipRecord, SampleRecord};
use crate::error::{Error, Result};
use crate::run::ResultFile;

/// Writes everything but the warnings of `items` to an `.npz` file; `samples` are those per clip. In memory are the keys and a few
/// numbers per clip: words and poses are read again, array by array.
///
/// Clips come in the order of the file of results, first axis of every array but those of failures:
///
/// | array | shape | |
/// |---|---|---|
/// | `key`, `name`, `seed`, `t0_us`, `coc` | `[clips]` | `t0_us` -1 and `coc` empty where unknown |
/// | `reasoning`, `stopped`, `sample_ade`, `sample_fde` | `[clips, samples]` | metres; NaN without truth |
/// | `xyz`, `yaw` | `[clips, samples, steps, 3]`, `[clips, samples, steps]` | metres, radians, ego frame at t0 |
/// | `truth_xyz` | `[clips, steps, 3]` | NaN without truth |
/// | `best_sample` | `[clips]` | k*; -1 without truth |
/// | each number of [`metrics::all`] by its key, `constant_velocity_{key}` | `[clips]` | NaN where a clip has none |
/// | `times_ms`, `stage` | `[clips, stages]`, `[stages]` | |
/// | `failed_key`, `failed_error` | `[failures]` | |
/// | `options` | `[]` | JSON |
///
/// # Errors
/// [`Error::Array`], [`Error::Io`], and where the file of results cannot be read.
pub fn write(results: &ResultFile<ClipRecord>, items: &[ClipItem], samples: usize, path: &Path) -> Result<()> {
    let columns = Columns::read(results, items, samples)?;
    let mut archive = Archive::create(path)?;
    columns.write(&mut archive)?;
    let (clips, steps) = (columns.key.len(), columns.steps);
    let records = || {
        results.records_of(items).filter_map(|entry| match entry {
            Ok((_, outcome)) => outcome.ok().map(Ok),
            Err(error) => Some(Err(error)),
        })
    };
    let [name, coc, reasoning] = columns.widths;
    let rows = records().map(|record| Ok(vec![record?.name]));
    archive.text("name", &[clips], name, rows)?;
    let rows = records().map(|record| Ok(vec![record?.coc.unwrap_or_default()]));
    archive.text("coc", &[clips], coc, rows)?;
    let rows = records().map(|record| Ok(record?.samples.into_iter().map(|sample| sample.reasoning).collect()));
    archive.text("reasoning", &[clips, samples], reasoning, rows)?;
    let rows = records().map(|record| Ok(poses(&record?.samples)));
    archive.numbers("xyz", &[clips, samples, steps, 3], rows)?;
    let rows = records().map(|record| Ok(record?.samples.into_iter().flat_map(|sample| sample.yaw).collect()));
    archive.numbers("yaw", &[clips, samples, steps], rows)?;
    let rows = records().map(|record| {
        let truth = record?.truth.unwrap_or_else(|| vec![[f32::NAN; 3]; steps]);
        Ok(truth.into_flattened())
    });
    archive.numbers("truth_xyz", &[clips, steps, 3], rows)?;
    archive.all_text("options", &[], &[results.options().to_string()])?;
    archive.finish()
}

fn poses(samples: &[SampleRecord]) -> Vec<f32> {
    samples
        .iter()
        .flat_map(|sample| sample.xyz.as_flattened())
        .copied()
        .collect()
}

/// What is kept of every clip: numbers, and how long words are.
struct Columns {
    samples: usize,
    steps: usize,
    /// Letters of the longest name, sentence of a person's, and reasoning.
    widths: [usize; 3],
    key: Vec<String>,
    seed: Vec<i64>,
    t0_us: Vec<i64>,
    stopped: Vec<bool>,
    sample_ade: Vec<f64>,
    sample_fde: Vec<f64>,
    best_sample: Vec<i64>,
    metrics: Vec<(Metric, Vec<f64>, Vec<f64>)>,
    stage: Vec<String>,
    times_ms: Vec<f64>,
    failed_key: Vec<String>,
    failed_error: Vec<String>,
}

impl Columns {
    fn read(results: &ResultFile<ClipRecord>, items: &[ClipItem], samples: usize) -> Result<Self> {
        let metrics = metrics::all(samples).into_iter();
        let mut columns = Self {
            samples,
            steps: 0,
            widths: [0; 3],
            key: Vec::new(),
            seed: Vec::new(),
            t0_us: Vec::new(),
            stopped: Vec::new(),
            sample_ade: Vec::new(),
            sample_fde: Vec::new(),
            best_sample: Vec::new(),
            metrics: metrics.map(|metric| (metric, Vec::new(), Vec::new())).collect(),
            stage: Vec::new(),
            times_ms: Vec::new(),
            failed_key: Vec::new(),
            failed_error: Vec::new(),
        };
        for entry in results.records_of(items) {
            match entry? {
                (key, Ok(record)) => columns.push(key, &record),
                (key, Err(error)) => {
                    columns.failed_key.push(key);
                    columns.failed_error.push(error);
                }
            }
        }
        Ok(columns)
    }

    fn push(&mut self, key: String, record: &ClipRecord) {
        self.key.push(key);
        self.seed.push(record.seed as i64);
        self.t0_us.push(record.t0_us.unwrap_or(-1));
        self.steps = record.samples.first().map_or(self.steps, |sample| sample.xyz.len());
        self.stopped.extend(record.samples.iter().map(|sample| sample.stopped));
        let coc = record.coc.as_deref().unwrap_or_default();
        let reasoning = record.samples.iter().map(|sample| letters(&sample.reasoning)).max();
        let widths = [letters(&record.name), letters(coc), reasoning.unwrap_or(0)];
        for (longest, width) in self.widths.iter_mut().zip(widths) {
            *longest = width.max(*longest);
        }
        let missing = vec![f64::NAN; self.samples];
        let measures = record.measures.as_ref();
        self.sample_ade
            .extend(measures.map_or(&missing, |measures| &measures.ade));
        self.sample_fde
            .extend(measures.map_or(&missing, |measures| &measures.fde));
        self.best_sample
            .push(measures.map_or(-1, |measures| measures.best_sample as i64));
        for (metric, model, baseline) in &mut self.metrics {
            model.push(metric.value(record).unwrap_or(f64::NAN));
            baseline.push(metric.baseline(record).unwrap_or(f64::NAN));
        }
        let stages = record.times_ms.stages();
        if self.stage.is_empty() {
            self.stage = stages.iter().map(|(stage, _)| (*stage).to_owned()).collect();
        }
        self.times_ms.extend(stages.iter().map(|(_, time)| time));
    }

    fn write(&self, archive: &mut Archive) -> Result<()> {
        let (clips, samples) = (self.key.len(), self.samples);
        archive.all_text("key", &[clips], &self.key)?;
        archive.all_numbers("seed", &[clips], &self.seed)?;
        archive.all_numbers("t0_us", &[clips], &self.t0_us)?;
        archive.all_numbers("stopped", &[clips, samples], &self.stopped)?;
        archive.all_numbers("sample_ade", &[clips, samples], &self.sample_ade)?;
        archive.all_numbers("sample_fde", &[clips, samples], &self.sample_fde)?;
        archive.all_numbers("best_sample", &[clips], &self.best_sample)?;
        for (metric, model, baseline) in &self.metrics {
            archive.all_numbers(&metric.key, &[clips], model)?;
            if metric.has_baseline() {
                archive.all_numbers(&format!("constant_velocity_{}", metric.key), &[clips], baseline)?;
            }
        }
        archive.all_text("stage", &[self.stage.len()], &self.stage)?;
        archive.all_numbers("times_ms", &[clips, self.stage.len()], &self.times_ms)?;
        archive.all_text("failed_key", &[self.failed_key.len()], &self.failed_key)?;
        archive.all_text("failed_error", &[self.failed_error.len()], &self.failed_error)
    }
}

fn letters(text: &str) -> usize {
    text.chars().count()
}

/// An `.npz` file: a zip archive with an `.npy` file per array. Arrays are written as they come, row by row.
struct Archive {
    zip: ZipWriter<BufWriter<File>>,
    path: PathBuf,
}

impl Archive {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        Ok(Self {
            zip: ZipWriter::new(BufWriter::new(file)),
            path: path.to_path_buf(),
        })
    }

    fn finish(self) -> Result<()> {
        let file = self.zip.finish();
        let file = file.map_err(|error| Error::io("write", &self.path)(error.into()))?;
        file.into_inner()
            .map(drop)
            .map_err(|error| Error::io("write", &self.path)(error.into_error()))
    }

    fn all_numbers<T: AutoSerialize + Clone>(&mut self, name: &str, shape: &[usize], values: &[T]) -> Result<()> {
        self.numbers(name, shape, values.iter().map(|value| Ok(vec![value.clone()])))
    }

    fn numbers<T: AutoSerialize>(
        &mut self,
        name: &str,
        shape: &[usize],
        rows: impl Iterator<Item = Result<Vec<T>>>,
    ) -> Result<()> {
        let failed = failed(name, &self.path);
        self.begin(name).map_err(&failed)?;
        let options = WriteOptions::<T>::new().default_dtype().shape(&as_u64(shape));
        let mut writer = options.writer(&mut self.zip).begin_nd().map_err(&failed)?;
        for row in rows {
            row?.iter().try_for_each(|value| writer.push(value)).map_err(&failed)?;
        }
        writer.finish().map_err(failed)
    }

    fn all_text(&mut self, name: &str, shape: &[usize], values: &[String]) -> Result<()> {
        let longest = values.iter().map(|text| letters(text)).max().unwrap_or(0);
        let rows = values.iter().map(|text| Ok(vec![text.clone()]));
        self.text(name, shape, longest, rows)
    }

    /// Text of fixed width, NumPy's `U`.
    fn text(
        &mut self,
        name: &str,
        shape: &[usize],
        longest: usize,
        rows: impl Iterator<Item = Result<Vec<String>>>,
    ) -> Result<()> {
        let failed = failed(name, &self.path);
        self.begin(name).map_err(&failed)?;
        let width = format!("<U{}", longest.max(1)).parse::<TypeStr>();
        let width = width.map_err(io::Error::other).map_err(&failed)?;
        let options = WriteOptions::<str>::new().dtype(DType::new_scalar(width));
        let options = options.shape(&as_u64(shape));
        let mut writer = options.writer(&mut self.zip).begin_nd().map_err(&failed)?;
        for row in rows {
            row?.iter().try_for_each(|text| writer.push(text)).map_err(&failed)?;
        }
        writer.finish().map_err(failed)
    }

    fn begin(&mut self, name: &str) -> io::Result<()> {
        let options = SimpleFileOptions::default().large_file(true);
        Ok(self.zip.start_file(format!("{name}.npy"), options)?)
    }
}

fn failed(name: &str, path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let (array, path) = (name.to_owned(), path.to_path_buf());
    move |source| Error::Array {
        array: array.clone(),
        path: path.clone(),
        source,
    }
}

fn as_u64(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|&length| length as u64).collect()
}
