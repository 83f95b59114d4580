//! Kernels that an earlier process compiled compute what freshly compiled ones do.
#![cfg(feature = "vulkan")]

mod program;

use std::path::Path;
use std::process::Command;

/// What `drive` says of its plan.
fn plan(weights: &str, caches: &Path) -> Vec<String> {
    let output = Command::new(program::program("drive"))
        .args([
            "--backend",
            "vulkan",
            "--weights",
            weights,
            "--samples",
            "1",
            "--output",
        ])
        .arg(caches.join("drive.png"))
        .env("XDG_CACHE_HOME", caches)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let told = |line: &&str| line.contains("sample 0") || line.contains("after 6.4 s") || line.contains("ADE");
    text.lines().filter(told).map(str::to_owned).collect()
}

#[test]
fn kept_kernels_compute_the_same() {
    let caches = tempfile::tempdir().unwrap();
    // The second format's kernels differ from the first's by what is fused around them.
    let formats = ["f32", "int8"];
    let fresh = formats.map(|weights| plan(weights, caches.path()));
    let names = std::fs::read_dir(caches.path().join("alpamayo")).unwrap();
    assert_eq!(names.count(), 1, "one program has one folder of kernels");
    assert_eq!(formats.map(|weights| plan(weights, caches.path())), fresh);
    assert_eq!(fresh[0].len(), 3, "{fresh:?}");
}
