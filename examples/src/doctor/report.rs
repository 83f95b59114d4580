//! The report, as text and as JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{FormatReport, Machine, MemoryEstimate, OperationCheck, Outcome};

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The machine and the device.
    pub machine: Machine,
    /// What was found per weight format.
    pub formats: Vec<FormatReport>,
    /// What the released model needs.
    pub memory: Vec<MemoryEstimate>,
}

impl Report {
    /// Everything that isn't as it should be, in words.
    pub fn problems(&self) -> Vec<String> {
        self.formats.iter().flat_map(FormatReport::problems).collect()
    }
}

impl FormatReport {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let sets = [
            Some(("operations", &self.operations)),
            self.released_operations
                .as_ref()
                .map(|outcome| ("operations at the released shapes", outcome)),
        ];
        for (name, outcome) in sets.into_iter().flatten() {
            match outcome {
                Outcome::Failed(words) => problems.push(format!("{}, {name}: {words}", self.weights)),
                Outcome::Found(checks) => {
                    let failed = checks.iter().filter(|check| !check.passed);
                    problems.extend(failed.map(|check| format!("{}: {check}", self.weights)));
                }
            }
        }
        match &self.nano {
            Outcome::Failed(words) => problems.push(format!("{}, nano: {words}", self.weights)),
            Outcome::Found(run) if !run.passed(&self.weights) => {
                problems.push(format!("{}, nano: plans differ from the reference's", self.weights))
            }
            Outcome::Found(_) => {}
        }
        problems
    }
}

impl fmt::Display for OperationCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self.relative_error {
            Some(error) => format!("{error:.1e}"),
            None => "not finite".into(),
        };
        write!(
            f,
            "{} ({}) relative error {error}, at most {:.0e} is rounding",
            self.operation, self.shape, self.tolerance
        )
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.device, self.description)?;
        let build = if self.optimised { "" } else { ", without optimisation" };
        let memory = self
            .memory
            .map_or_else(String::new, |bytes| format!(", {}", gigabytes(bytes)));
        writeln!(
            f,
            "alpamayo {}{build}; {}, {} cores{memory}",
            self.version, self.system, self.cores
        )?;
        let mut line = |name: &str, value: Option<String>| match value {
            Some(value) => writeln!(f, "  {name:<18} {value}"),
            None => Ok(()),
        };
        line("device memory", self.device_memory.map(gigabytes))?;
        line("largest buffer", self.largest_buffer.map(gigabytes))?;
        line("buffers", self.buffers.map(|count| count.to_string()))?;
        line("workgroup units", self.workgroup_units.map(|count| count.to_string()))?;
        let kibibytes = |bytes: u64| format!("{} KiB", bytes >> 10);
        line("workgroup memory", self.workgroup_memory.map(kibibytes))?;
        line("workgroups", self.workgroups.map(|counts| format!("{counts:?}")))?;
        line(
            "plane units",
            self.plane_units.map(|[low, high]| format!("{low} to {high}")),
        )?;
        line(
            "features",
            Some(self.features.join(", ")).filter(|names| !names.is_empty()),
        )
    }
}

impl fmt::Display for FormatReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} weights", self.weights)?;
        let sets = [
            ("operations", Some(&self.operations)),
            ("at released size", self.released_operations.as_ref()),
        ];
        for (name, outcome) in sets {
            match outcome {
                None => {}
                Some(Outcome::Failed(words)) => writeln!(f, "  {name:<18} FAILED: {words}")?,
                Some(Outcome::Found(checks)) => {
                    let passed = checks.iter().filter(|check| check.passed).count();
                    let worst = checks
                        .iter()
                        .filter_map(|check| check.relative_error)
                        .fold(0.0, f64::max);
                    writeln!(f, "  {name:<18} {passed} of {} right, worst {worst:.1e}", checks.len())?;
                    for check in checks.iter().filter(|check| !check.passed) {
                        writeln!(f, "    FAILED: {check}")?;
                    }
                }
            }
        }
        let run = match &self.nano {
            Outcome::Failed(words) => return writeln!(f, "  {:<18} FAILED: {words}", "nano"),
            Outcome::Found(run) => run,
        };
        for clip in &run.clips {
            writeln!(
                f,
                "  {:<18} text {}, logits {:.1e}, trajectory {:.1e}, at most {:.4} m off, ADE {:.2} m (reference {:.2} m)",
                clip.clip,
                if clip.text_equal { "equal" } else { "DIFFERS" },
                clip.logits_error,
                clip.trajectory_error,
                clip.worst_metres,
                clip.ade,
                clip.reference_ade
            )?;
        }
        let Some(six) = &run.six_samples else { return Ok(()) };
        writeln!(f, "  {:<18} {:.3} m", "mean minADE of 6", six.mean_min_ade)?;
        let times = &six.median_ms;
        writeln!(
            f,
            "  {:<18} preprocess {:.1}, encode {:.1}, prefill {:.1}, token {:.2}, flow {:.1}, total {:.1} ms",
            "time of 6 samples",
            times.preprocess,
            times.encode,
            times.prefill,
            times.generate_per_token,
            times.flow,
            times.total
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        for format in &self.formats {
            writeln!(f, "{format}")?;
        }
        writeln!(
            f,
            "Alpamayo-R1-10B would need, with six samples and a tenth for activations:"
        )?;
        for need in &self.memory {
            let fits = match need.fits {
                Some(true) => "fits",
                Some(false) => "does not fit",
                None => "the device doesn't tell its memory",
            };
            writeln!(
                f,
                "  {:<18} {} ({fits})",
                need.weights,
                gigabytes(need.with_activations)
            )?;
        }
        let problems = self.problems();
        if problems.is_empty() {
            return write!(f, "\nEverything is as it should be.");
        }
        write!(f, "\n{} problems:", problems.len())?;
        problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
