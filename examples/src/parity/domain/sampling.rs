//! Logits to probabilities: the same tokens kept, and nearly the same numbers.

use alpamayo_core::{SamplingOptions, probabilities};

use super::super::Result;
use super::super::golden::Values;
use super::{Domain, doubles, get, row};

/// Probabilities are sums of exponentials in f32.
const ALLOWED: f64 = 1e-6;

pub(super) fn compare(domain: &mut Domain<'_>) -> Result<()> {
    let cases = domain.json("sampling.json")?;
    let tensors = domain.tensors("sampling.safetensors")?;
    for case in cases.as_array().ok_or("sampling.json is no list")? {
        let number = &case["case"];
        let options = SamplingOptions {
            temperature: case["temperature"].as_f64().ok_or("a case without temperature")?,
            top_k: case["top_k"].as_u64().map(|k| k as usize),
            top_p: case["top_p"].as_f64().ok_or("a case without top_p")?,
        };
        let logits = get(&tensors, &format!("{number}.logits"))?;
        let golden = get(&tensors, &format!("{number}.probabilities"))?;
        let [rows, vocabulary] = logits.shape[..] else {
            return Err("logits are no matrix".into());
        };
        let values = logits.floats();
        let mut actual = Vec::with_capacity(values.len());
        for index in 0..rows {
            let row = probabilities(row(&values, index, vocabulary), 0..0, &options)?;
            actual.extend(row.into_iter().map(f64::from));
        }
        let kept = |values: &[f64]| values.iter().map(|&value| i64::from(value > 0.0)).collect();
        domain.equal(format!("sampling.{number}.kept"), kept(&doubles(golden)), kept(&actual));
        domain.compare(
            "sampling",
            &format!("{number}.probabilities"),
            golden,
            &Values::Float(actual),
            ALLOWED,
        );
    }
    Ok(())
}
