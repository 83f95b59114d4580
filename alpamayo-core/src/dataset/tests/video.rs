//! Frames by their index.

use std::io::Write;

use super::*;

#[test]
fn frames_of_a_cut_video_keep_their_index() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let file = extracted(CUT, 1);
    let video = Video::open(&ffmpeg, file.path()).unwrap();
    let count = video.frame_count();
    assert!((60..160).contains(&count), "{count} frames");
    let indices: Vec<usize> = (0..count).collect();
    let found: Vec<_> = video
        .frames(&indices)
        .unwrap()
        .iter()
        .map(|frame| number_of(frame).0)
        .collect();
    assert_eq!(found, indices);
}

#[test]
fn frames_are_found_by_their_index() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let file = extracted(WHOLE, 2);
    let video = Video::open(&ffmpeg, file.path()).unwrap();
    assert_eq!(video.frame_count(), 170);
    assert_eq!(video.times_us()[..3], [0, 33_333, 66_667]);
    // Key frames (every 45th) and their neighbours, in any order, twice; from the start and with seeking.
    for indices in [
        vec![0],
        vec![169],
        vec![44, 45, 46],
        vec![134, 91, 134, 90, 89],
        (0..170).collect(),
    ] {
        let found: Vec<_> = video.frames(&indices).unwrap().iter().map(number_of).collect();
        assert_eq!(found, indices.iter().map(|&index| (index, 2)).collect::<Vec<_>>());
    }
    assert!(video.frames(&[]).unwrap().is_empty());
    let error = video.frames(&[3, 170]).unwrap_err().to_string();
    assert!(error.contains("frame 170") && error.contains("170 frames"), "{error}");
}

/// Stored members are read in place; a compressed one makes a temporary file, which is gone with its video.
#[test]
fn stored_videos_are_read_in_place() {
    const WITHOUT_TEMPORARY_FILES: &str = "ALPAMAYO_TEST_WITHOUT_TEMPORARY_FILES";
    let Some(dataset) = with_video() else { return };
    let of = |camera: usize| dataset.clip(WHOLE, T0_US, &no_future(&[camera]));
    if std::env::var_os(WITHOUT_TEMPORARY_FILES).is_some() {
        for camera in [0, 1, 6] {
            of(camera).unwrap();
        }
        assert!(told(of(2)).3.contains("cannot create"));
        return;
    }
    // Again, in a process that cannot make temporary files.
    let nowhere = data("nowhere");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "dataset::tests::video::stored_videos_are_read_in_place"])
        .env(WITHOUT_TEMPORARY_FILES, "1")
        .envs(["TMPDIR", "TMP", "TEMP"].map(|name| (name, &nowhere)))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");

    let ffmpeg = ffmpeg().unwrap();
    let open = |camera: usize| {
        let feature = CAMERA_FEATURES[camera];
        let zip = data("root/camera")
            .join(feature)
            .join(format!("{feature}.chunk_0007.zip"));
        Video::open_member(&ffmpeg, &zip, &format!("{WHOLE}.{feature}.mp4")).unwrap()
    };
    let (stored, compressed) = (open(1), open(2));
    assert!(stored.copy().is_none());
    let copy = compressed.copy().unwrap().to_path_buf();
    assert!(copy.is_file());
    let again = compressed.clone();
    drop(compressed);
    let numbers = |video: Video| {
        video
            .frames(&[3, 169])
            .unwrap()
            .iter()
            .map(number_of)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (numbers(stored), numbers(again)),
        (vec![(3, 1), (169, 1)], vec![(3, 2), (169, 2)])
    );
    assert!(!copy.exists());
}

#[test]
fn pixels_are_pyavs() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let video = Video::open(&ffmpeg, &data("colours.mp4")).unwrap();
    let found = video.frames(&[7]).unwrap().remove(0);
    let expected = image::open(data("colours.frame7.png")).unwrap().into_rgb8();
    assert_eq!((found.width(), found.height()), (64, 48));
    let worst = found
        .rgb()
        .iter()
        .zip(expected.as_raw())
        .map(|(&a, &b)| a.abs_diff(b))
        .max();
    // swscale's code differs a little between processors and versions.
    assert!(worst.unwrap() <= 2, "{worst:?}");
}

#[test]
fn files_that_are_no_video_are_refused() {
    let Some(ffmpeg) = ffmpeg() else { return };
    let mut file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    // Without its end, where the index is.
    let whole = std::fs::read(extracted(WHOLE, 0).path()).unwrap();
    file.write_all(&whole[..whole.len() * 3 / 4]).unwrap();
    for path in [file.path().to_path_buf(), data("make.py"), data("nothing.mp4")] {
        let error = Video::open(&ffmpeg, &path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
