//! The program `import_clip` as a person runs it. Tests are skipped where ffmpeg, or Python for the guide's GPX snippet, isn't there.
#![cfg(all(unix, feature = "dataset"))]

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use alpamayo_core::Clip;
use alpamayo_core::dataset::Ffmpeg;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A file's name may hold an @ too.
const VIDEO: &str = "dash@cam.mp4";
const GUIDE: &str = include_str!("../../docs/data.md");

/// A folder with a video of 10 s at 30 frames per second; `None` where there is no ffmpeg.
fn workplace() -> Option<TempDir> {
    if let Err(error) = Ffmpeg::find() {
        eprintln!("skipped: {error}");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=320x180:rate=30:duration=10",
        ])
        .args(["-c:v", "mpeg4"])
        .arg(folder.path().join(VIDEO))
        .status();
    assert!(made.unwrap().success());
    Some(folder)
}

/// Poses at 10 m/s every half second from 0 to 12 s, none between 4 and 6.9 s.
fn write_poses(folder: &Path) {
    let halves = (0..=8).map(|half| f64::from(half) * 0.5);
    let times = halves.chain([6.9]).chain((15..=24).map(|half| f64::from(half) * 0.5));
    let rows = times.map(|time| format!("{time},{},0\n", time * 10.0));
    fs::write(
        folder.join("drive.csv"),
        format!("time_s,x,y\n{}", rows.collect::<String>()),
    )
    .unwrap();
}

fn import(folder: &Path, start: &str, arguments: &[&str]) -> Output {
    let video = folder.join(VIDEO);
    Command::new(program::program("import_clip"))
        .arg("--camera")
        .arg(format!("front_wide={}@{start}", video.display()))
        .arg("--poses")
        .arg(folder.join("drive.csv"))
        .arg("--output")
        .arg(folder.join("clips"))
        .args(arguments)
        .output()
        .unwrap()
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The names of the clip folders that were written.
fn written(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder.join("clips")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| words(entry.unwrap().file_name().as_encoded_bytes()))
        .collect();
    names.sort();
    names
}

#[test]
fn a_clip_is_made_at_each_t0_with_its_rig() {
    let Some(folder) = workplace() else { return };
    let folder = folder.path();
    write_poses(folder);
    let rig = json!({"1": {"x": 1.8, "y": 0.0, "z": 1.3, "yaw_deg": 0.0, "hfov_deg": 120.0, "cy_frac": 0.5}});
    let rig_path: PathBuf = folder.join("rig.json");
    fs::write(&rig_path, rig.to_string()).unwrap();
    let rig_path = rig_path.to_string_lossy();
    let arguments = [
        "--t0",
        "1.5",
        "--t0",
        "3.25",
        "--rig",
        &rig_path,
        "--future",
        "without",
        "--description",
        "sun",
    ];
    let output = import(folder, "0.25", &arguments);
    assert!(output.status.success(), "{}", words(&output.stderr));
    // History from the first pose on; the video's last frame is 299/30 s after its first.
    assert!(
        words(&output.stdout).starts_with("t0 can be 1.5 to 10.2166"),
        "{}",
        words(&output.stdout)
    );
    assert_eq!(written(folder), ["drive_1.500s", "drive_3.250s"]);
    let clip = Clip::read(folder.join("clips/drive_1.500s")).unwrap();
    assert_eq!(
        (&clip.camera_indices, clip.frames_per_camera, clip.t0_us),
        (&vec![1], 4, Some(1_500_000))
    );
    assert_eq!((clip.frames[0].width(), clip.frames[0].height()), (320, 180));
    assert_eq!(clip.extra["camera_rig"], rig);
    assert_eq!(clip.description.as_deref(), Some("sun"));
    // Frame 37 is the last one of a video that starts at 0.25 s.
    let taken: Vec<Value> = serde_json::from_value(clip.extra["camera_frame_timestamps_us"]["1"].clone()).unwrap();
    assert_eq!(taken.last(), Some(&json!(1_483_333)));
    assert!(clip.ego_future_xyz.is_none());
}

#[test]
fn every_so_many_seconds_leaves_out_what_a_gap_makes_impossible() {
    let Some(folder) = workplace() else { return };
    let folder = folder.path();
    write_poses(folder);
    let output = import(folder, "0.25", &["--every", "1", "--future", "without"]);
    let told = words(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(
        written(folder),
        [
            "drive_1.500s",
            "drive_2.500s",
            "drive_3.500s",
            "drive_8.500s",
            "drive_9.500s"
        ]
    );
    assert_eq!(
        told.lines().filter(|line| line.starts_with("left out: ")).count(),
        4,
        "{told}"
    );
    assert!(told.contains("4.000000 s to 6.900000 s"), "{told}");
    // A time that was asked for is no less than asked for.
    let output = import(folder, "0.25", &["--t0", "5", "--future", "without"]);
    assert!(!output.status.success() && words(&output.stderr).starts_with("error: "));
}

#[test]
fn mistakes_are_told() {
    let Some(folder) = workplace() else { return };
    let folder = folder.path();
    write_poses(folder);
    for (start, arguments, told) in [
        ("0", &["--t0", "2", "--every", "1"][..], "cannot be used with"),
        ("0", &[][..], "--t0"),
        ("0", &["--every", "0"][..], "--every must be above 0"),
        ("1718000000", &["--t0", "2"][..], "no 1.5 s in common"),
        (
            "0",
            &["--t0", "2", "--camera", "front=x.mp4"][..],
            "there is no camera `front`",
        ),
        (
            "0",
            &["--t0", "2", "--camera", "front_tele"][..],
            "it must be NAME=VIDEO",
        ),
    ] {
        let output = import(folder, start, arguments);
        let error = words(&output.stderr);
        assert!(
            !output.status.success() && error.contains(told),
            "{arguments:?}: {error}"
        );
    }
    assert_eq!(written(folder), [""; 0]);
}

/// The guide's program that makes a table of a GPX log.
fn gpx_snippet() -> String {
    let is_python = |block: &&str| block.starts_with("python\n") && block.contains("trkpt");
    let block = GUIDE.split("```").find(is_python).expect("the guide has it");
    let lines = block
        .lines()
        .skip(1)
        .map(|line| line.strip_prefix("   ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_guides_table_of_a_gps_log_makes_a_clip() {
    let Some(folder) = workplace() else { return };
    let folder = folder.path();
    // North at 10 m/s: a degree of latitude is 111.1 km there.
    let point = |second: i32| {
        format!(
            "<trkpt lat=\"{:.7}\" lon=\"11.5\"><ele>5</ele><time>2024-06-10T06:13:{second:02}Z</time></trkpt>",
            48.0 + f64::from(second) * 10.0 / 111_190.0
        )
    };
    let points: String = (20..33).map(point).collect();
    let gpx = format!("<gpx xmlns=\"http://www.topografix.com/GPX/1/1\"><trk><trkseg>{points}</trkseg></trk></gpx>");
    fs::write(folder.join("drive.gpx"), gpx).unwrap();
    fs::write(folder.join("gpx_to_csv.py"), gpx_snippet()).unwrap();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let made = Command::new(&python)
        .arg(folder.join("gpx_to_csv.py"))
        .arg(folder.join("drive.gpx"))
        .output();
    let Ok(made) = made else {
        eprintln!("skipped: there is no {python}");
        return;
    };
    assert!(made.status.success(), "{}", words(&made.stderr));
    fs::write(folder.join("drive.csv"), &made.stdout).unwrap();

    // 2024-06-10 06:13:20 UTC is 1718000000.
    let output = import(folder, "1718000002.25", &["--t0", "1718000004"]);
    assert!(output.status.success(), "{}", words(&output.stderr));
    let clip = Clip::read(folder.join("clips/drive_1718000004.000s")).unwrap();
    let [x, y, _] = clip.ego_history_xyz[0];
    assert!((x + 15.0).abs() < 0.2 && y.abs() < 0.1, "{x} {y}");
    let [x, y, _] = clip.ego_future_xyz.unwrap()[63];
    assert!((x - 64.0).abs() < 0.5 && y.abs() < 0.2, "{x} {y}");
}
