//! Cameras of the rig, and when their frames were taken.

use super::poses::{check_times, outside};
use super::source::Source;
use crate::Result;

/// The cameras' features, by camera index.
pub const CAMERA_FEATURES: [&str; 7] = [
    "camera_cross_left_120fov",
    "camera_front_wide_120fov",
    "camera_cross_right_120fov",
    "camera_rear_left_70fov",
    "camera_rear_tele_30fov",
    "camera_rear_right_70fov",
    "camera_front_tele_30fov",
];

/// The cameras that Alpamayo-R1 sees: cross-left, front-wide, cross-right and front-tele.
pub const DEFAULT_CAMERAS: [usize; 4] = [0, 1, 2, 6];

/// The index of a camera given as `1`, `front_wide`, `front_wide_120fov` or `camera_front_wide_120fov`.
pub fn camera_index(name: &str) -> Option<usize> {
    if let Ok(index) = name.parse::<usize>() {
        return (index < CAMERA_FEATURES.len()).then_some(index);
    }
    let name = name.strip_prefix("camera_").unwrap_or(name).replace('-', "_");
    CAMERA_FEATURES.iter().position(|feature| {
        let full = &feature["camera_".len()..];
        full == name || full.rsplit_once('_').is_some_and(|(short, _)| short == name)
    })
}

/// When each frame of a video was taken.
#[derive(Debug, Clone)]
pub struct FrameTimes {
    source: Source,
    times_us: Vec<i64>,
}

impl FrameTimes {
    /// Times of the frames 0, 1, 2 …, microseconds.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) unless there is one and they increase.
    pub fn new(source: Source, times_us: Vec<i64>) -> Result<Self> {
        check_times(&source, &times_us)?;
        Ok(Self { source, times_us })
    }

    /// The times, microseconds.
    pub fn times_us(&self) -> &[i64] {
        &self.times_us
    }

    /// The index of the latest frame at or before a time, microseconds.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) before the first frame and after the last one.
    pub fn latest_at(&self, time_us: i64) -> Result<usize> {
        let after = self.times_us.partition_point(|&time| time <= time_us);
        match after {
            0 => Err(outside(&self.source, &self.times_us, time_us)),
            after if after == self.times_us.len() && time_us > self.times_us[after - 1] => {
                Err(outside(&self.source, &self.times_us, time_us))
            }
            after => Ok(after - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cameras_have_short_names() {
        for (index, feature) in CAMERA_FEATURES.iter().enumerate() {
            assert_eq!(camera_index(feature), Some(index));
            assert_eq!(camera_index(&index.to_string()), Some(index));
        }
        assert_eq!(camera_index("front_wide"), Some(1));
        assert_eq!(camera_index("front-tele"), Some(6));
        assert_eq!(camera_index("rear_left_70fov"), Some(3));
        for name in ["7", "-1", "front", "", "camera_"] {
            assert_eq!(camera_index(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_latest_frame_is_at_or_before(steps in prop::collection::vec(1..50_000i64, 1..40), time in -50_000..2_000_000i64) {
            let mut times = vec![-20_000];
            for step in steps {
                times.push(times[times.len() - 1] + step);
            }
            let frames = FrameTimes::new(Source::new("c", "f"), times.clone()).unwrap();
            let within = time >= times[0] && time <= times[times.len() - 1];
            let expected = within.then(|| times.iter().rposition(|&frame| frame <= time).unwrap());
            prop_assert_eq!(frames.latest_at(time).ok(), expected);
        }
    }
}
