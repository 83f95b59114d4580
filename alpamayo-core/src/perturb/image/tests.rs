//! What holds for every image corruption.

use rayon::prelude::*;

use super::*;
use crate::perturb::stream::ClipStreams;

/// A street of sorts: sky, ground, two buildings, a lane marking, a lamp. Distinct per camera.
fn street(width: usize, height: usize, camera: usize) -> Frame {
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = ((x * 96 / width + 17 * camera) % 96, y * 64 / height);
            rgb.extend_from_slice(&match (u, v) {
                (8..24, 6..40) if (u / 4 + v / 5) % 2 == 0 => [196, 170, 90],
                (8..24, 6..40) => [120, 72, 60],
                (60..84, 16..36) => [70, 90, 110 + 2 * v as u8],
                (40..42, 10..34) => [20, 20, 22],
                (_, 0..30) => [110 + v as u8, 150 + 2 * v as u8, 230],
                (_, 30..36) => [80, 130 - u as u8 / 2, 60],
                (46..50, _) if v / 5 % 2 == 0 => [240, 238, 230],
                _ => [70 + u as u8 / 4, 70 + v as u8 / 4, 76],
            });
        }
    }
    Frame::new(width, height, rgb).unwrap()
}

/// A scene without lines or period, with detail of every size as in nature: eight layers of noise, each twice as coarse
/// as the one before. Another one per camera.
fn nature(width: usize, height: usize, camera: usize) -> Frame {
    let lattice = |x: usize, y: usize, layer: usize| {
        let place = [x, y, layer].iter().fold(camera as u64, |hash, &value| {
            (hash ^ value as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(23)
        });
        (place.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / f64::from(1 << 24)
    };
    let noise = |x: usize, y: usize, layer: usize| {
        let size = 1 << (layer % 8);
        let (left, top, u, v) = (x / size, y / size, x % size, y % size);
        let [u, v] = [u, v].map(|part| part as f64 / size as f64);
        let at = |dx: usize, dy: usize| lattice(left + dx, top + dy, layer);
        (at(0, 0) * (1.0 - u) + at(1, 0) * u) * (1.0 - v) + (at(0, 1) * (1.0 - u) + at(1, 1) * u) * v
    };
    let value = |x: usize, y: usize, channel: usize| {
        let layers = (0..8).map(|layer| 0.7 * noise(x, y, layer) + 0.3 * noise(x, y, layer + 8 * (1 + channel)));
        (30.0 + 195.0 * layers.sum::<f64>() / 8.0).round() as u8
    };
    let pixels =
        (0..width * height).flat_map(|index| [0, 1, 2].map(|channel| value(index % width, index / width, channel)));
    Frame::new(width, height, pixels.collect()).unwrap()
}

fn directions(kind: ImageKind) -> &'static [Direction] {
    match kind.has_direction() {
        true => &[Direction::Up, Direction::Down],
        false => &[Direction::Up],
    }
}

fn corrupted(
    clean: &Frame,
    kind: ImageKind,
    direction: Direction,
    severity: f64,
    camera: usize,
    frame: usize,
) -> Frame {
    let mut out = clean.clone();
    let context = ImageContext {
        severity: Severity::new(severity).unwrap(),
        direction,
        streams: ClipStreams::new(7, "street", 0).image(camera, frame),
    };
    kind.apply(&mut out, &context).unwrap();
    out
}

fn mean_change(a: &Frame, b: &Frame) -> f64 {
    let sum: u64 = a
        .rgb()
        .iter()
        .zip(b.rgb())
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.rgb().len() as f64
}

/// The 64-bit FNV-1a hash of the pixels.
fn checksum(frame: &Frame) -> u64 {
    frame.rgb().iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn severity_zero_is_the_identity_to_the_bit() {
    let clean = street(96, 64, 0);
    for kind in ImageKind::ALL {
        for &direction in directions(kind) {
            assert_eq!(corrupted(&clean, kind, direction, 0.0, 0, 0), clean, "{kind:?}");
        }
    }
}

#[test]
fn small_severities_change_little() {
    // Fewer pixels by one already soften edges; JPEG's best quality rounds.
    let clean = street(240, 160, 0);
    for kind in ImageKind::ALL {
        for &direction in directions(kind) {
            let full = mean_change(&corrupted(&clean, kind, direction, 1.0, 0, 0), &clean);
            let small = mean_change(&corrupted(&clean, kind, direction, 0.002, 0, 0), &clean);
            assert!(small < 0.3 * full + 0.5, "{kind:?}: {small} of {full}");
        }
    }
}

#[test]
fn the_change_grows_with_the_severity() {
    // Over four cameras, as a corruption's draws may lie better or worse in one of them.
    let cameras: Vec<Frame> = (0..4).map(|camera| street(240, 144, camera)).collect();
    for kind in ImageKind::ALL {
        for &direction in directions(kind) {
            let mut before = 0.0;
            for level in 1..=5 {
                let now: f64 = (0..4)
                    .map(|camera| {
                        let severity = f64::from(level) / 5.0;
                        let out = corrupted(&cameras[camera], kind, direction, severity, camera, 0);
                        mean_change(&out, &cameras[camera])
                    })
                    .sum();
                assert!(
                    now > before,
                    "{kind:?} {direction:?} at level {level}: {now} after {before}"
                );
                before = now;
            }
        }
    }
}

#[test]
fn the_change_never_shrinks_between_the_levels() {
    // Over sixteen scenes and draws, as one of them may lie better or worse at a severity.
    let cameras: Vec<Frame> = (0..16).map(|camera| nature(120, 80, camera)).collect();
    for kind in ImageKind::ALL {
        for &direction in directions(kind) {
            let mut before = 0.0;
            for step in 1..=20 {
                let severity = f64::from(step) / 20.0;
                let changes = cameras.par_iter().enumerate().map(|(camera, clean)| {
                    let out = corrupted(clean, kind, direction, severity, camera, 0);
                    mean_change(&out, clean)
                });
                let now: f64 = changes.collect::<Vec<f64>>().iter().sum();
                // From level 3 to 4, ImageNet-C's fog gets more ragged and not thicker.
                let same_thickness = kind == ImageKind::Fog && (13..=16).contains(&step);
                assert!(
                    now >= before || same_thickness,
                    "{kind:?} {direction:?} at severity {severity}: {now} after {before}"
                );
                before = now;
            }
            assert!(before > 0.0, "{kind:?} does nothing");
        }
    }
}

#[test]
fn every_size_is_accepted() {
    for (width, height) in [(1, 1), (2, 1), (1, 9), (33, 17), (250, 3)] {
        let clean = street(width, height, 0);
        for kind in ImageKind::ALL {
            for severity in [0.01, 0.5, 1.0] {
                corrupted(&clean, kind, Direction::Up, severity, 0, 0);
            }
        }
    }
}

#[test]
fn noise_and_weather_move_while_dirt_and_fog_stay() {
    let clean = street(96, 64, 0);
    for kind in ImageKind::ALL {
        let frames = [0, 1].map(|frame| corrupted(&clean, kind, Direction::Up, 0.8, 0, frame));
        let moves = matches!(
            kind,
            ImageKind::GaussianNoise
                | ImageKind::ShotNoise
                | ImageKind::ImpulseNoise
                | ImageKind::SpeckleNoise
                | ImageKind::Rain
                | ImageKind::Snow
                | ImageKind::Night
        );
        assert_eq!(frames[0] != frames[1], moves, "{kind:?}");
    }
}

#[test]
fn occlusions_cover_their_share() {
    let clean = Frame::new(300, 200, vec![200; 180_000]).unwrap();
    for kind in [ImageKind::OcclusionBox, ImageKind::OcclusionBlob] {
        let mut before: Option<Frame> = None;
        for (level, share) in [(1, 0.1), (2, 0.175), (3, 0.25), (4, 0.325), (5, 0.4)] {
            let out = corrupted(&clean, kind, Direction::Up, f64::from(level) / 5.0, 0, 0);
            let covered = out.rgb().iter().filter(|&&value| value == 0).count() as f64 / 180_000.0;
            assert!(
                (covered - share).abs() < 0.005,
                "{kind:?}: {covered} instead of {share}"
            );
            if let Some(before) = before {
                let nested = before.rgb().iter().zip(out.rgb()).all(|(&before, &now)| now <= before);
                assert!(nested, "{kind:?} uncovers what it covered");
            }
            before = Some(out);
        }
    }
}

#[test]
fn the_bytes_are_pinned() {
    // The same on every platform and in every later version: published results depend on them.
    let clean = street(96, 64, 0);
    let mut found = String::new();
    for kind in ImageKind::ALL {
        for &direction in directions(kind) {
            let sums = [0.3, 1.0].map(|severity| checksum(&corrupted(&clean, kind, direction, severity, 1, 2)));
            found += &format!("{kind:?} {direction:?} {:016x} {:016x}\n", sums[0], sums[1]);
        }
    }
    assert_eq!(found, include_str!("checksums.txt"), "now:\n{found}");
}
