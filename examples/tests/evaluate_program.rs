//! The program `evaluate` as a person runs it: stopped with Ctrl-C, then started again.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alpamayo_examples::cli::bundled;

/// Clips of the run.
const CLIPS: usize = 12;
/// Lines that are waited for before Ctrl-C.
const LINES: usize = 2;

/// The program, which `cargo test` builds beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/evaluate");
    let advice = "build it with `cargo build -p alpamayo-examples --example evaluate`";
    assert!(program.is_file(), "{} is not there; {advice}", program.display());
    program
}

fn evaluate(clips: &Path, output: &Path) -> Child {
    Command::new(program())
        .arg(clips)
        .arg("--output")
        .arg(output)
        .args([
            "--samples",
            "1",
            "--top-k",
            "1",
            "--max-generation-length",
            "64",
            "--cases",
            "1",
            "--npz",
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn lines(results: &Path) -> Vec<String> {
    let text = fs::read_to_string(results).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn ctrl_c_ends_behind_a_clip_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (clips, output) = (folder.path().join("clips"), folder.path().join("output"));
    fs::create_dir(&clips).unwrap();
    for number in 0..CLIPS {
        let name = ["barriers", "pedestrian", "slow_truck"][number % 3];
        symlink(bundled("clips").join(name), clips.join(format!("{number:02}_{name}"))).unwrap();
    }
    let results = output.join("results.jsonl");

    let mut child = evaluate(&clips, &output);
    let started = Instant::now();
    while lines(&results).len() < LINES {
        assert!(started.elapsed() < Duration::from_secs(300), "no line was written");
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let before = lines(&results);
    assert!((LINES..CLIPS).contains(&before.len()), "{} lines", before.len());
    for line in &before {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["result"]["measures"]["best"]["ade"].is_f64(), "{line}");
    }
    let summary = |count: usize| {
        let text = fs::read_to_string(output.join("summary.txt")).unwrap();
        assert!(text.starts_with(&format!("{count} clips, {count} of them")), "{text}");
    };
    summary(before.len());

    assert!(evaluate(&clips, &output).wait().unwrap().success());
    let after = lines(&results);
    assert_eq!(after[..before.len()], before);
    let mut keys: Vec<String> = after
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["key"].to_string())
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!((after.len(), keys.len()), (CLIPS, CLIPS));
    summary(CLIPS);
    assert!(output.join("report.html").is_file() && output.join("results.npz").is_file());
}
