//! Against a made-up dataset (`tests/data/dataset/make.py`), SciPy's values and PyAV's pixels.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::clip::FUTURE_POSES;
use crate::{Error, Frame, HISTORY_POSES, Result};

mod errors;
mod own;
mod video;

const WHOLE: &str = "00000000-0000-4000-8000-00000000000a";
const BACKWARDS: &str = "00000000-0000-4000-8000-00000000000b";
const NO_VIDEO: &str = "00000000-0000-4000-8000-00000000000c";
const CUT: &str = "00000000-0000-4000-8000-00000000000d";
const LATE_FRAMES: &str = "00000000-0000-4000-8000-00000000000e";
const ELSEWHERE: &str = "00000000-0000-4000-8000-00000000000f";
const T0_US: i64 = 5_100_000;

type Matrix = [[f64; 3]; 3];

#[derive(Deserialize)]
struct Golden {
    interpolated: Interpolated,
    local: Vec<Local>,
    frames: std::collections::BTreeMap<usize, Vec<Vec<usize>>>,
    splines: Vec<Spline>,
}

#[derive(Deserialize)]
struct Interpolated {
    times_us: Vec<i64>,
    position: Vec<[f64; 3]>,
    rotation: Vec<Matrix>,
    velocity: Vec<[f64; 3]>,
    acceleration: Vec<[f64; 3]>,
    curvature: Vec<f64>,
}

#[derive(Deserialize)]
struct Local {
    t0_us: i64,
    times_us: Vec<i64>,
    xyz: Vec<[f64; 3]>,
    rot: Vec<Matrix>,
}

#[derive(Deserialize)]
struct Spline {
    knots: Vec<f64>,
    values: Vec<[f64; 3]>,
    x: Vec<f64>,
    y: Vec<[f64; 3]>,
    slopes: Vec<[f64; 3]>,
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/dataset")
        .join(name)
}

fn golden() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(data("golden.json")).unwrap()).unwrap()
}

fn without_video() -> Dataset {
    Dataset::open_without_video(&data("root")).unwrap()
}

/// ffmpeg; tests that need it are skipped where it is not installed.
fn ffmpeg() -> Option<Ffmpeg> {
    let found = Ffmpeg::find();
    if let Err(error) = &found {
        eprintln!("skipped: {error}");
    }
    found.ok()
}

fn with_video() -> Option<Dataset> {
    ffmpeg().map(|_| Dataset::open(&data("root")).unwrap())
}

fn largest<const N: usize>(found: [f64; N], expected: [f64; N]) -> f64 {
    found
        .iter()
        .zip(expected)
        .fold(0.0, |largest, (a, b)| largest.max((a - b).abs()))
}

fn no_future(cameras: &[usize]) -> SampleOptions {
    SampleOptions {
        cameras: cameras.to_vec(),
        future: Future::Without,
        ..SampleOptions::default()
    }
}

/// The frame's number and its camera, from the blocks that make.py drew.
fn number_of(frame: &Frame) -> (usize, usize) {
    let (width, height) = (frame.width() / 4, frame.height() / 4);
    let white = |block: usize| {
        let (row, column) = (block / 4 * height + height / 2, block % 4 * width + width / 2);
        usize::from(frame.rgb()[(row * frame.width() + column) * 3] > 128)
    };
    let bits = |range: std::ops::Range<usize>| range.rev().fold(0, |sum, block| sum * 2 + white(block));
    let (number, camera) = (bits(0..10), bits(10..13));
    assert_eq!(
        bits(13..16),
        (number + camera) % 8,
        "frame {number} of camera {camera} is damaged"
    );
    (number, camera)
}

#[test]
fn splines_are_scipys() {
    for case in golden().splines {
        let spline = CubicSpline::new(case.knots.clone(), case.values).unwrap();
        for (&x, &y) in case.x.iter().zip(&case.y) {
            assert!(
                largest(spline.at(x).unwrap(), y) < 1e-9,
                "{} knots at {x}",
                case.knots.len()
            );
        }
        for (&found, &expected) in spline.slopes().iter().zip(&case.slopes) {
            assert!(largest(found, expected) < 1e-9, "{} knots", case.knots.len());
        }
    }
}

#[test]
fn egomotion_between_rows_is_scipys() {
    let golden = golden().interpolated;
    let egomotion = without_video().egomotion(WHOLE).unwrap();
    assert_eq!(egomotion.range_us(), (-70_000, 12_300_000));
    for (i, &time_us) in golden.times_us.iter().enumerate() {
        let state = egomotion.at(time_us).unwrap();
        assert!(
            largest(state.pose.position, golden.position[i]) < 1e-9,
            "position at {time_us}"
        );
        let rotation = (0..3).map(|row| largest(state.pose.rotation[row], golden.rotation[i][row]));
        assert!(rotation.fold(0.0, f64::max) < 1e-9, "rotation at {time_us}");
        assert!(
            largest(state.velocity, golden.velocity[i]) < 1e-9,
            "velocity at {time_us}"
        );
        assert!(
            largest(state.acceleration, golden.acceleration[i]) < 1e-9,
            "acceleration at {time_us}"
        );
        assert!(
            (state.curvature - golden.curvature[i]).abs() < 1e-9,
            "curvature at {time_us}"
        );
    }
}

#[test]
fn poses_around_t0_are_the_references() {
    let egomotion = without_video().egomotion(WHOLE).unwrap();
    for case in golden().local {
        let found = egomotion.poses().seen_from(case.t0_us, &case.times_us).unwrap();
        let positions = found.xyz.iter().flatten().zip(case.xyz.iter().flatten());
        let rotations = found
            .rot
            .iter()
            .flatten()
            .flatten()
            .zip(case.rot.iter().flatten().flatten());
        for (&found, &expected) in positions.chain(rotations) {
            // Rounded to f32 once, at the end; 1e-9 may turn a tie.
            let rounding = expected.abs() * f64::from(f32::EPSILON) / 2.0;
            assert!(
                (f64::from(found) - expected).abs() <= rounding + 1e-9,
                "{found} {expected}"
            );
        }
    }
}

#[test]
fn the_index_is_read_with_the_other_split() {
    let dataset = without_video();
    let whole = ClipEntry {
        clip_id: WHOLE.into(),
        chunk: 7,
        split: Some("val".into()),
        is_valid: true,
    };
    assert_eq!(dataset.clips().len(), 6);
    assert_eq!(dataset.entry(WHOLE).unwrap(), &whole);
    assert_eq!(dataset.entry(CUT).unwrap().split.as_deref(), Some("train"));
    let backwards = dataset.entry(BACKWARDS).unwrap();
    assert!(backwards.split.is_none() && !backwards.is_valid);
    assert_eq!(dataset.entry(ELSEWHERE).unwrap().chunk, 8);
    let error = dataset.entry("nobody").unwrap_err().to_string();
    assert!(
        error.contains("nobody") && error.contains("clip_index.parquet"),
        "{error}"
    );
    assert_eq!(dataset.has_feature(WHOLE, "radar.front.mid").unwrap(), Some(false));
    assert_eq!(dataset.has_feature(ELSEWHERE, "radar.front.mid").unwrap(), Some(true));
    assert_eq!(dataset.has_feature(WHOLE, "lidar").unwrap(), None);
}

#[test]
fn a_split_may_not_name_unknown_clips() {
    let root = tempfile::tempdir().unwrap();
    for file in ["features.csv", "clip_index.parquet"] {
        std::fs::copy(data("root").join(file), root.path().join(file)).unwrap();
    }
    let dataset = Dataset::open_without_video(root.path()).unwrap();
    assert_eq!(dataset.entry(BACKWARDS).unwrap().split.as_deref(), Some("train"));
    // A table without the column `split`, in its place.
    std::fs::create_dir(root.path().join("splits")).unwrap();
    let split = root.path().join("splits/default.parquet");
    std::fs::copy(data("root/metadata/feature_presence.parquet"), &split).unwrap();
    let error = Dataset::open_without_video(root.path()).unwrap_err().to_string();
    assert!(
        error.contains("default.parquet") && error.contains("column `split`"),
        "{error}"
    );
    std::fs::write(&split, "no table").unwrap();
    let error = Dataset::open_without_video(root.path()).unwrap_err().to_string();
    assert!(
        error.contains("default.parquet") && error.contains("Parquet"),
        "{error}"
    );
}

#[test]
fn clips_hold_the_latest_frames_of_every_camera() {
    let Some(dataset) = with_video() else { return };
    let golden = golden();
    for (case, local) in golden.local.iter().enumerate() {
        let clip = dataset.clip(WHOLE, local.t0_us, &SampleOptions::default()).unwrap();
        assert_eq!(clip.camera_indices, DEFAULT_CAMERAS);
        assert_eq!((clip.name.as_str(), clip.t0_us), (WHOLE, Some(local.t0_us)));
        for (position, camera) in clip.camera_indices.iter().enumerate() {
            let found: Vec<_> = clip.camera_frames(position).iter().map(number_of).collect();
            let expected: Vec<_> = golden.frames[camera][case]
                .iter()
                .map(|&number| (number, *camera))
                .collect();
            assert_eq!(found, expected);
            let times = dataset.frame_times(WHOLE, *camera).unwrap();
            let taken: Vec<i64> = expected.iter().map(|&(number, _)| times.times_us()[number]).collect();
            assert_eq!(
                clip.extra["camera_frame_timestamps_us"][camera.to_string()],
                json!(taken)
            );
        }
        assert_eq!(
            clip.history_timestamps_us.as_deref(),
            local.times_us.get(..HISTORY_POSES)
        );
        assert_eq!(
            clip.future_timestamps_us.as_deref(),
            local.times_us.get(HISTORY_POSES..)
        );
        let poses = dataset
            .egomotion(WHOLE)
            .unwrap()
            .poses()
            .seen_from(local.t0_us, &local.times_us)
            .unwrap();
        let (history, future) = poses.xyz.split_at(HISTORY_POSES);
        assert_eq!(
            (clip.ego_history_xyz.as_slice(), clip.ego_future_xyz.as_deref()),
            (history, Some(future))
        );
        assert_eq!(clip.ego_future_rot.unwrap().len(), FUTURE_POSES);
        assert_eq!(clip.extra["split"], json!("val"));
        assert_eq!(clip.extra["camera_intrinsics"]["1"]["fw_poly_1"], json!(1.08));
        assert_eq!(clip.extra["sensor_extrinsics"]["6"]["qw"], json!(4.5));
        assert_eq!(clip.extra["vehicle_dimensions"]["wheelbase"], json!(2.9));
    }
}

#[test]
fn cameras_and_frames_can_be_chosen() {
    let Some(dataset) = with_video() else { return };
    let options = SampleOptions {
        frames_per_camera: 2,
        future: Future::IfRecorded,
        ..no_future(&[6, 1, 6])
    };
    let clip = dataset.clip(WHOLE, T0_US, &options).unwrap();
    assert_eq!(
        (clip.camera_indices.as_slice(), clip.frames.len()),
        ([1, 6].as_slice(), 4)
    );
    assert!(clip.ego_future_xyz.is_some());
    // CUT's poses end before 11.5 s.
    let poses = sample::sample_poses(dataset.egomotion(CUT).unwrap().poses(), T0_US, Future::IfRecorded).unwrap();
    assert!(poses.future.is_none());
    let folder = tempfile::tempdir().unwrap();
    clip.write(folder.path().join("clip")).unwrap();
    assert_eq!(crate::Clip::read(folder.path().join("clip")).unwrap(), clip);
}

/// The clip, the feature and the time of the error, and what it says.
fn told(result: Result<impl std::fmt::Debug>) -> (String, String, Option<i64>, String) {
    match result.unwrap_err() {
        Error::Recording {
            clip,
            feature,
            time_us,
            reason,
        } => (clip, feature, time_us, reason),
        other => panic!("{other}"),
    }
}

/// A camera's video as a file of its own.
fn extracted(clip_id: &str, camera: usize) -> tempfile::NamedTempFile {
    let feature = CAMERA_FEATURES[camera];
    let mut file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    let zip = data("root/camera")
        .join(feature)
        .join(format!("{feature}.chunk_0007.zip"));
    archive::copy_member(&zip, &format!("{clip_id}.{feature}.mp4"), file.as_file_mut()).unwrap();
    file
}
