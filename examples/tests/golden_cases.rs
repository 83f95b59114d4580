//! Every stage of every golden case, on every device that this build and this machine have, in f32.

use std::path::{Path, PathBuf};

use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_backends::{Device, DeviceVisitor, ModelBackend};
use alpamayo_examples::parity::{CaseSettings, Report, Tolerance, run_case};

/// Allowed relative errors: of any tensor (three times that behind sines of large angles), and of trajectories.
const TOLERANCE: f64 = 1e-5;
const TRAJECTORY_TOLERANCE: f64 = 2e-6;

struct Case(PathBuf);

impl DeviceVisitor for Case {
    type Output = Report;

    fn visit<B: ModelBackend>(self, device: B::Device) -> Report {
        let settings = CaseSettings {
            weight_format: Some(WeightFormat::F32),
            cache_format: Some(CacheFormat::F32),
            tolerance: Tolerance(TOLERANCE),
        };
        run_case::<B>(&self.0, settings, &device).unwrap()
    }
}

#[test]
fn every_device_computes_what_the_reference_does() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../alpamayo-models/tests/data");
    for case in ["base", "two-samples-no-eos", "batch-ragged-eos"] {
        for found in Device::available() {
            let report = found.device.run(Case(cases.join(case))).unwrap();
            let worst = report.worst().unwrap();
            println!("{case} on {found}: worst {} {:.2e}", worst.name, worst.relative_error);
            assert!(report.passed(), "{case} on {found}:\n{report}");
            let mut trajectories = report.comparisons.iter().filter(|row| row.name.starts_with("out."));
            assert!(
                trajectories.all(|row| row.relative_error <= TRAJECTORY_TOLERANCE),
                "{case} on {found}:\n{report}"
            );
        }
    }
}
