//! Applying a specification to a clip.

use rayon::prelude::*;

use super::image::ImageContext;
use super::language::LanguageOverrides;
use super::perturbed::{EgoHistory, Perturbed};
use super::spec::{Effect, Perturbation, PerturbationSpec, Target};
use super::stream::ClipStreams;
use super::{Reach, Severity};
use crate::clip::Clip;
use crate::frame::Frame;
use crate::{Error, Result};

impl PerturbationSpec {
    /// Applies the perturbations in order, each to what the one before left.
    ///
    /// Random draws depend on the seed, the clip's name, the perturbation's place in the list, the camera and the
    /// frame; not on the severity or the number of threads. Timestamps stay those of the clean clip.
    ///
    /// # Errors
    /// Where a camera or a frame is named that the clip has not, where no camera is left, where an image cannot be
    /// encoded, and those of [`Clip::validate`].
    pub fn apply(&self, clip: &Clip) -> Result<Perturbed> {
        clip.validate()?;
        let mut changed = clip.clone();
        let mut frames = FrameSet::new(&mut changed);
        let history = EgoHistory::from(clip);
        let (mut token_history, mut integrator_history) = (history.clone(), history);
        let mut language = LanguageOverrides::default();
        for (index, perturbation) in self.perturbations.iter().enumerate() {
            let streams = ClipStreams::new(self.seed, &clip.name, index);
            let severity = perturbation.severity();
            match perturbation.effect() {
                Effect::Image { .. } | Effect::Sensor(_) => frames.perturb(perturbation, &streams, clip)?,
                Effect::History {
                    kind,
                    direction,
                    reaches,
                } => {
                    if *reaches != Reach::Integrator {
                        kind.apply(&mut token_history, severity, *direction, &streams);
                    }
                    if *reaches != Reach::HistoryTokens {
                        kind.apply(&mut integrator_history, severity, *direction, &streams);
                    }
                }
                Effect::Language { kind, text } if !severity.is_zero() => language.set(*kind, text),
                Effect::Language { .. } => {}
            }
        }
        let integrator_history = (integrator_history != token_history).then_some(integrator_history);
        changed.ego_history_xyz = token_history.xyz;
        changed.ego_history_rot = token_history.rot;
        changed.camera_indices = frames.cameras;
        let clean_frames;
        (changed.frames, clean_frames) = frames
            .images
            .into_iter()
            .map(|image| (image.frame, image.clean))
            .unzip();
        Ok(Perturbed {
            clip: changed,
            integrator_history,
            language,
            clean_frames,
        })
    }
}

/// A clip's images while they are being changed, camera-major.
#[derive(Clone, Debug)]
pub(crate) struct FrameSet {
    cameras: Vec<usize>,
    frames_per_camera: usize,
    images: Vec<Image>,
}

/// One image, and the clean clip's image whose bytes it still has.
#[derive(Clone, Debug)]
struct Image {
    frame: Frame,
    clean: Option<usize>,
}

/// What a perturbation is aimed at in this clip: places in the list of cameras, and frames.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    pub(crate) cameras: Vec<usize>,
    pub(crate) frames: Vec<usize>,
}

impl FrameSet {
    /// Takes the frames out of the clip.
    fn new(clip: &mut Clip) -> Self {
        let images = std::mem::take(&mut clip.frames).into_iter().enumerate();
        Self {
            cameras: clip.camera_indices.clone(),
            frames_per_camera: clip.frames_per_camera,
            images: images
                .map(|(index, frame)| Image {
                    frame,
                    clean: Some(index),
                })
                .collect(),
        }
    }

    pub(crate) fn cameras(&self) -> &[usize] {
        &self.cameras
    }

    pub(crate) fn frames_per_camera(&self) -> usize {
        self.frames_per_camera
    }

    fn perturb(&mut self, perturbation: &Perturbation, streams: &ClipStreams, clip: &Clip) -> Result<()> {
        let targets = self.targets(perturbation.target(), clip)?;
        let severity = perturbation.severity();
        match perturbation.effect() {
            Effect::Image { kind, direction } if severity > Severity::ZERO => self
                .change_images(&targets, |frame, camera, index| {
                    let context = ImageContext {
                        severity,
                        direction: *direction,
                        streams: streams.image(camera, index),
                    };
                    kind.apply(frame, &context)
                })
                .into_iter()
                .collect(),
            Effect::Sensor(kind) => kind.apply(self, severity, &targets, streams),
            _ => Ok(()),
        }
    }

    /// Finds the target's cameras and frames.
    fn targets(&self, target: &Target, clip: &Clip) -> Result<Targets> {
        let place = |camera: &usize| {
            self.cameras.iter().position(|known| known == camera).ok_or_else(|| {
                Error::Perturbation(format!(
                    "camera {camera} is not in clip `{}` (here it has cameras {:?})",
                    clip.name, self.cameras
                ))
            })
        };
        let cameras = match &target.cameras {
            Some(cameras) => cameras.iter().map(place).collect::<Result<_>>()?,
            None => (0..self.cameras.len()).collect(),
        };
        let frames: Vec<usize> = match &target.frames {
            Some(frames) => frames.clone(),
            None => (0..self.frames_per_camera).collect(),
        };
        match frames.iter().find(|&&frame| frame >= self.frames_per_camera) {
            Some(frame) => Err(Error::Perturbation(format!(
                "frame {frame} is not in clip `{}`, which has frames 0..={} of each camera, 0 the oldest",
                clip.name,
                self.frames_per_camera.saturating_sub(1)
            ))),
            None => Ok(Targets { cameras, frames }),
        }
    }

    /// Changes the bytes of the targeted images, in parallel; `change` gets the image, its camera and its frame.
    pub(crate) fn change_images<T: Send>(
        &mut self,
        targets: &Targets,
        change: impl Fn(&mut Frame, usize, usize) -> T + Sync,
    ) -> Vec<T> {
        let (cameras, count) = (&self.cameras, self.frames_per_camera);
        self.images
            .par_iter_mut()
            .enumerate()
            .filter(|(index, _)| {
                targets.cameras.contains(&(index / count)) && targets.frames.contains(&(index % count))
            })
            .map(|(index, image)| {
                image.clean = None;
                change(&mut image.frame, cameras[index / count], index % count)
            })
            .collect()
    }

    /// Lets each frame of the targeted cameras show another frame of the same camera; `source` gets the camera's place
    /// in `targets.cameras` and the frame, and says which one, or `None` for black.
    pub(crate) fn rearrange(&mut self, targets: &Targets, source: impl Fn(usize, usize) -> Option<usize>) {
        let before = self.clone();
        for (place, &camera) in targets.cameras.iter().enumerate() {
            for frame in 0..self.frames_per_camera {
                match source(place, frame) {
                    Some(shown) => self.copy_from(&before, (camera, frame), (camera, shown)),
                    None => {
                        let image = &mut self.images[camera * self.frames_per_camera + frame];
                        image.clean = None;
                        image.frame.rgb_mut().fill(0);
                    }
                }
            }
        }
    }

    /// Takes over an image; both are named by the camera's place and the frame.
    pub(crate) fn copy_from(&mut self, other: &Self, to: (usize, usize), from: (usize, usize)) {
        if to != from {
            let count = self.frames_per_camera;
            self.images[to.0 * count + to.1] = other.images[from.0 * count + from.1].clone();
        }
    }

    /// Takes cameras out, named by their places.
    pub(crate) fn remove_cameras(&mut self, places: &[usize]) {
        let count = self.frames_per_camera;
        let mut index = 0;
        self.images.retain(|_| {
            index += 1;
            !places.contains(&((index - 1) / count))
        });
        let mut place = 0;
        self.cameras.retain(|_| {
            place += 1;
            !places.contains(&(place - 1))
        });
    }
}

#[cfg(test)]
mod tests;
