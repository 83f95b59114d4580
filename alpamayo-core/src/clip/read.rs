//! From a folder to a clip.

use std::path::{Path, PathBuf};

use image::{ImageReader, Limits};
use rayon::prelude::*;

use super::document::Document;
use super::{Clip, at, frame_stem};
use crate::frame::MAX_SIDE;
use crate::{Error, Frame, Result};

/// Image files that are read, by extension.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];
/// Most frames of one camera.
const MAX_FRAMES: usize = 1000;

impl Clip {
    /// Reads the clip folder `directory`; frames are decoded in parallel. What is returned is [valid](Clip::validate).
    ///
    /// # Errors
    /// When `clip.json` or an image is missing or can't be read, or the clip contradicts itself; each names the file and the field.
    pub fn read(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let path = directory.join("clip.json");
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let document = Document::parse(&text, &path)?;
        let folder = directory
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let mut clip = document.into_clip(folder);
        at(path.clone(), clip.check_document())?;
        let there = frames_there(directory, &clip.camera_indices)?;
        // A camera whose newest frames are missing shows by the others, or by the times.
        clip.frames_per_camera = clip
            .frame_timestamps_us
            .as_ref()
            .map_or(there, |times| times.len().max(there));
        let files = clip.frame_files(directory)?;
        clip.frames = files.par_iter().map(|file| decode(file)).collect::<Result<_>>()?;
        at(path, clip.validate())?;
        Ok(clip)
    }

    /// Paths of all frames in their order.
    fn frame_files(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        // Without any frame, the first one is missing; beyond the limit, one is missing for certain.
        let frames = self.frames_per_camera.clamp(1, MAX_FRAMES + 1);
        let cells = self
            .camera_indices
            .iter()
            .flat_map(|&camera| (0..frames).map(move |frame| (camera, frame)));
        cells
            .map(|(camera, frame)| {
                frame_path(directory, camera, frame).ok_or_else(|| Error::Clip {
                    path: directory.to_path_buf(),
                    field: format!("camera {camera}, frame {frame}"),
                    reason: format!(
                        "there is no {}.png or .jpg; every camera needs the same number of frames, from 0 (oldest) on",
                        frame_stem(camera, frame)
                    ),
                })
            })
            .collect()
    }
}

/// One more than the highest frame number of these cameras' files.
fn frames_there(directory: &Path, cameras: &[usize]) -> Result<usize> {
    let mut highest = 0;
    for entry in std::fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let path = entry.map_err(Error::io("read", directory))?.path();
        let is_image = path
            .extension()
            .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_image);
        let numbers = stem
            .and_then(|stem| stem.strip_prefix("cam"))
            .and_then(|rest| rest.split_once("_f"));
        let Some((camera, frame)) = numbers else { continue };
        if let (Ok(camera), Ok(frame)) = (camera.parse::<usize>(), frame.parse::<usize>())
            && cameras.contains(&camera)
        {
            highest = highest.max(frame.saturating_add(1));
        }
    }
    Ok(highest)
}

fn frame_path(directory: &Path, camera: usize, frame: usize) -> Option<PathBuf> {
    let stem = frame_stem(camera, frame);
    EXTENSIONS
        .iter()
        .map(|extension| directory.join(format!("{stem}.{extension}")))
        .find(|path| path.is_file())
}

fn decode(path: &Path) -> Result<Frame> {
    let unreadable = |error: image::ImageError| Error::Clip {
        path: path.to_path_buf(),
        field: "pixels".into(),
        reason: format!("the image can't be decoded: {error}"),
    };
    let mut reader = ImageReader::open(path).map_err(Error::io("read", path))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    reader.limits(limits);
    let image = reader.decode().map_err(unreadable)?.into_rgb8();
    Frame::new(image.width() as usize, image.height() as usize, image.into_raw())
}
