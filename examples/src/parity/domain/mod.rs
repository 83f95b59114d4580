//! Golden values of everything around the network: images, prompts, trajectory tokens, sampling, action space, configurations.

mod actions;
mod images;
mod prompts;
mod sampling;
mod tokens;

use std::collections::BTreeMap;
use std::path::Path;

use alpamayo_core::ModelConfig;
use serde_json::Value;

use super::Result;
use super::compare::{Comparison, Report, Tolerance};
use super::golden::{Golden, Values};

/// Compares everything in a domain directory; the prompts with the tokenizer they were made with.
///
/// # Errors
/// When a file can't be read, or holds something that is not known here.
pub fn run_domain(directory: &Path, tokenizer: &Path, tolerance: Tolerance) -> Result<Report> {
    let mut domain = Domain {
        directory,
        tolerance,
        report: Report::default(),
    };
    let config = domain.configuration()?;
    images::compare(&mut domain, &config)?;
    prompts::compare(&mut domain, &config, tokenizer)?;
    tokens::compare(&mut domain)?;
    sampling::compare(&mut domain)?;
    actions::compare(&mut domain, &config)?;
    Ok(domain.report)
}

struct Domain<'a> {
    directory: &'a Path,
    tolerance: Tolerance,
    report: Report,
}

impl Domain<'_> {
    fn text(&self, name: &str) -> Result<String> {
        let path = self.directory.join(name);
        Ok(std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    fn json(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.text(name)?).map_err(|error| format!("{name}: {error}"))?)
    }

    fn tensors(&self, name: &str) -> Result<BTreeMap<String, Golden>> {
        Golden::read(&self.directory.join(name))
    }

    /// Compares a tensor of the file `file`; floating point may be off by `allowed`.
    fn compare(&mut self, file: &str, name: &str, golden: &Golden, actual: &Values, allowed: f64) {
        self.compare_within(file, name, golden, actual, [allowed, f64::INFINITY]);
    }

    /// As [`compare`](Self::compare), with the largest relative error and the largest difference of an element that pass.
    fn compare_within(&mut self, file: &str, name: &str, golden: &Golden, actual: &Values, allowed: [f64; 2]) {
        let [relative, difference] = allowed;
        let row = Comparison::new(&format!("{file}.{name}"), golden, actual, None, Tolerance(relative));
        self.report.comparisons.push(row.within(difference));
    }

    /// Compares integers.
    fn equal(&mut self, name: String, golden: Vec<i64>, actual: Vec<i64>) {
        let golden = Golden {
            shape: vec![golden.len()],
            values: Values::Integer(golden),
        };
        let row = Comparison::new(&name, &golden, &Values::Integer(actual), None, self.tolerance);
        self.report.comparisons.push(row);
    }

    /// The released configuration, whose list of tensors must come out too.
    fn configuration(&mut self) -> Result<ModelConfig> {
        let config = ModelConfig::from_json(
            &self.text("alpamayo-r1-10b.config.json")?,
            &self.text("qwen3-vl-8b.config.json")?,
        )?;
        let golden = self.json("alpamayo-r1-10b.tensors.json")?;
        let golden = golden["tensors"]
            .as_object()
            .ok_or("alpamayo-r1-10b.tensors.json has no `tensors`")?;
        let expected = alpamayo_models::import::expected_tensors(&config);
        let same = |tensor: &&alpamayo_models::import::ExpectedTensor| {
            golden
                .get(&tensor.name)
                .is_some_and(|shape| *shape == serde_json::json!(tensor.shape))
        };
        let matching = expected.iter().filter(same).count();
        let (golden, expected) = (golden.len() as i64, expected.len() as i64);
        self.equal(
            "tensors.names_and_shapes".into(),
            vec![golden, golden],
            vec![expected, matching as i64],
        );
        Ok(config)
    }
}

fn row(values: &[f32], index: usize, size: usize) -> &[f32] {
    &values[index * size..(index + 1) * size]
}

fn get<'a>(tensors: &'a BTreeMap<String, Golden>, name: &str) -> Result<&'a Golden> {
    Ok(tensors.get(name).ok_or_else(|| format!("there is no tensor {name}"))?)
}

fn doubles(golden: &Golden) -> Vec<f64> {
    match &golden.values {
        Values::Float(values) => values.clone(),
        Values::Integer(values) => values.iter().map(|&value| value as f64).collect(),
    }
}

fn integers(golden: &Golden) -> Vec<i64> {
    match &golden.values {
        Values::Float(values) => values.iter().map(|&value| value as i64).collect(),
        Values::Integer(values) => values.clone(),
    }
}
