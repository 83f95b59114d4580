//! Draws a camera's newest frame under every image corruption, clean and at the five levels, as one PNG, and prints the
//! mean absolute change of the pixels.
//!
//! `cargo run --release -p alpamayo-core --example perturbation_gallery -- CLIP_FOLDER OUT.png [CAMERA]`

use std::error::Error;
use std::path::Path;

use alpamayo_core::clip::Clip;
use alpamayo_core::frame::Frame;
use alpamayo_core::perturb::{Direction, Effect, ImageKind, LEVELS, Perturbation, PerturbationSpec, Severity, Target};
use image::{RgbImage, imageops};

/// Width of one picture in the sheet, in pixels.
const WIDTH: u32 = 240;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, out, camera) = match arguments.as_slice() {
        [folder, out] => (folder, out, 1),
        [folder, out, camera] => (folder, out, camera.parse()?),
        _ => return Err("usage: perturbation_gallery CLIP_FOLDER OUT.png [CAMERA]".into()),
    };
    let clip = Clip::read(Path::new(folder))?;
    let clean = clip.latest_frame(camera).ok_or("the clip has no such camera")?;
    let height = WIDTH * clean.height() as u32 / clean.width() as u32;

    let effects: Vec<Effect> = ImageKind::ALL.into_iter().flat_map(directions).collect();
    let mut sheet = RgbImage::new(WIDTH * u32::from(LEVELS + 1), height * effects.len() as u32);
    for (row, effect) in effects.into_iter().enumerate() {
        let mut line = format!("{:<20}", effect.name());
        for level in 0..=LEVELS {
            let perturbation = Perturbation::new(effect.clone(), Severity::level(level)?, Target::cameras([camera]))?;
            let spec = PerturbationSpec {
                seed: 0,
                perturbations: vec![perturbation],
            };
            let perturbed = spec.apply(&clip)?;
            let frame = perturbed.clip.latest_frame(camera).ok_or("the camera is gone")?;
            line += &format!("{:8.2}", mean_change(frame, clean));
            let picture = RgbImage::from_raw(frame.width() as u32, frame.height() as u32, frame.rgb().to_vec())
                .ok_or("a frame of no size")?;
            let picture = imageops::resize(&picture, WIDTH, height, imageops::FilterType::Triangle);
            let (x, y) = (WIDTH * u32::from(level), height * row as u32);
            imageops::replace(&mut sheet, &picture, i64::from(x), i64::from(y));
        }
        println!("{line}");
    }
    sheet.save(out)?;
    Ok(())
}

/// The corruption in each of its directions.
fn directions(kind: ImageKind) -> Vec<Effect> {
    match kind.has_direction() {
        true => [Direction::Up, Direction::Down]
            .map(|direction| Effect::Image { kind, direction })
            .to_vec(),
        false => vec![Effect::image(kind)],
    }
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
