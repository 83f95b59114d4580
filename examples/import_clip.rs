//! Clip folders from your own cameras: a video per camera and a CSV file of timed poses, as docs/data.md describes them.
//!
//! ```text
//! cargo run --release --example import_clip --features dataset -- \
//!     --camera front_wide=dashcam.mp4@12.5 --poses drive.csv --t0 30 --output clips
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use alpamayo_core::dataset::{Future, Recording, RecordingCamera, SampleOptions, camera_index};
use clap::{Parser, ValueEnum};
use serde_json::Value;

/// Make clip folders from your own cameras.
#[derive(Debug, Parser)]
struct Arguments {
    /// A camera as NAME=VIDEO or NAME=VIDEO@SECONDS: its place in the model's rig (`front_wide`, `cross_left`,
    /// `cross_right`, `front_tele` …), its video, and when that starts on the poses' clock [default: 0]; repeatable
    #[arg(long = "camera", required = true, value_name = "NAME=VIDEO[@SECONDS]", value_parser = parse_camera)]
    cameras: Vec<RecordingCamera>,
    /// CSV file: time_s; x, y or latitude, longitude; yaw_deg or heading_deg, if known
    #[arg(long)]
    poses: PathBuf,
    /// Time of a plan in seconds on the poses' clock; repeatable
    #[arg(long, required_unless_present = "every", value_parser = parse_seconds)]
    t0: Vec<i64>,
    /// A clip every so many seconds, from the first possible time to the last
    #[arg(long, value_parser = parse_seconds, conflicts_with = "t0")]
    every: Option<i64>,
    /// Folder for the clips' folders
    #[arg(long)]
    output: PathBuf,
    /// The drive's name [default: that of the CSV file]
    #[arg(long)]
    name: Option<String>,
    /// What is to be seen, in words
    #[arg(long)]
    description: Option<String>,
    /// Frames of each camera, 0.1 s apart
    #[arg(long, default_value_t = 4)]
    frames: usize,
    /// Whether clips hold the 6.4 s after t0, to compare plans with
    #[arg(long, value_enum, default_value = "if-recorded")]
    future: FutureArgument,
    /// JSON file that says how cameras are mounted, to draw plans into their pictures
    #[arg(long)]
    rig: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FutureArgument {
    /// Refuse a t0 without it
    Required,
    /// Where the recording is long enough
    IfRecorded,
    /// Never
    Without,
}

fn main() -> ExitCode {
    match import(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn import(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let stem = arguments.poses.file_stem().unwrap_or_default().to_string_lossy();
    let name = arguments.name.clone().unwrap_or_else(|| stem.into_owned());
    let rig: Option<Value> = match &arguments.rig {
        Some(path) => Some(serde_json::from_str(&std::fs::read_to_string(path)?)?),
        None => None,
    };
    let recording = Recording::open(&name, &arguments.cameras, &arguments.poses)?;
    let options = SampleOptions {
        cameras: recording.cameras(),
        frames_per_camera: arguments.frames,
        future: match arguments.future {
            FutureArgument::Required => Future::Required,
            FutureArgument::IfRecorded => Future::IfRecorded,
            FutureArgument::Without => Future::Without,
        },
    };
    let (first, last) = recording.t0_range_us(&options);
    if first > last {
        return Err("videos and poses have no 1.5 s in common: is the start after @ on the poses' clock?".into());
    }
    println!("t0 can be {} to {} s", first as f64 / 1e6, last as f64 / 1e6);
    let times: Vec<i64> = match arguments.every.map(usize::try_from) {
        Some(Ok(step)) if step > 0 => (first..=last).step_by(step).collect(),
        Some(_) => return Err("--every must be above 0".into()),
        None => arguments.t0.clone(),
    };
    for t0_us in times {
        let mut clip = match recording.clip(t0_us, &options) {
            // Such as a gap in the log; the rest of the drive is still of use.
            Err(error) if arguments.every.is_some() => {
                eprintln!("left out: {error}");
                continue;
            }
            result => result?,
        };
        clip.name = format!("{name} at {:.3} s", t0_us as f64 / 1e6);
        clip.description = arguments.description.clone();
        if let Some(rig) = &rig {
            clip.extra.insert("camera_rig".into(), rig.clone());
        }
        let folder = arguments.output.join(format!("{name}_{:.3}s", t0_us as f64 / 1e6));
        clip.write(&folder)?;
        println!("{}", folder.display());
    }
    Ok(())
}

fn parse_camera(text: &str) -> Result<RecordingCamera, String> {
    let (name, video) = text.split_once('=').ok_or("it must be NAME=VIDEO")?;
    let index = camera_index(name).ok_or_else(|| {
        format!("there is no camera `{name}`: use front_wide, front_tele, cross_left, cross_right, rear_left, rear_right or rear_tele")
    })?;
    // A file's name may hold an @ too.
    let start = video
        .rsplit_once('@')
        .and_then(|(path, start)| Some((path, parse_seconds(start).ok()?)));
    let (path, start_us) = start.unwrap_or((video, 0));
    Ok(RecordingCamera {
        index,
        video: path.into(),
        start_us,
    })
}

/// Seconds to microseconds.
fn parse_seconds(text: &str) -> Result<i64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    seconds
        .map(|seconds| (seconds * 1e6).round() as i64)
        .ok_or_else(|| format!("`{text}` is no time in seconds"))
}
