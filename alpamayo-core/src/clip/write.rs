//! From a clip to a folder.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::document::Document;
use super::{Clip, frame_stem};
use crate::{Error, Result};

impl Clip {
    /// Writes the clip as the folder `directory`, frames as PNG, all or nothing: it is written beside it first and then renamed.
    ///
    /// # Errors
    /// When the clip isn't [valid](Clip::validate), `directory` exists already, or the disk refuses.
    pub fn write(&self, directory: impl AsRef<Path>) -> Result<()> {
        let directory = directory.as_ref();
        self.validate()?;
        if directory.exists() {
            return Err(Error::Clip {
                path: directory.to_path_buf(),
                field: "folder".into(),
                reason: "it exists already; remove it, or write the clip elsewhere".into(),
            });
        }
        let partial = sibling(directory);
        let written = self
            .write_files(&partial)
            .and_then(|()| fs::rename(&partial, directory).map_err(Error::io("rename", &partial)));
        if written.is_err() {
            // What is left of a failed attempt is of no use; the first error is the one to tell.
            let _ = fs::remove_dir_all(&partial);
        }
        written
    }

    fn write_files(&self, directory: &Path) -> Result<()> {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        if directory.exists() {
            // Left by a process that was stopped.
            fs::remove_dir_all(directory).map_err(Error::io("remove", directory))?;
        }
        fs::create_dir(directory).map_err(Error::io("create", directory))?;
        let path = directory.join("clip.json");
        let text = serde_json::to_string(&Document::of(self)).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        self.frames.par_iter().enumerate().try_for_each(|(index, frame)| {
            let camera = self.camera_indices[index / self.frames_per_camera];
            let path = directory.join(format!("{}.png", frame_stem(camera, index % self.frames_per_camera)));
            let (width, height) = (frame.width() as u32, frame.height() as u32);
            image::save_buffer(&path, frame.rgb(), width, height, image::ColorType::Rgb8).map_err(|error| Error::Io {
                action: "write",
                path,
                source: std::io::Error::other(error),
            })
        })
    }
}

/// A name beside the folder that no other process uses.
fn sibling(directory: &Path) -> PathBuf {
    let name = directory
        .file_name()
        .map_or_else(|| "clip".into(), |name| name.to_string_lossy().into_owned());
    directory.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}
