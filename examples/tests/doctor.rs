//! The doctor on every backend of the build: nothing is wrong with them, and what is wrong would be told.

use alpamayo_backends::layers::WeightFormat;
use alpamayo_backends::{BackendKind, Device};
use alpamayo_examples::doctor::{Examination, Outcome, Report, examine};

fn report(kind: BackendKind, weights: &[WeightFormat], repetitions: usize) -> Report {
    examine(&Examination {
        device: Device::new(kind),
        weights: weights.to_vec(),
        released_shapes: false,
        repetitions,
    })
    .unwrap()
}

/// Every operation is right, the plans are the reference's, and the report survives its file.
fn check(kind: BackendKind, weights: &[WeightFormat], repetitions: usize) -> Report {
    let report = report(kind, weights, repetitions);
    assert_eq!(report.problems(), Vec::<String>::new(), "{report}");
    assert_eq!(report.formats.len(), weights.len());
    for format in &report.formats {
        let run = format.nano.found().unwrap();
        assert_eq!(run.clips.len(), 6);
        assert!(run.clips.iter().all(|clip| clip.logits_error < 0.2), "{report}");
        assert_eq!(run.six_samples.is_some(), repetitions > 0);
        assert!(format.operations.found().unwrap().len() > 25);
    }
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    report
}

#[test]
fn the_cpu_is_healthy() {
    let report = check(BackendKind::Cpu, &[WeightFormat::F32, WeightFormat::Bf16], 1);
    let exact = report.formats[0].nano.found().unwrap();
    assert!(exact.clips.iter().all(|clip| clip.logits_error < 1e-5), "{report}");
    let six = exact.six_samples.as_ref().unwrap();
    assert!(six.median_ms.total > 0.0 && six.mean_min_ade < 0.8, "{report}");
    assert!(
        report
            .memory
            .iter()
            .any(|need| need.weights == "int4" && need.bytes < 10_000_000_000)
    );
    assert!(report.to_string().contains("Everything is as it should be"));
}

#[test]
fn few_bits_say_the_same_words() {
    let report = check(BackendKind::Cpu, &[WeightFormat::Int8], 0);
    let run = report.formats[0].nano.found().unwrap();
    assert!(
        run.clips.iter().all(|clip| clip.logits_error > 1e-5),
        "nothing was rounded: {report}"
    );
}

#[cfg(feature = "candle")]
#[test]
fn candles_cpu_is_healthy_in_every_float() {
    check(
        BackendKind::Candle,
        &[WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16],
        0,
    );
}

#[cfg(feature = "vulkan")]
#[test]
fn vulkan_is_healthy_and_tells_its_limits() {
    let report = check(BackendKind::Vulkan, &[WeightFormat::Bf16, WeightFormat::Int8], 0);
    assert!(report.machine.largest_buffer.is_some_and(|bytes| bytes >= 1 << 27));
    assert!(report.machine.workgroup_memory.is_some_and(|bytes| bytes >= 16 << 10));
}

#[test]
fn a_wrong_operation_and_a_panic_are_told() {
    let mut report = report(BackendKind::Cpu, &[WeightFormat::F32], 0);
    let format = &mut report.formats[0];
    let Outcome::Found(checks) = &mut format.operations else {
        panic!("{:?}", format.operations)
    };
    checks[0].passed = false;
    checks[0].relative_error = None;
    format.nano = Outcome::of(|| panic!("out of memory"));
    let problems = report.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("not finite") && problems[1].contains("out of memory"));
    assert!(report.to_string().contains("2 problems"));
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    let examination = Examination {
        device: Device {
            kind: BackendKind::Vulkan,
            index: 60_000,
        },
        weights: vec![WeightFormat::F32],
        released_shapes: false,
        repetitions: 1,
    };
    assert!(examine(&examination).is_err());
}
