use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn identity() -> [[f32; 3]; 3] {
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
}

fn clip() -> Clip {
    let frame = |k: u8| Frame::new(4, 2, (0..24).map(|i| i * 3 + k).collect()).unwrap();
    Clip {
        name: "a clip".into(),
        description: Some("nothing happens".into()),
        frames: (0..6).map(frame).collect(),
        camera_indices: vec![0, 1, 6],
        frames_per_camera: 2,
        ego_history_xyz: (0..16).map(|i| [(i as f32 - 15.0) * 0.9, 0.0, 0.0]).collect(),
        ego_history_rot: vec![identity(); 16],
        ego_future_xyz: Some((1..=64).map(|i| [i as f32 * 0.9, 0.1, 0.0]).collect()),
        ego_future_rot: Some(vec![identity(); 64]),
        t0_us: Some(5_100_000),
        frame_timestamps_us: Some(vec![5_000_000, 5_100_000]),
        coc: Some("Keep going.".into()),
        extra: json!({"camera_rig": {"1": {"x": 1.7}}}).as_object().unwrap().clone(),
        ..Clip::default()
    }
}

fn message(clip: &Clip) -> String {
    clip.validate().unwrap_err().to_string()
}

#[test]
fn a_clip_comes_back_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("one");
    clip().write(&folder).unwrap();
    assert_eq!(Clip::read(&folder).unwrap(), clip());
    assert!(
        clip()
            .write(&folder)
            .unwrap_err()
            .to_string()
            .contains("exists already")
    );
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing half-written stays"
    );
}

#[test]
fn a_missing_frame_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("one");
    clip().write(&folder).unwrap();
    fs::remove_file(folder.join("cam6_f1.png")).unwrap();
    let error = Clip::read(&folder).unwrap_err().to_string();
    assert!(
        error.contains("camera 6, frame 1") && error.contains("cam6_f1"),
        "{error}"
    );
    fs::write(folder.join("cam6_f1.png"), b"no image").unwrap();
    let error = Clip::read(&folder).unwrap_err().to_string();
    assert!(error.contains("cam6_f1.png") && error.contains("decoded"), "{error}");
    for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == "png") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(
        Clip::read(&folder)
            .unwrap_err()
            .to_string()
            .contains("camera 0, frame 0")
    );
    assert!(
        Clip::read(directory.path().join("none"))
            .unwrap_err()
            .to_string()
            .contains("clip.json")
    );
}

#[test]
fn contradictions_name_their_field() {
    type Change = fn(&mut Clip);
    let broken: [(&str, Change); 14] = [
        ("camera_indices", |clip| clip.camera_indices.clear()),
        ("camera_indices", |clip| clip.camera_indices = vec![1, 0, 6]),
        ("camera_indices", |clip| clip.camera_indices[2] = 9_999),
        ("frames", |clip| {
            clip.frames.pop();
        }),
        ("frames_per_camera", |clip| clip.frames_per_camera = 0),
        ("camera 1, frame 1", |clip| {
            clip.frames[3] = Frame::new(2, 4, vec![0; 24]).unwrap()
        }),
        ("ego_history_xyz", |clip| {
            clip.ego_history_xyz.pop();
        }),
        ("ego_history_rot", |clip| clip.ego_history_rot.push(identity())),
        ("ego_history_xyz", |clip| clip.ego_history_xyz[15][1] = 0.5),
        ("ego_history_rot", |clip| {
            clip.ego_history_rot[15] = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        }),
        ("ego_history_rot[3]", |clip| clip.ego_history_rot[3][0][0] = -1.0),
        ("ego_history_xyz[4]", |clip| clip.ego_history_xyz[4][2] = f32::NAN),
        ("ego_future_xyz", |clip| clip.ego_future_xyz = Some(Vec::new())),
        ("frame_timestamps_us", |clip| {
            clip.frame_timestamps_us = Some(vec![2, 1])
        }),
    ];
    clip().validate().unwrap();
    for (field, change) in broken {
        let mut clip = clip();
        change(&mut clip);
        let message = message(&clip);
        assert!(
            message.contains("a clip") && message.contains(field),
            "{field}: {message}"
        );
    }
}

#[test]
fn cameras_are_found_by_index() {
    let clip = clip();
    assert_eq!(clip.latest_frame(6), clip.frames.last());
    assert_eq!(clip.latest_frame(1), Some(&clip.frames[3]));
    assert_eq!(clip.latest_frame(5), None);
    assert!(clip.camera_frames(3).is_empty());
}

proptest! {
    #[test]
    fn no_document_panics(cut in 0usize..4000, byte in any::<u8>(), at in 0usize..4000) {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("one");
        clip().write(&folder).unwrap();
        let path = folder.join("clip.json");
        let mut text = fs::read(&path).unwrap();
        let at = at % text.len();
        text[at] = byte;
        text.truncate(text.len().saturating_sub(cut % 50));
        fs::write(&path, &text).unwrap();
        if let Ok(clip) = Clip::read(&folder) {
            clip.validate().unwrap();
        }
    }
}
