//! One's own drives.

use super::*;

/// A drive of one's own: the dashcam's video, and a GPS log at 1 Hz that starts two seconds after the video.
#[test]
fn ones_own_dashcam_makes_clips() {
    let Some(_) = ffmpeg() else { return };
    let file = extracted(WHOLE, 1);
    let folder = tempfile::tempdir().unwrap();
    let poses = folder.path().join("drive.csv");
    let rows = (0..14).map(|second| format!("{},{},0\n", 100 + second, second * 10));
    std::fs::write(&poses, format!("time_s,x,y\n{}", rows.collect::<String>())).unwrap();
    let camera = RecordingCamera {
        index: 1,
        video: file.path().to_path_buf(),
        start_us: 98_000_000,
    };
    let recording = Recording::open("drive", std::slice::from_ref(&camera), &poses).unwrap();
    let options = no_future(&recording.cameras());
    // History from the first pose on; the video's last frame is 5.633 s after its first.
    assert_eq!(recording.t0_range_us(&options), (101_500_000, 98_000_000 + 5_633_333));
    let clip = recording.clip(102_510_000, &options).unwrap();
    let numbers: Vec<_> = clip.frames.iter().map(number_of).collect();
    // 4.21, 4.31, 4.41 and 4.51 s after the video's start, at 30 frames per second.
    assert_eq!(numbers, [(126, 1), (129, 1), (132, 1), (135, 1)]);
    for (step, xyz) in clip.ego_history_xyz.iter().enumerate() {
        assert!(
            (xyz[0] - (step as f32 - 15.0)).abs() < 1e-5 && xyz[1].abs() < 1e-6,
            "{xyz:?}"
        );
    }
    let (clip, feature, time_us, _) = told(recording.clip(104_000_000, &options));
    assert_eq!((clip.as_str(), feature), ("drive", file.path().display().to_string()));
    // The first of the frames' times that the video does not reach.
    assert!(time_us.is_some_and(|time| (103_700_000..=104_000_000).contains(&time)));
    let (_, feature, time_us, _) = told(recording.clip(102_000_000, &no_future(&[0])));
    assert_eq!((feature.as_str(), time_us), ("camera 0", Some(102_000_000)));
    let none = SampleOptions {
        frames_per_camera: 0,
        ..options.clone()
    };
    assert_eq!(told(recording.clip(102_510_000, &none)).2, Some(102_510_000));
    let future = SampleOptions {
        future: Future::Required,
        ..options
    };
    assert!(recording.clip(102_510_000, &future).is_ok());
    let twice = Recording::open("drive", &[camera.clone(), camera], &poses);
    assert!(told(twice).3.contains("at most once"));
}

#[test]
fn gaps_in_ones_own_log_are_refused() {
    let Some(_) = ffmpeg() else { return };
    let folder = tempfile::tempdir().unwrap();
    let poses = folder.path().join("drive.csv");
    std::fs::write(&poses, "time_s,x,y\n0,0,0\n1,10,0\n2,20,0\n4.5,45,0\n5,50,0\n6,60,0\n").unwrap();
    let recording = Recording::open("drive", &[], &poses).unwrap();
    let (_, feature, time_us, reason) = told(recording.clip(3_100_000, &no_future(&[])));
    assert!(
        feature.contains("drive.csv") && time_us == Some(2_000_000),
        "{time_us:?}"
    );
    assert!(reason.contains("2.000000 s to 4.500000 s"), "{reason}");
}
