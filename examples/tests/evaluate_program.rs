//! The program `evaluate` as a person runs it: stopped with Ctrl-C, then started again.
#![cfg(unix)]

mod program;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use alpamayo_examples::cli::bundled;
use program::{lines, press_ctrl_c, wait_for_lines};

/// Clips of the run that is stopped.
const CLIPS: usize = 12;
/// Lines that are waited for before Ctrl-C.
const LINES: usize = 2;

fn evaluate(clips: &Path, output: &Path, most_tokens: u32) -> Child {
    Command::new(program::program("evaluate"))
        .arg(clips)
        .arg("--output")
        .arg(output)
        .args(["--samples", "1", "--top-k", "1", "--cases", "1", "--npz"])
        .args(["--max-generation-length", &most_tokens.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// So many clips, which are three of the bundled ones again and again.
fn link_clips(clips: &Path, count: usize) {
    fs::create_dir(clips).unwrap();
    for number in 0..count {
        let name = ["barriers", "pedestrian", "slow_truck"][number % 3];
        symlink(bundled("clips").join(name), clips.join(format!("{number:04}_{name}"))).unwrap();
    }
}

#[test]
fn ctrl_c_ends_behind_a_clip_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (clips, output) = (folder.path().join("clips"), folder.path().join("output"));
    link_clips(&clips, CLIPS);
    let results = output.join("results.jsonl");

    let mut child = evaluate(&clips, &output, 64);
    wait_for_lines(&mut child, &results, LINES);
    press_ctrl_c(&child);
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

    assert!(evaluate(&clips, &output, 64).wait().unwrap().success());
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

/// What a running program holds in memory, in KiB.
#[cfg(target_os = "linux")]
fn resident_kib(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "drives a thousand clips, which takes minutes"]
fn a_thousand_clips_need_no_more_memory_than_a_hundred() {
    let folder = tempfile::tempdir().unwrap();
    let (clips, output) = (folder.path().join("clips"), folder.path().join("output"));
    // A few more, so that the last measurement is one of driving.
    link_clips(&clips, 1010);
    let mut child = evaluate(&clips, &output, 8);
    let mut at = |count: usize| {
        wait_for_lines(&mut child, &output.join("results.jsonl"), count);
        resident_kib(&child)
    };
    let [hundred, thousand] = [at(100), at(1000)];
    assert!(child.wait().unwrap().success());
    println!("{hundred} KiB with 100 lines, {thousand} KiB with 1000");
    assert!(
        thousand.abs_diff(hundred) * 10 <= hundred,
        "{hundred} KiB with 100 lines, {thousand} KiB with 1000"
    );
}
