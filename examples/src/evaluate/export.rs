//! A run as NumPy arrays.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use npyz::{AutoSerialize, DType, TypeStr, WriteOptions, WriterBuilder};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::metrics::{self, Metric};
use super::record::ClipRecord;
use crate::error::{Error, Result};
use crate::run::ResultFile;

/// Writes everything but the warnings to an `.npz` file; `samples` are those per clip.
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
pub fn write(results: &ResultFile<ClipRecord>, samples: usize, path: &Path) -> Result<()> {
    let mut arrays = Arrays::new(samples);
    for entry in results.records() {
        match entry? {
            (key, Ok(record)) => arrays.push(key, &record),
            (key, Err(error)) => {
                arrays.failed_key.push(key);
                arrays.failed_error.push(error);
            }
        }
    }
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut archive = Archive {
        zip: ZipWriter::new(BufWriter::new(file)),
        path: path.to_path_buf(),
    };
    arrays.write(&mut archive)?;
    archive.text("options", &[], &[results.options().to_string()])?;
    let file = archive
        .zip
        .finish()
        .map_err(|error| Error::io("write", path)(error.into()))?;
    file.into_inner()
        .map(drop)
        .map_err(|error| Error::io("write", path)(error.into_error()))
}

/// Arrays row by row.
struct Arrays {
    samples: usize,
    steps: usize,
    key: Vec<String>,
    name: Vec<String>,
    seed: Vec<i64>,
    t0_us: Vec<i64>,
    coc: Vec<String>,
    reasoning: Vec<String>,
    stopped: Vec<bool>,
    sample_ade: Vec<f64>,
    sample_fde: Vec<f64>,
    best_sample: Vec<i64>,
    xyz: Vec<f32>,
    yaw: Vec<f32>,
    truth_xyz: Vec<f32>,
    metrics: Vec<(Metric, Vec<f64>, Vec<f64>)>,
    stage: Vec<String>,
    times_ms: Vec<f64>,
    failed_key: Vec<String>,
    failed_error: Vec<String>,
}

impl Arrays {
    fn new(samples: usize) -> Self {
        let metrics = metrics::all(samples).into_iter();
        Self {
            samples,
            steps: 0,
            key: Vec::new(),
            name: Vec::new(),
            seed: Vec::new(),
            t0_us: Vec::new(),
            coc: Vec::new(),
            reasoning: Vec::new(),
            stopped: Vec::new(),
            sample_ade: Vec::new(),
            sample_fde: Vec::new(),
            best_sample: Vec::new(),
            xyz: Vec::new(),
            yaw: Vec::new(),
            truth_xyz: Vec::new(),
            metrics: metrics.map(|metric| (metric, Vec::new(), Vec::new())).collect(),
            stage: Vec::new(),
            times_ms: Vec::new(),
            failed_key: Vec::new(),
            failed_error: Vec::new(),
        }
    }

    fn push(&mut self, key: String, record: &ClipRecord) {
        self.key.push(key);
        self.name.push(record.name.clone());
        self.seed.push(record.seed as i64);
        self.t0_us.push(record.t0_us.unwrap_or(-1));
        self.coc.push(record.coc.clone().unwrap_or_default());
        self.steps = record.samples.first().map_or(self.steps, |sample| sample.xyz.len());
        for sample in &record.samples {
            self.reasoning.push(sample.reasoning.clone());
            self.stopped.push(sample.stopped);
            self.xyz.extend(sample.xyz.as_flattened());
            self.yaw.extend(&sample.yaw);
        }
        let missing = vec![f64::NAN; self.samples];
        let measures = record.measures.as_ref();
        self.sample_ade
            .extend(measures.map_or(&missing, |measures| &measures.ade));
        self.sample_fde
            .extend(measures.map_or(&missing, |measures| &measures.fde));
        self.best_sample
            .push(measures.map_or(-1, |measures| measures.best_sample as i64));
        let unknown = vec![[f32::NAN; 3]; self.steps];
        let truth = record.truth.as_ref().unwrap_or(&unknown);
        self.truth_xyz.extend(truth.as_flattened());
        for (metric, model, baseline) in &mut self.metrics {
            model.push(metric.value(record).unwrap_or(f64::NAN));
            baseline.push(metric.baseline(record).unwrap_or(f64::NAN));
        }
        let stages = record.times_ms.stages();
        self.stage = stages.iter().map(|(stage, _)| (*stage).to_owned()).collect();
        self.times_ms.extend(stages.iter().map(|(_, time)| time));
    }

    fn write(&self, archive: &mut Archive) -> Result<()> {
        let (clips, samples, steps) = (self.key.len(), self.samples, self.steps);
        archive.text("key", &[clips], &self.key)?;
        archive.text("name", &[clips], &self.name)?;
        archive.numbers("seed", &[clips], &self.seed)?;
        archive.numbers("t0_us", &[clips], &self.t0_us)?;
        archive.text("coc", &[clips], &self.coc)?;
        archive.text("reasoning", &[clips, samples], &self.reasoning)?;
        archive.numbers("stopped", &[clips, samples], &self.stopped)?;
        archive.numbers("xyz", &[clips, samples, steps, 3], &self.xyz)?;
        archive.numbers("yaw", &[clips, samples, steps], &self.yaw)?;
        archive.numbers("truth_xyz", &[clips, steps, 3], &self.truth_xyz)?;
        archive.numbers("sample_ade", &[clips, samples], &self.sample_ade)?;
        archive.numbers("sample_fde", &[clips, samples], &self.sample_fde)?;
        archive.numbers("best_sample", &[clips], &self.best_sample)?;
        for (metric, model, baseline) in &self.metrics {
            archive.numbers(&metric.key, &[clips], model)?;
            if metric.has_baseline() {
                archive.numbers(&format!("constant_velocity_{}", metric.key), &[clips], baseline)?;
            }
        }
        archive.text("stage", &[self.stage.len()], &self.stage)?;
        archive.numbers("times_ms", &[clips, self.stage.len()], &self.times_ms)?;
        archive.text("failed_key", &[self.failed_key.len()], &self.failed_key)?;
        archive.text("failed_error", &[self.failed_error.len()], &self.failed_error)
    }
}

/// An `.npz` file: a zip archive with an `.npy` file per array.
struct Archive {
    zip: ZipWriter<BufWriter<File>>,
    path: PathBuf,
}

impl Archive {
    fn numbers<T: AutoSerialize + Clone>(&mut self, name: &str, shape: &[usize], values: &[T]) -> Result<()> {
        self.member(name, |file| {
            let options = WriteOptions::<T>::new().default_dtype().shape(&as_u64(shape));
            let mut writer = options.writer(file).begin_nd()?;
            writer.extend(values.iter().cloned())?;
            writer.finish()
        })
    }

    /// Text of fixed width, NumPy's `U`.
    fn text(&mut self, name: &str, shape: &[usize], values: &[String]) -> Result<()> {
        self.member(name, |file| {
            let longest = values.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
            let width: TypeStr = format!("<U{longest}").parse().map_err(io::Error::other)?;
            let options = WriteOptions::<str>::new()
                .dtype(DType::new_scalar(width))
                .shape(&as_u64(shape));
            let mut writer = options.writer(file).begin_nd()?;
            values.iter().try_for_each(|text| writer.push(text))?;
            writer.finish()
        })
    }

    fn member(&mut self, name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let options = SimpleFileOptions::default().large_file(true);
        let started = self
            .zip
            .start_file(format!("{name}.npy"), options)
            .map_err(io::Error::from);
        let written = started.and_then(|()| write(&mut self.zip));
        written.map_err(|source| Error::Array {
            array: name.to_owned(),
            path: self.path.clone(),
            source,
        })
    }
}

fn as_u64(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|&length| length as u64).collect()
}
