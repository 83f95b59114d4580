//! Perturbations of whole cameras and of frames in time.
//!
//! All work with the frames that a clip has: what is late or lost is shown by an older frame, as a driver that reads
//! the newest image it got would see it.

use serde::{Deserialize, Serialize};

use super::apply::{FrameSet, Targets};
use super::severity::Severity;
use super::stream::ClipStreams;
use crate::{Error, Result};

/// How cameras or their frames are disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorKind {
    /// Values times 1 - severity: black at severity 1.
    BlackCamera,
    /// The camera is not in the prompt at all, which gets shorter. On (severity 1) or off (0).
    RemovedCamera,
    /// Each named camera shows the images of the next one named, the last those of the first. On or off.
    SwappedCameras,
    /// The newest frames are missing, up to all but the oldest; the last one before them stands in.
    FrozenFrames,
    /// Each frame is lost with probability `severity`; the last one before it stands in, or black where there is none.
    DroppedFrames,
    /// Frames move, in proportion to the severity, from their own place in time towards another that is drawn per
    /// camera.
    ReorderedFrames,
    /// The cameras lag behind by different numbers of frames, evenly spread up to as many as there are before the
    /// newest; which lags how far is drawn per clip.
    DesynchronisedCameras,
    /// All cameras lag behind by the same number of frames, up to as many as there are before the newest.
    Latency,
}

impl SensorKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::BlackCamera,
        Self::RemovedCamera,
        Self::SwappedCameras,
        Self::FrozenFrames,
        Self::DroppedFrames,
        Self::ReorderedFrames,
        Self::DesynchronisedCameras,
        Self::Latency,
    ];

    /// Whether it knows only severity 0 and 1.
    pub fn is_switch(self) -> bool {
        matches!(self, Self::RemovedCamera | Self::SwappedCameras)
    }

    /// Whether it can be aimed at single frames.
    pub fn takes_frames(self) -> bool {
        matches!(self, Self::BlackCamera | Self::DroppedFrames)
    }

    /// How many cameras have to be named.
    pub fn min_named_cameras(self) -> usize {
        match self {
            Self::RemovedCamera => 1,
            Self::SwappedCameras => 2,
            _ => 0,
        }
    }

    /// Disturbs a clip's frames. Severity 0 leaves them as they are.
    pub(crate) fn apply(
        self,
        set: &mut FrameSet,
        severity: Severity,
        targets: &Targets,
        streams: &ClipStreams,
    ) -> Result<()> {
        if severity.is_zero() {
            return Ok(());
        }
        // The frames before the newest.
        let older = set.frames_per_camera().saturating_sub(1);
        let lag = |share: f64| (severity.value() * share * older as f64).round() as usize;
        match self {
            Self::BlackCamera => black_camera(set, severity, targets),
            Self::RemovedCamera => return remove_cameras(set, targets),
            Self::SwappedCameras => swap_cameras(set, targets),
            Self::FrozenFrames => {
                let newest_left = older - (severity.value() * older as f64).ceil() as usize;
                set.rearrange(targets, |_, frame| Some(frame.min(newest_left)));
            }
            Self::DroppedFrames => drop_frames(set, severity, targets, streams),
            Self::ReorderedFrames => reorder_frames(set, severity, targets, streams),
            Self::DesynchronisedCameras => {
                let ranks = drawn_ranks(targets.cameras.len(), streams);
                let last = ranks.len().saturating_sub(1).max(1) as f64;
                // One camera alone lags fully behind the others.
                let share = |place: usize| {
                    if ranks.len() == 1 {
                        1.0
                    } else {
                        ranks[place] as f64 / last
                    }
                };
                set.rearrange(targets, |place, frame| Some(frame.saturating_sub(lag(share(place)))));
            }
            Self::Latency => set.rearrange(targets, |_, frame| Some(frame.saturating_sub(lag(1.0)))),
        }
        Ok(())
    }
}

fn black_camera(set: &mut FrameSet, severity: Severity, targets: &Targets) {
    let left = 1.0 - severity.value();
    let table: [u8; 256] = std::array::from_fn(|value| (value as f64 * left).round() as u8);
    set.change_images(targets, |frame, _, _| {
        for value in frame.rgb_mut() {
            *value = table[usize::from(*value)];
        }
    });
}

fn remove_cameras(set: &mut FrameSet, targets: &Targets) -> Result<()> {
    if targets.cameras.len() == set.cameras().len() {
        return Err(Error::Perturbation(
            "`removed_camera` leaves the clip without a camera; keep at least one".into(),
        ));
    }
    set.remove_cameras(&targets.cameras);
    Ok(())
}

fn swap_cameras(set: &mut FrameSet, targets: &Targets) {
    let clean = set.clone();
    for (place, &camera) in targets.cameras.iter().enumerate() {
        let next = targets.cameras[(place + 1) % targets.cameras.len()];
        for frame in 0..set.frames_per_camera() {
            set.copy_from(&clean, (camera, frame), (next, frame));
        }
    }
}

fn drop_frames(set: &mut FrameSet, severity: Severity, targets: &Targets, streams: &ClipStreams) {
    let cameras = set.cameras().to_vec();
    set.rearrange(targets, |place, frame| {
        // Whether a frame is lost depends on it alone, so that a higher severity loses the same frames and more.
        let lost = |frame: usize| {
            let camera = cameras[targets.cameras[place]];
            targets.frames.contains(&frame) && streams.image(camera, frame).frame().uniform() < severity.value()
        };
        (0..=frame).rev().find(|&earlier| !lost(earlier))
    });
}

fn reorder_frames(set: &mut FrameSet, severity: Severity, targets: &Targets, streams: &ClipStreams) {
    let count = set.frames_per_camera();
    let orders: Vec<Vec<usize>> = targets
        .cameras
        .iter()
        .map(|&camera| {
            // Sattolo's algorithm: one cycle, so that no frame stays in its place at severity 1.
            let mut stream = streams.image(set.cameras()[camera], 0).camera();
            let mut places: Vec<usize> = (0..count).collect();
            for last in (1..count).rev() {
                places.swap(last, stream.below(last));
            }
            let key = |frame: usize| frame as f64 + severity.value() * (places[frame] as f64 - frame as f64);
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
            order
        })
        .collect();
    set.rearrange(targets, |place, frame| Some(orders[place][frame]));
}

/// The numbers 0..count in an order that is drawn per clip.
fn drawn_ranks(count: usize, streams: &ClipStreams) -> Vec<usize> {
    let mut stream = streams.clip();
    let mut ranks: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        ranks.swap(last, stream.below(last + 1));
    }
    ranks
}
