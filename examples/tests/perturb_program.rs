//! The program `perturb` as a person runs it: stopped with Ctrl-C, started again, in shards, with other numbers of threads.
#![cfg(unix)]

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use alpamayo_examples::cli::bundled;
use program::{lines, press_ctrl_c, wait_for_lines};
use serde_json::Value;

/// One experiment at two severities.
const SWEEP: &str = r#"
severities = [0.5, 1]

[[experiments]]
name = "dark front cameras"
perturbations = [{ name = "black_camera", cameras = [1, 6] }]
"#;
const CLIPS: [&str; 2] = ["red_light", "slow_truck"];
/// Clean, and two severities.
const PER_CLIP: usize = 3;

/// A folder with the sweep and with folders for results.
struct Workplace(tempfile::TempDir);

impl Workplace {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sweep.toml"), SWEEP).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn perturb(&self, out: &str, clips: &[&str], threads: usize) -> Command {
        let mut command = Command::new(program::program("perturb"));
        command.env("RAYON_NUM_THREADS", threads.to_string());
        for clip in clips {
            command.arg("--clips").arg(bundled("clips").join(clip));
        }
        command.arg("--spec").arg(self.path("sweep.toml"));
        command.arg("--out").arg(self.path(out));
        command.args([
            "--samples",
            "1",
            "--max-generation-length",
            "24",
            "--figures",
            "1",
            "--find-flip",
        ]);
        command.stdout(Stdio::null());
        command
    }
}

fn run(mut command: Command) {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn exit_code(mut child: Child) -> Option<i32> {
    child.wait().unwrap().code()
}

fn keys(results: &Path) -> Vec<String> {
    let key = |line: &String| serde_json::from_str::<Value>(line).unwrap()["key"].to_string();
    lines(results).iter().map(key).collect()
}

#[test]
fn ctrl_c_ends_behind_a_drive_and_the_same_command_goes_on_to_the_byte() {
    let place = Workplace::new();
    let (results, flips) = (place.path("a/results.jsonl"), place.path("a/flips_stated.jsonl"));
    let command = || place.perturb("a", &CLIPS[..1], 1);

    // Between two drives of the grid …
    let mut child = command().spawn().unwrap();
    wait_for_lines(&mut child, &results, 1);
    press_ctrl_c(&child);
    assert_eq!(exit_code(child), Some(130));
    let before = lines(&results);
    assert!((1..PER_CLIP).contains(&before.len()), "{} lines", before.len());
    let left = PER_CLIP - before.len();
    assert!(
        place
            .text("a/summary.txt")
            .contains(&format!("{left} still to be done"))
    );
    assert!(place.path("a/report.html").is_file() && lines(&flips).is_empty());

    // … and within the search for a flip, which leaves no line.
    let mut child = command().spawn().unwrap();
    wait_for_lines(&mut child, &results, PER_CLIP);
    press_ctrl_c(&child);
    assert_eq!(exit_code(child), Some(130));
    assert_eq!(lines(&results)[..before.len()], before);
    assert!(lines(&flips).is_empty());

    run(command());
    check_files(&place, "a");
    let first_keys = keys(&results);
    assert_eq!((first_keys.len(), lines(&flips).len()), (PER_CLIP, 1));

    // At once and with more threads it gives the same, and what is done is not done again.
    run(place.perturb("b", &CLIPS[..1], 3));
    let all = [
        "results.jsonl",
        "flips_stated.jsonl",
        "pairs.csv",
        "summary.csv",
        "summary.txt",
        "report.html",
    ];
    for name in all {
        let [a, b] = ["a", "b"].map(|out| fs::read(place.path(out).join(name)).unwrap());
        assert!(a == b, "{name} differs");
    }
    assert!(
        !place
            .text("b/results.jsonl")
            .contains(&place.0.path().display().to_string())
    );
    run(command());
    assert_eq!(keys(&results), first_keys);
}

/// Every file that docs/perturbation.md lists.
fn check_files(place: &Workplace, out: &str) {
    let text = |name: &str| place.text(&format!("{out}/{name}"));
    for line in text("results.jsonl").lines().chain(text("flips_stated.jsonl").lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        let options = line["options"].get("drive").unwrap_or(&line["options"]);
        assert_eq!(options["checkpoint"]["name"], "bundled nano", "{line}");
        assert_eq!(options["checkpoint"]["fingerprint"].as_str().unwrap().len(), 16);
    }
    // The head; other seeds and two severities.
    assert_eq!(text("pairs.csv").lines().count(), 1 + 3);
    assert!(text("summary.csv").contains("dark front cameras,1,mean_displacement,m,1,1,"));
    assert!(text("summary.txt").starts_with("1 clips, 3 pairs of drives; 0 failed, 0 still to be done"));
    let flips = text("flips_stated.csv");
    let (head, row) = flips.split_once('\n').unwrap();
    assert!(
        head.contains(",clean,other_seed,flips_by_seed,flips_above,flips_at,to,drives"),
        "{head}"
    );
    assert!(row.starts_with("red_light,dark front cameras,1,"), "{row}");
    let page = text("report.html");
    assert!(page.contains("Clean and perturbed") && page.contains("Where the stated intent flips"));
    for curve in [
        "mean_displacement",
        "final_displacement",
        "stated_flip",
        "agreement",
        "flips_stated",
    ] {
        let svg = text(&format!("curves/{curve}.svg"));
        assert!(svg.starts_with("<svg") && svg.contains("dark front cameras"), "{curve}");
        let png = fs::read(place.path(out).join(format!("curves/{curve}.png"))).unwrap();
        let size = [16, 20].map(|at| u32::from_be_bytes(png[at..at + 4].try_into().unwrap()));
        assert_eq!((&png[1..4], size), (&b"PNG"[..], [1640, 1040]), "{curve}");
    }
}

#[test]
fn shards_are_put_together_and_reported_without_a_drive() {
    let place = Workplace::new();
    for shard in ["1/2", "2/2"] {
        let mut command = place.perturb(&shard[..1], &CLIPS, 2);
        command.args(["--shard", shard]);
        run(command);
        let name = format!("{}/results.jsonl", &shard[..1]);
        assert_eq!(keys(&place.path(&name)).len(), PER_CLIP);
    }
    fs::create_dir(place.path("all")).unwrap();
    for name in ["results.jsonl", "flips_stated.jsonl"] {
        let together = ["1", "2"].map(|shard| place.text(&format!("{shard}/{name}"))).concat();
        fs::write(place.path("all").join(name), together).unwrap();
    }
    let before = keys(&place.path("all/results.jsonl"));
    run(place.perturb("all", &CLIPS, 2));
    assert_eq!(keys(&place.path("all/results.jsonl")), before);
    assert!(
        place
            .text("all/summary.txt")
            .starts_with("2 clips, 6 pairs of drives; 0 failed, 0 still to be done")
    );
    let page = place.text("all/report.html");
    for clip in CLIPS {
        assert!(
            page.contains(&format!("{clip}: dark front cameras at severity")),
            "{clip}"
        );
    }
    assert_eq!(place.text("all/flips_stated.csv").lines().count(), 1 + 2);
}
