//! The programs as a person runs them: started, watched, stopped with Ctrl-C.
#![allow(dead_code, reason = "each file of tests needs some of it")]

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A program, which `cargo test` builds beside the tests.
pub fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    let advice = format!("build it with `cargo build -p alpamayo-examples --example {name}`");
    assert!(program.is_file(), "{} is not there; {advice}", program.display());
    program
}

/// The lines of a file of results.
pub fn lines(results: &Path) -> Vec<String> {
    let text = fs::read_to_string(results).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a running program has written so many lines; what was read is not read again.
pub fn wait_for_lines(child: &mut Child, results: &Path, count: usize) {
    let started = Instant::now();
    let (mut file, mut bytes, mut found) = (None, Vec::new(), 0);
    loop {
        file = file.or_else(|| File::open(results).ok());
        if let Some(file) = &mut file {
            bytes.clear();
            file.read_to_end(&mut bytes).unwrap();
            found += bytes.iter().filter(|byte| **byte == b'\n').count();
        }
        if found >= count {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(3600),
            "no line {count} was written"
        );
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Presses Ctrl-C, as far as a program can tell.
pub fn press_ctrl_c(child: &Child) {
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
}
