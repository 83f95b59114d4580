//! Backends that this build or this machine lacks: a program says what to enable or install, and leaves nothing behind.

use std::path::{Path, PathBuf};
use std::process::Command;

use alpamayo_backends::BackendKind;

/// The program, which `cargo test` builds beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/drive");
    let program = program.with_extension(std::env::consts::EXE_EXTENSION);
    let advice = "build it with `cargo build -p alpamayo-examples --example drive`";
    assert!(program.is_file(), "{} is not there; {advice}", program.display());
    program
}

/// What `drive` says, without any Vulkan driver.
fn error(device: &str, folder: &Path) -> String {
    let picture = folder.join("drive.png");
    let output = Command::new(program())
        .args(["--backend", device, "--output"])
        .arg(&picture)
        .env("VK_DRIVER_FILES", folder.join("nowhere.json"))
        .env("VK_ICD_FILENAMES", folder.join("nowhere.json"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{device}");
    assert!(!picture.exists());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_backend_that_is_not_in_the_build_or_on_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    for kind in BackendKind::ALL.into_iter().filter(|kind| kind.is_numbered()) {
        // No machine has that many, and none has a Vulkan device without a driver.
        let device = match kind {
            BackendKind::Vulkan => "vulkan".to_owned(),
            kind => format!("{}:99", kind.name()),
        };
        let error = error(&device, folder.path());
        let advice = match kind {
            kind if !kind.is_compiled() => format!("compile with `--features {}`", kind.feature()),
            BackendKind::Vulkan => "is a Vulkan driver installed".to_owned(),
            // What compiles kernels for Vulkan doesn't compile them to WGSL besides.
            BackendKind::WebGpu if BackendKind::Vulkan.is_compiled() && cfg!(target_os = "linux") => {
                "ask for `vulkan:99`".to_owned()
            }
            _ => format!("no device {device} on this machine"),
        };
        assert!(
            error.starts_with("error: ") && error.contains(&advice),
            "{device}: {error}"
        );
    }
}
