//! What makes a clip usable.

use super::{Clip, FUTURE_POSES, MAX_CAMERAS};
use crate::{Frame, HISTORY_POSES, Result};

/// How far the last history position may be from the origin, metres, and its rotation's elements from the identity's.
const ORIGIN_TOLERANCE: f32 = 1e-3;
/// How far `R·Rᵀ` may be from the identity, and the determinant from 1.
const ROTATION_TOLERANCE: f32 = 1e-3;
/// Positions farther away than this are no drive of seconds, metres.
const MAX_DISTANCE: f32 = 1e5;

impl Clip {
    /// Checks that frames, cameras and poses fit together.
    ///
    /// # Errors
    /// [`Error::Clip`](crate::Error::Clip) naming the field: missing frames, mixed sizes within a camera, cameras not ascending, a history that isn't
    /// 16 poses or doesn't end at the origin, rotations that are none, numbers that aren't finite.
    pub fn validate(&self) -> Result<()> {
        self.check_document()?;
        if self.frames_per_camera == 0 {
            return Err(self.error(
                "frames_per_camera",
                "there are no frames; every camera needs at least one",
            ));
        }
        let expected = self.camera_indices.len().saturating_mul(self.frames_per_camera);
        if self.frames.len() != expected {
            let (cameras, each) = (self.camera_indices.len(), self.frames_per_camera);
            let reason = format!(
                "{} frames, but {cameras} cameras with {each} each are {expected}",
                self.frames.len()
            );
            return Err(self.error("frames", reason));
        }
        self.check_sizes()?;
        if let Some(times) = &self.frame_timestamps_us
            && times.len() != self.frames_per_camera
        {
            let reason = format!(
                "{} times for {} frames of each camera",
                times.len(),
                self.frames_per_camera
            );
            return Err(self.error("frame_timestamps_us", reason));
        }
        Ok(())
    }

    /// Checks that each camera's frames have one size; cameras may differ, as every image is resized by itself.
    fn check_sizes(&self) -> Result<()> {
        let size = |frame: &Frame| (frame.width(), frame.height());
        for (camera, frames) in self
            .camera_indices
            .iter()
            .zip(self.frames.chunks(self.frames_per_camera))
        {
            let (width, height) = size(&frames[0]);
            let Some(index) = frames.iter().position(|frame| size(frame) != (width, height)) else {
                continue;
            };
            let (found_width, found_height) = size(&frames[index]);
            let reason = format!(
                "it is {found_width}x{found_height}, but the camera's first frame is {width}x{height}; give all frames \
                 of a camera one size (`ffmpeg -i IN -vf scale={width}:{height} OUT`)"
            );
            return Err(self.error(format!("camera {camera}, frame {index}"), reason));
        }
        Ok(())
    }

    /// Checks everything but the frames.
    pub(super) fn check_document(&self) -> Result<()> {
        self.check_cameras()?;
        self.check_poses(
            "ego_history",
            HISTORY_POSES,
            &self.ego_history_xyz,
            Some(&self.ego_history_rot),
        )?;
        self.check_origin()?;
        if let Some(xyz) = &self.ego_future_xyz {
            self.check_poses("ego_future", FUTURE_POSES, xyz, self.ego_future_rot.as_deref())?;
        } else if self.ego_future_rot.is_some() {
            return Err(self.error("ego_future_rot", "rotations without ego_future_xyz"));
        }
        let times = [
            ("history_timestamps_us", &self.history_timestamps_us, HISTORY_POSES),
            ("future_timestamps_us", &self.future_timestamps_us, FUTURE_POSES),
            ("frame_timestamps_us", &self.frame_timestamps_us, 0),
        ];
        for (field, times, count) in times {
            let Some(times) = times else { continue };
            if count > 0 && times.len() != count {
                return Err(self.error(field, format!("{} times, but there are {count} poses", times.len())));
            }
            if let Some(index) = times.windows(2).position(|pair| pair[0] >= pair[1]) {
                return Err(self.error(field, format!("times must increase, but entry {} doesn't", index + 1)));
            }
        }
        Ok(())
    }

    fn check_cameras(&self) -> Result<()> {
        let cameras = &self.camera_indices;
        if cameras.is_empty() {
            return Err(self.error("camera_indices", "there is no camera; name at least one"));
        }
        if let Some(&camera) = cameras.iter().find(|&&camera| camera >= MAX_CAMERAS) {
            return Err(self.error(
                "camera_indices",
                format!("camera {camera}; indices are below {MAX_CAMERAS}"),
            ));
        }
        if cameras.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(self.error("camera_indices", format!("{cameras:?} must ascend, each camera once")));
        }
        Ok(())
    }

    fn check_poses(&self, what: &str, count: usize, xyz: &[[f32; 3]], rot: Option<&[[[f32; 3]; 3]]>) -> Result<()> {
        let lengths = [
            (format!("{what}_xyz"), Some(xyz.len())),
            (format!("{what}_rot"), rot.map(<[_]>::len)),
        ];
        for (field, length) in lengths {
            if let Some(length) = length.filter(|&length| length != count) {
                return Err(self.error(field, format!("{length} poses, but there must be {count} at 10 Hz")));
            }
        }
        let far = |value: &f32| !value.is_finite() || value.abs() > MAX_DISTANCE;
        if let Some(index) = xyz.iter().position(|position| position.iter().any(far)) {
            let reason = format!("{:?} is no position in metres near the car", xyz[index]);
            return Err(self.error(format!("{what}_xyz[{index}]"), reason));
        }
        if let Some(index) = rot.and_then(|rot| rot.iter().position(|matrix| !is_rotation(matrix))) {
            let reason = "the matrix is no rotation (orthonormal rows, determinant 1)";
            return Err(self.error(format!("{what}_rot[{index}]"), reason));
        }
        Ok(())
    }

    fn check_origin(&self) -> Result<()> {
        let (Some(position), Some(rotation)) = (self.ego_history_xyz.last(), self.ego_history_rot.last()) else {
            return Ok(());
        };
        if position.iter().any(|value| value.abs() > ORIGIN_TOLERANCE) {
            let reason =
                format!("the last position is {position:?}; poses are in the ego frame at t0, so it is the origin");
            return Err(self.error("ego_history_xyz", reason));
        }
        let off = |row: usize, column: usize| (rotation[row][column] - if row == column { 1.0 } else { 0.0 }).abs();
        if (0..9).any(|i| off(i / 3, i % 3) > ORIGIN_TOLERANCE) {
            let reason = "the last rotation is not the identity; poses are in the ego frame at t0";
            return Err(self.error("ego_history_rot", reason));
        }
        Ok(())
    }
}

fn is_rotation(matrix: &[[f32; 3]; 3]) -> bool {
    let dot = |a: usize, b: usize| (0..3).map(|k| matrix[a][k] * matrix[b][k]).sum::<f32>();
    let orthonormal = (0..9).all(|i| {
        let expected = if i / 3 == i % 3 { 1.0 } else { 0.0 };
        // Written so that NaN fails.
        (dot(i / 3, i % 3) - expected).abs() <= ROTATION_TOLERANCE
    });
    let m = matrix;
    let determinant = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
    orthonormal && (determinant - 1.0).abs() <= ROTATION_TOLERANCE
}
