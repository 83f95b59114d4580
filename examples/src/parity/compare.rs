//! Errors of tensors against golden ones.

use std::fmt;

use super::golden::{Golden, Values};

/// The largest relative L2 errors that pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance(pub f64);

impl Tolerance {
    /// For a tensor of that name: preprocessing is exact, and what stands behind the sines of large angles may be three times as
    /// far off.
    pub fn of(self, name: &str) -> f64 {
        if name.starts_with("pre.") {
            0.0
        } else if name.starts_with("expert.") || name == "flow.v" {
            3.0 * self.0
        } else {
            self.0
        }
    }
}

/// One tensor's comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The tensor's name.
    pub name: String,
    /// Its golden shape.
    pub shape: Vec<usize>,
    /// `‖actual - golden‖ / ‖golden‖` over finite elements; infinite where shapes, non-finite elements or integers differ.
    pub relative_error: f64,
    /// The largest absolute difference.
    pub largest_difference: f64,
    /// The largest relative error that passes.
    pub allowed: f64,
    /// The largest absolute difference that passes.
    pub allowed_difference: f64,
}

impl Comparison {
    /// Compares elements with a golden tensor's, of which `mask` selects those that count (all where it is `None`).
    pub fn new(name: &str, golden: &Golden, actual: &Values, mask: Option<&[bool]>, tolerance: Tolerance) -> Self {
        let counts = |index: usize| mask.is_none_or(|mask| mask[index]);
        let (relative_error, largest_difference) = match (&golden.values, actual) {
            (Values::Float(golden), Values::Float(actual)) if golden.len() == actual.len() => {
                floats(golden, actual, counts)
            }
            (Values::Integer(golden), Values::Integer(actual)) if golden.len() == actual.len() => {
                integers(golden, actual, counts)
            }
            _ => (f64::INFINITY, f64::INFINITY),
        };
        let allowed = if matches!(golden.values, Values::Integer(_)) {
            0.0
        } else {
            tolerance.of(name)
        };
        Self {
            name: name.to_owned(),
            shape: golden.shape.clone(),
            relative_error,
            largest_difference,
            allowed,
            allowed_difference: f64::INFINITY,
        }
    }

    /// The same comparison, in which no element may differ by more.
    pub fn within(self, allowed_difference: f64) -> Self {
        Self {
            allowed_difference,
            ..self
        }
    }

    /// Whether the error is allowed. NaN is not.
    pub fn passed(&self) -> bool {
        self.relative_error <= self.allowed && self.largest_difference <= self.allowed_difference
    }
}

fn floats(golden: &[f64], actual: &[f64], counts: impl Fn(usize) -> bool) -> (f64, f64) {
    let (mut difference, mut norm, mut largest) = (0.0, 0.0, 0.0_f64);
    for (index, (&golden, &actual)) in golden.iter().zip(actual).enumerate() {
        if !counts(index) {
            continue;
        }
        if !golden.is_finite() {
            if golden != actual {
                return (f64::INFINITY, f64::INFINITY);
            }
            continue;
        }
        if !actual.is_finite() {
            return (f64::INFINITY, f64::INFINITY);
        }
        difference += (actual - golden).powi(2);
        norm += golden.powi(2);
        largest = largest.max((actual - golden).abs());
    }
    let relative = if difference == 0.0 {
        0.0
    } else {
        (difference / norm.max(f64::MIN_POSITIVE)).sqrt()
    };
    (relative, largest)
}

fn integers(golden: &[i64], actual: &[i64], counts: impl Fn(usize) -> bool) -> (f64, f64) {
    let pairs = golden
        .iter()
        .zip(actual)
        .enumerate()
        .filter(|(index, _)| counts(*index));
    let largest = pairs
        .map(|(_, (golden, actual))| golden.abs_diff(*actual))
        .max()
        .unwrap_or(0);
    (if largest == 0 { 0.0 } else { f64::INFINITY }, largest as f64)
}

/// All tensors of a case or a directory.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order of their names.
    pub comparisons: Vec<Comparison>,
}

impl Report {
    /// Whether every tensor passed, and there was one.
    pub fn passed(&self) -> bool {
        !self.comparisons.is_empty() && self.comparisons.iter().all(Comparison::passed)
    }

    /// The tensor with the largest error; of those that failed, where any did.
    pub fn worst(&self) -> Option<&Comparison> {
        let rank = |comparison: &Comparison| match comparison.relative_error {
            error if error.is_nan() => (true, f64::INFINITY),
            error => (!comparison.passed(), error),
        };
        let worse = |a: &&Comparison, b: &&Comparison| {
            let (a, b) = (rank(a), rank(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        };
        self.comparisons.iter().max_by(worse)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.comparisons {
            let shape = row.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
            let shape = if shape.is_empty() { "scalar".into() } else { shape };
            let mark = if row.passed() { "" } else { "  FAILED" };
            writeln!(
                f,
                "{:<28} {shape:<20} {:.2e} {:.2e}{mark}",
                row.name, row.relative_error, row.largest_difference
            )?;
        }
        match self.worst() {
            Some(worst) => write!(f, "worst {} {:.2e}", worst.name, worst.relative_error),
            None => write!(f, "worst - nothing was compared"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(values: Values) -> Golden {
        Golden { shape: vec![3], values }
    }

    #[test]
    fn a_difference_shows_in_both_measures() {
        let golden = golden(Values::Float(vec![3.0, 0.0, 4.0]));
        let row = Comparison::new("x", &golden, &Values::Float(vec![3.0, 0.5, 4.0]), None, Tolerance(0.05));
        assert_eq!((row.relative_error, row.largest_difference), (0.1, 0.5));
        assert!(!row.passed());
        let masked = Comparison::new(
            "x",
            &golden,
            &Values::Float(vec![3.0, 0.5, 4.0]),
            Some(&[true, false, true]),
            Tolerance(0.0),
        );
        assert!(masked.passed());
    }

    #[test]
    fn what_is_not_finite_must_be_the_same() {
        let reference = golden(Values::Float(vec![1.0, f64::NEG_INFINITY, 2.0]));
        let same = Values::Float(vec![1.0, f64::NEG_INFINITY, 2.0]);
        assert!(Comparison::new("x", &reference, &same, None, Tolerance(1e-9)).passed());
        for wrong in [vec![1.0, 0.0, 2.0], vec![f64::NAN, f64::NEG_INFINITY, 2.0]] {
            assert!(!Comparison::new("x", &reference, &Values::Float(wrong), None, Tolerance(1e9)).passed());
        }
    }

    #[test]
    fn integers_are_equal_or_wrong() {
        let reference = golden(Values::Integer(vec![1, 2, 3]));
        assert!(!Comparison::new("x", &reference, &Values::Integer(vec![1, 2, 4]), None, Tolerance(1e9)).passed());
        assert!(
            !Comparison::new(
                "x",
                &reference,
                &Values::Float(vec![1.0, 2.0, 3.0]),
                None,
                Tolerance(1e9)
            )
            .passed()
        );
        assert!(!Comparison::new("x", &reference, &Values::Integer(vec![1, 2]), None, Tolerance(1e9)).passed());
    }

    #[test]
    fn the_worst_is_the_largest_error_or_the_largest_that_failed() {
        let row = |name: &str, off: f64| {
            let values = Values::Float(vec![1.0, 0.0, off]);
            Comparison::new(
                name,
                &golden(Values::Float(vec![1.0, 0.0, 0.0])),
                &values,
                None,
                Tolerance(0.1),
            )
        };
        let mut report = Report {
            comparisons: vec![row("text.norm", 0.05), row("flow.v", 0.2), row("flow.x", 0.0)],
        };
        assert!(report.passed());
        assert_eq!(report.worst().map(|worst| worst.name.as_str()), Some("flow.v"));
        report.comparisons.push(row("pre.pixel_values", 1e-9));
        assert!(!report.passed(), "preprocessing is exact");
        assert_eq!(
            report.worst().map(|worst| worst.name.as_str()),
            Some("pre.pixel_values")
        );
    }

    #[test]
    fn an_empty_report_does_not_pass() {
        assert!(!Report::default().passed());
    }
}
