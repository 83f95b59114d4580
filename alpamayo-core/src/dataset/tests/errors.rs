//! Files that lie.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::*;

const EGOMOTION: &str = "labels/egomotion/egomotion.chunk_0007.zip";
const FRONT: &str = "camera_front_wide_120fov";
const FRONT_ZIP: &str = "camera/camera_front_wide_120fov/camera_front_wide_120fov.chunk_0007.zip";

/// A copy of the dataset, to be damaged.
fn copied() -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(std::result::Result::unwrap) {
            let target = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => copy(&entry.path(), &target),
                false => drop(fs::copy(entry.path(), target).unwrap()),
            }
        }
    }
    let root = tempfile::tempdir().unwrap();
    copy(&data("root"), root.path());
    root
}

type Members = BTreeMap<String, Vec<u8>>;

/// Changes the members of a zip file; they are stored without compression.
fn rezip(path: &Path, change: impl FnOnce(&mut Members)) {
    let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut members = Members::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        members.insert(member.name().to_owned(), bytes);
    }
    change(&mut members);
    let mut writer = ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in members {
        writer.start_file(name, options).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// Replaces a member of the front camera's zip, or takes it out.
fn replace_front(root: &Path, clip: &str, suffix: &str, bytes: Option<Vec<u8>>) {
    rezip(&root.join(FRONT_ZIP), |members| {
        let name = format!("{clip}.{FRONT}.{suffix}");
        match bytes {
            Some(bytes) => drop(members.insert(name, bytes)),
            None => drop(members.remove(&name).unwrap()),
        }
    });
}

/// Replaces the egomotion of a clip, or takes it out.
fn replace_egomotion(root: &Path, bytes: Option<Vec<u8>>) {
    rezip(&root.join(EGOMOTION), |members| {
        let name = format!("{WHOLE}.egomotion.parquet");
        match bytes {
            Some(bytes) => drop(members.insert(name, bytes)),
            None => drop(members.remove(&name).unwrap()),
        }
    });
}

/// Takes a feature out of `features.csv`.
fn unlist(root: &Path, feature: &str) {
    let path = root.join("features.csv");
    let text = fs::read_to_string(&path).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with(feature));
    fs::write(&path, kept.collect::<Vec<_>>().join("\n")).unwrap();
}

/// A Parquet file that lacks the columns of egomotion and of timestamps.
fn other_table() -> Vec<u8> {
    fs::read(data("root/clip_index.parquet")).unwrap()
}

#[test]
fn every_error_about_a_clip_names_clip_feature_and_time() {
    type Damage = fn(&Path);
    let damages: [(&str, &str, Damage); 15] = [
        ("egomotion", "download", |root| {
            fs::remove_file(root.join(EGOMOTION)).unwrap()
        }),
        ("egomotion", "no zip file", |root| {
            fs::write(root.join(EGOMOTION), "PK").unwrap()
        }),
        ("egomotion", "not this one", |root| replace_egomotion(root, None)),
        ("egomotion", "Parquet", |root| {
            replace_egomotion(root, Some(b"no table".to_vec()))
        }),
        ("egomotion", "`timestamp`", |root| {
            replace_egomotion(root, Some(other_table()))
        }),
        ("egomotion", "not listed", |root| unlist(root, "egomotion")),
        (FRONT, "not listed", |root| unlist(root, FRONT)),
        (FRONT, "download", |root| fs::remove_file(root.join(FRONT_ZIP)).unwrap()),
        (FRONT, "no zip file", |root| {
            fs::write(root.join(FRONT_ZIP), "PK").unwrap()
        }),
        (FRONT, "not this one", |root| {
            replace_front(root, WHOLE, "timestamps.parquet", None)
        }),
        (FRONT, "Parquet", |root| {
            replace_front(root, WHOLE, "timestamps.parquet", Some(b"no table".to_vec()));
        }),
        (FRONT, "`timestamp`", |root| {
            replace_front(root, WHOLE, "timestamps.parquet", Some(other_table()));
        }),
        (FRONT, "not this one", |root| replace_front(root, WHOLE, "mp4", None)),
        (FRONT, "video", |root| {
            replace_front(root, WHOLE, "mp4", Some(b"no video".to_vec()))
        }),
        ("camera_intrinsics", "Parquet", |root| {
            let table = "calibration/camera_intrinsics/camera_intrinsics.chunk_0007.parquet";
            fs::write(root.join(table), "no table").unwrap();
        }),
    ];
    // Without ffmpeg, up to the video.
    let reached = if ffmpeg().is_some() { damages.len() } else { 12 };
    for (feature, said, damage) in &damages[..reached] {
        let root = copied();
        damage(root.path());
        let dataset = Dataset::open(root.path()).or_else(|_| Dataset::open_without_video(root.path()));
        let error = dataset.unwrap().clip(WHOLE, T0_US, &no_future(&[1]));
        let (clip, found, time_us, reason) = told(error);
        assert_eq!((clip.as_str(), found.as_str()), (WHOLE, *feature), "{reason}");
        assert_eq!(time_us, Some(T0_US), "{feature}: {reason}");
        assert!(reason.contains(said), "{feature}: {said}: {reason}");
    }
    let (clip, _, time_us, reason) = told(without_video().clip("nobody", T0_US, &no_future(&[1])));
    assert_eq!((clip.as_str(), time_us), ("nobody", Some(T0_US)));
    assert!(reason.contains("clip_index.parquet"), "{reason}");
}

/// The front camera's video of another clip as that of `NO_VIDEO`, which no calibration table knows.
#[test]
fn a_clip_without_calibration_is_a_clip() {
    let Some(dataset) = with_video() else { return };
    let calibrated = dataset.clip(WHOLE, T0_US, &no_future(&[1])).unwrap();
    let root = copied();
    let video = fs::read(extracted(WHOLE, 1).path()).unwrap();
    replace_front(root.path(), NO_VIDEO, "mp4", Some(video));
    let dataset = Dataset::open(root.path()).unwrap();
    let clip = dataset.clip(NO_VIDEO, T0_US, &no_future(&[1])).unwrap();
    assert_eq!(clip.frames, calibrated.frames);
    for table in ["camera_intrinsics", "sensor_extrinsics", "vehicle_dimensions"] {
        assert!(
            calibrated.extra.contains_key(table) && !clip.extra.contains_key(table),
            "{table}"
        );
    }
}

#[test]
fn a_video_of_another_length_than_its_timestamps_is_refused() {
    let Some(_) = ffmpeg() else { return };
    // Tables with a column of increasing times that reach t0: one of fewer rows than the video has frames, one of more.
    for (other, rows) in [(CUT, 100), (WHOLE, 380)] {
        let table = archive::read_member(&data("root").join(EGOMOTION), &format!("{other}.egomotion.parquet"));
        let root = copied();
        replace_front(root.path(), WHOLE, "timestamps.parquet", Some(table.unwrap()));
        let dataset = Dataset::open(root.path()).unwrap();
        let (clip, feature, time_us, reason) = told(dataset.clip(WHOLE, T0_US, &no_future(&[1])));
        assert_eq!((clip.as_str(), feature.as_str(), time_us), (WHOLE, FRONT, Some(T0_US)));
        assert!(
            reason.contains(&format!("{rows} timestamps")) && reason.contains("170 frames"),
            "{reason}"
        );
    }
}

#[test]
fn a_sampled_clip_that_contradicts_itself_is_named() {
    let frame = |width| Frame::new(width, 2, vec![0; width * 6]).unwrap();
    let sampled = sample::Sampled {
        cameras: vec![1],
        frames_us: vec![T0_US - 100_000, T0_US],
        views: vec![sample::View {
            frames: vec![frame(4), frame(2)],
            times_us: vec![0, 1],
        }],
        poses: sample::sample_poses(
            without_video().egomotion(WHOLE).unwrap().poses(),
            T0_US,
            Future::Without,
        )
        .unwrap(),
        extra: serde_json::Map::new(),
    };
    let (clip, feature, time_us, _) = told(sampled.into_clip(WHOLE, T0_US));
    assert_eq!(
        (clip.as_str(), feature.as_str(), time_us),
        (WHOLE, "camera 1, frame 1", Some(T0_US))
    );
}

#[test]
fn files_that_lie_are_named() {
    let dataset = without_video();
    let one = no_future(&[1]);
    let (clip, feature, time_us, reason) = told(dataset.clip(BACKWARDS, T0_US, &one));
    assert_eq!((clip.as_str(), feature.as_str()), (BACKWARDS, "egomotion"));
    // The time of the row that goes backwards.
    assert!(time_us.is_some_and(|time| time < T0_US));
    assert!(reason.contains("row 50") || reason.contains("row 49"), "{reason}");
    let (clip, feature, time_us, reason) = told(dataset.clip(LATE_FRAMES, T0_US, &one));
    assert_eq!((clip.as_str(), feature.as_str()), (LATE_FRAMES, FRONT));
    assert!(reason.contains("row 100") && time_us.is_some(), "{reason}");
    let (clip, feature, time_us, reason) = told(dataset.clip(ELSEWHERE, T0_US, &one));
    assert_eq!(
        (clip.as_str(), feature.as_str(), time_us),
        (ELSEWHERE, "egomotion", Some(T0_US))
    );
    assert!(
        reason.contains("egomotion.chunk_0008.zip") && reason.contains("download"),
        "{reason}"
    );
    let (_, feature, time_us, reason) = told(dataset.clip(WHOLE, T0_US, &no_future(&[4])));
    assert_eq!((feature.as_str(), time_us), ("camera_rear_tele_30fov", Some(T0_US)));
    assert!(reason.contains("features.csv"), "{reason}");
    let (_, feature, time_us, reason) = told(dataset.clip(WHOLE, T0_US, &no_future(&[9])));
    assert_eq!(time_us, Some(T0_US));
    assert!(feature.contains('9') && reason.contains("0 to 6"), "{reason}");
}

#[test]
fn t0_outside_of_the_recording_is_refused() {
    let dataset = without_video();
    for (t0_us, future, expected, said) in [
        (1_600_000, Future::Without, "t0", "later than 1.600000 s"),
        (i64::MIN, Future::Required, "t0", "later than"),
        (12_300_001, Future::Without, "egomotion", "12.300000 s"),
        (i64::MAX, Future::Required, "egomotion", "12.300000 s"),
        (5_900_001, Future::Required, "egomotion", "12.300000 s"),
        (
            5_800_000,
            Future::Without,
            "camera_front_wide_120fov",
            "nothing is extrapolated",
        ),
    ] {
        let options = SampleOptions {
            future,
            ..no_future(&[1])
        };
        let (clip, feature, time_us, reason) = told(dataset.clip(WHOLE, t0_us, &options));
        assert_eq!((clip.as_str(), feature.as_str()), (WHOLE, expected), "{reason}");
        assert!(
            time_us.is_some_and(|time| time <= t0_us || future == Future::Required),
            "{time_us:?}"
        );
        assert!(reason.contains(said), "{reason}");
    }
    let none = SampleOptions {
        frames_per_camera: 0,
        ..no_future(&[1])
    };
    let (_, feature, time_us, _) = told(dataset.clip(WHOLE, T0_US, &none));
    assert_eq!((feature.as_str(), time_us), ("frames per camera", Some(T0_US)));
}

#[test]
fn videos_that_lie_are_named() {
    let Some(dataset) = with_video() else { return };
    for (clip_id, said) in [(NO_VIDEO, "not this one"), (CUT, "170 timestamps")] {
        let (clip, feature, time_us, reason) = told(dataset.clip(clip_id, T0_US, &no_future(&[1])));
        assert_eq!(
            (clip.as_str(), feature.as_str(), time_us),
            (clip_id, "camera_front_wide_120fov", Some(T0_US))
        );
        assert!(
            reason.contains(&format!("{clip_id}.camera_front_wide_120fov.mp4")),
            "{reason}"
        );
        assert!(reason.contains(said), "{reason}");
    }
}

#[test]
fn damaged_archives_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("broken.zip");
    File::create(&path).unwrap().write_all(b"PK no archive").unwrap();
    let error = archive::read_member(&path, "member").unwrap_err().to_string();
    assert!(error.contains("broken.zip") && error.contains("member"), "{error}");
    // One wrong byte within a member that isn't compressed: its checksum tells.
    let feature = CAMERA_FEATURES[0];
    let mut bytes = std::fs::read(
        data("root/camera")
            .join(feature)
            .join(format!("{feature}.chunk_0007.zip")),
    )
    .unwrap();
    bytes[3000] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    let member = format!("{WHOLE}.{feature}.mp4");
    let read = archive::read_member(&path, &member).map(drop);
    for error in [read, archive::stored_bytes(&path, &member).map(drop)] {
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("broken.zip") && error.to_lowercase().contains("checksum"),
            "{error}"
        );
    }
}
