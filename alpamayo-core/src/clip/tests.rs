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
    type Breaking = (&'static str, fn(&mut Clip));
    let broken: [Breaking; 16] = [
        ("camera_indices", |clip| clip.camera_indices.clear()),
        ("camera_indices", |clip| clip.camera_indices = vec![1, 0, 6]),
        ("camera_indices", |clip| clip.camera_indices[2] = 9_999),
        ("frames", |clip| {
            clip.frames.pop();
        }),
        ("frames_per_camera", |clip| clip.frames_per_camera = 0),
        ("frames", |clip| clip.frames_per_camera = usize::MAX),
        ("camera 6, frame 1", |clip| {
            clip.frames[4] = Frame::new(2, 4, vec![0; 24]).unwrap();
        }),
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

/// A written clip whose `clip.json` is changed.
fn read_changed(change: impl FnOnce(&mut Map<String, Value>)) -> Result<Clip> {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("one");
    clip().write(&folder).unwrap();
    let path = folder.join("clip.json");
    let mut document: Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut document);
    fs::write(&path, serde_json::to_string(&document).unwrap()).unwrap();
    Clip::read(&folder)
}

#[test]
fn fields_of_the_wrong_type_are_named() {
    let cases = [
        ("camera_indices", json!("all")),
        ("camera_indices", json!([-1])),
        ("ego_history_xyz", json!([[0, 0]])),
        ("ego_history_rot", json!([[[0, 0, "x"]]])),
        ("ego_history_xyz", json!([[1e39, 0, 0]])),
        ("ego_future_xyz", json!({})),
        ("frame_timestamps_us", json!([1.5])),
        ("frame_timestamps_us", json!([1])),
        ("t0_us", json!("now")),
        ("coc", json!(3)),
        ("name", json!([])),
    ];
    for (field, value) in cases {
        let error = read_changed(|document| document[field] = value.clone())
            .expect_err(field)
            .to_string();
        assert!(
            error.contains("clip.json") && error.contains(field),
            "{field} = {value}: {error}"
        );
    }
    let error = read_changed(|document| drop(document.remove("ego_history_rot")))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("clip.json") && error.contains("ego_history_rot"),
        "{error}"
    );
}

#[test]
fn frames_missing_in_the_first_camera() {
    for times in [true, false] {
        for missing in ["cam0_f1", "cam0_f0"] {
            let directory = tempfile::tempdir().unwrap();
            let folder = directory.path().join("one");
            let mut clip = clip();
            clip.frame_timestamps_us = clip.frame_timestamps_us.filter(|_| times);
            clip.write(&folder).unwrap();
            fs::remove_file(folder.join(format!("{missing}.png"))).unwrap();
            let error = Clip::read(&folder).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
    }
    // One frame too many has no time.
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("one");
    clip().write(&folder).unwrap();
    fs::copy(folder.join("cam0_f1.png"), folder.join("cam0_f2.png")).unwrap();
    assert!(Clip::read(&folder).unwrap_err().to_string().contains("cam1_f2"));
}

#[test]
fn cameras_may_have_frames_of_different_sizes() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("one");
    let mut clip = clip();
    for frame in &mut clip.frames[4..] {
        *frame = Frame::new(2, 3, (0..18).collect()).unwrap();
    }
    clip.write(&folder).unwrap();
    assert_eq!(Clip::read(&folder).unwrap(), clip);
    fs::copy(folder.join("cam0_f0.png"), folder.join("cam6_f1.png")).unwrap();
    let error = Clip::read(&folder).unwrap_err().to_string();
    assert!(error.contains("camera 6, frame 1: it is 4x2"), "{error}");
    assert!(error.contains("2x3") && error.contains("scale=2:3"), "{error}");
}

#[test]
fn unknown_fields_and_jpeg_frames() {
    let clip = read_changed(|document| drop(document.insert("camera_names".into(), json!(["left", "front", "tele"]))))
        .unwrap();
    assert_eq!(clip.extra["camera_names"][2], "tele");
    assert_eq!(clip.extra["camera_rig"]["1"]["x"], 1.7);
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("one");
    clip.write(&folder).unwrap();
    let png = image::open(folder.join("cam6_f0.png")).unwrap();
    png.save(folder.join("cam6_f0.jpg")).unwrap();
    fs::remove_file(folder.join("cam6_f0.png")).unwrap();
    let read = Clip::read(&folder).unwrap();
    assert_eq!(read.extra, clip.extra);
    assert_eq!(read.frames[4].rgb().len(), clip.frames[4].rgb().len());
    assert_eq!(read.frames[5], clip.frames[5]);
}

/// Puts `value` where the `index`-th value of a document is, counted through all objects and lists.
fn replace(document: &mut Value, index: &mut usize, value: &Value) {
    if *index == 0 {
        *document = value.clone();
    }
    *index = index.wrapping_sub(1);
    match document {
        Value::Array(values) => values.iter_mut().for_each(|inner| replace(inner, index, value)),
        Value::Object(values) => values.values_mut().for_each(|inner| replace(inner, index, value)),
        _ => (),
    }
}

proptest! {
    #[test]
    fn no_value_panics(index in 1usize..800, number: f64, choice in 0usize..6) {
        let value = [
            json!(number), json!(number as i64), Value::Null, json!([]), json!("x"), json!({"a": number}),
        ][choice].clone();
        let read = read_changed(|document| {
            let mut whole = Value::Object(std::mem::take(document));
            replace(&mut whole, &mut index.clone(), &value);
            *document = whole.as_object().unwrap().clone();
        });
        match read {
            Ok(clip) => clip.validate().unwrap(),
            Err(error) => prop_assert!(error.to_string().contains("one"), "{}", error),
        }
    }

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
