//! Perturbations of the ego history: where the car believes it has been.
//!
//! The history is in the ego frame at t0, whose pose is the origin by definition: no perturbation moves the last pose.

use serde::{Deserialize, Serialize};

use super::image::Direction;
use super::perturbed::EgoHistory;
use super::severity::Severity;
use super::stream::ClipStreams;
use crate::random::RandomStream;

/// The time between two poses in seconds.
const STEP: f64 = 0.1;

/// How the ego history is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// Normal noise on x and y, standard deviation 0.05, 0.1, 0.2, 0.5, 1 m.
    PositionNoise,
    /// Normal noise on the yaw, standard deviation 0.5, 1, 2, 5, 10°.
    YawNoise,
    /// Positions times 1.1, 1.25, 1.5, 1.75, 2; down: times 0.9, 0.75, 0.5, 0.25, 0.
    SpeedScale,
    /// A constant velocity error of 0.25, 0.5, 1, 2, 3 m/s in a direction drawn per clip: odometry that drifts.
    VelocityBias,
    /// A constant yaw rate error of 1, 2, 4, 7, 10 °/s, to a side drawn per clip: a gyroscope that drifts.
    YawRateBias,
    /// Positions and yaw times 1 - severity: at severity 1 the car has stood at the origin.
    Stationary,
    /// y and yaw times 1 - 2·severity: at severity 1 a left curve has been a right one.
    Mirrored,
}

impl HistoryKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::PositionNoise,
        Self::YawNoise,
        Self::SpeedScale,
        Self::VelocityBias,
        Self::YawRateBias,
        Self::Stationary,
        Self::Mirrored,
    ];

    /// Whether it can be turned round with [`Direction::Down`].
    pub fn has_direction(self) -> bool {
        self == Self::SpeedScale
    }

    /// Changes a history in place. Severity 0 leaves it as it is.
    pub(crate) fn apply(
        self,
        history: &mut EgoHistory,
        severity: Severity,
        direction: Direction,
        streams: &ClipStreams,
    ) {
        if severity.is_zero() {
            return;
        }
        let stream = streams.clip();
        let value = severity.value();
        match self {
            Self::PositionNoise => position_noise(history, severity, stream),
            Self::YawNoise => yaw_noise(history, severity, stream),
            Self::SpeedScale => {
                let factor = severity.interpolate(
                    1.0,
                    match direction {
                        Direction::Up => [1.1, 1.25, 1.5, 1.75, 2.0],
                        Direction::Down => [0.9, 0.75, 0.5, 0.25, 0.0],
                    },
                );
                map_positions(history, |_, position| position.map(|coordinate| coordinate * factor));
            }
            Self::VelocityBias => velocity_bias(history, severity, stream),
            Self::YawRateBias => yaw_rate_bias(history, severity, stream),
            Self::Stationary => {
                map_positions(history, |_, position| {
                    position.map(|coordinate| coordinate * (1.0 - value))
                });
                turn(history, |_, yaw| -value * yaw);
            }
            Self::Mirrored => {
                map_positions(history, |_, [x, y, z]| [x, y * (1.0 - 2.0 * value), z]);
                turn(history, |_, yaw| -2.0 * value * yaw);
            }
        }
    }
}

/// What a perturbed history reaches. The model reads the history twice: as tokens in its prompt, and as the speed v0
/// from which the actions are integrated to a trajectory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Only the tokens in the prompt.
    HistoryTokens,
    /// Only the integrator's v0.
    Integrator,
    /// Both, as a fault of the localisation would.
    #[default]
    Both,
}

fn position_noise(history: &mut EgoHistory, severity: Severity, mut stream: RandomStream) {
    let deviation = severity.interpolate(0.0, [0.05, 0.1, 0.2, 0.5, 1.0]);
    map_positions(history, |_, [x, y, z]| {
        let [dx, dy] = stream.normal_pair();
        [x + deviation * dx, y + deviation * dy, z]
    });
}

fn yaw_noise(history: &mut EgoHistory, severity: Severity, mut stream: RandomStream) {
    let deviation = severity.interpolate(0.0, [0.5, 1.0, 2.0, 5.0, 10.0]).to_radians();
    turn(history, |_, _| deviation * stream.normal_pair()[0]);
}

fn velocity_bias(history: &mut EgoHistory, severity: Severity, mut stream: RandomStream) {
    let speed = severity.interpolate(0.0, [0.25, 0.5, 1.0, 2.0, 3.0]);
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * stream.uniform());
    map_positions(history, |time, [x, y, z]| {
        [x + speed * cos * time, y + speed * sin * time, z]
    });
}

fn yaw_rate_bias(history: &mut EgoHistory, severity: Severity, mut stream: RandomStream) {
    let rate = severity.interpolate(0.0, [1.0, 2.0, 4.0, 7.0, 10.0]).to_radians();
    let rate = if stream.coin() { rate } else { -rate };
    turn(history, |time, _| rate * time);
}

/// Replaces every position but the last, given its time relative to t0 in seconds.
fn map_positions(history: &mut EgoHistory, mut map: impl FnMut(f64, [f64; 3]) -> [f64; 3]) {
    let last = history.xyz.len().saturating_sub(1);
    for (index, position) in history.xyz[..last].iter_mut().enumerate() {
        let time = -STEP * (last - index) as f64;
        *position = map(time, position.map(f64::from)).map(|coordinate| coordinate as f32);
    }
}

/// Turns every pose but the last about the vertical by an angle, given its time relative to t0 and its yaw, in seconds
/// and radians.
fn turn(history: &mut EgoHistory, mut angle: impl FnMut(f64, f64) -> f64) {
    let last = history.rot.len().saturating_sub(1);
    for (index, rotation) in history.rot[..last].iter_mut().enumerate() {
        let time = -STEP * (last - index) as f64;
        let rows = rotation.map(|row| row.map(f64::from));
        let (sin, cos) = libm::sincos(angle(time, libm::atan2(rows[1][0], rows[0][0])));
        for c in 0..3 {
            rotation[0][c] = (cos * rows[0][c] - sin * rows[1][c]) as f32;
            rotation[1][c] = (sin * rows[0][c] + cos * rows[1][c]) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A left curve at 10 m/s and 0.2 rad/s.
    fn curve() -> EgoHistory {
        let poses = (0..16).map(|index| {
            let time = STEP * (f64::from(index) - 15.0);
            let yaw = 0.2 * time;
            let (sin, cos) = yaw.sin_cos();
            let position = [50.0 * sin, 50.0 * (1.0 - cos), 0.0].map(|v| v as f32);
            let rotation = [[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]].map(|row| row.map(|v| v as f32));
            (position, rotation)
        });
        let (xyz, rot) = poses.unzip();
        EgoHistory { xyz, rot }
    }

    fn perturbed(kind: HistoryKind, severity: f64, direction: Direction) -> EgoHistory {
        let mut history = curve();
        kind.apply(
            &mut history,
            Severity::new(severity).unwrap(),
            direction,
            &ClipStreams::new(3, "curve", 0),
        );
        history
    }

    /// Mean distance of positions plus mean difference of rotation entries.
    fn change(history: &EgoHistory) -> f64 {
        let clean = curve();
        let flat = |h: &EgoHistory| -> Vec<f32> {
            h.xyz
                .iter()
                .flatten()
                .chain(h.rot.iter().flatten().flatten())
                .copied()
                .collect()
        };
        flat(&clean)
            .iter()
            .zip(flat(history))
            .map(|(a, b)| f64::from((a - b).abs()))
            .sum()
    }

    #[test]
    fn every_kind_grows_with_the_severity_and_keeps_the_origin() {
        for kind in HistoryKind::ALL {
            for direction in [Direction::Up, Direction::Down] {
                assert_eq!(perturbed(kind, 0.0, direction), curve(), "{kind:?}");
                let mut before = 0.0;
                for step in 1..=20 {
                    let history = perturbed(kind, f64::from(step) / 20.0, direction);
                    let now = change(&history);
                    assert!(now > before, "{kind:?} at {step}/20: {now} after {before}");
                    before = now;
                    assert_eq!(history.xyz[15], [0.0; 3]);
                    assert_eq!(history.rot[15], curve().rot[15]);
                    for rotation in &history.rot {
                        let determinant = rotation[0][0] * rotation[1][1] - rotation[0][1] * rotation[1][0];
                        assert!((determinant - 1.0).abs() < 1e-5, "{kind:?} is no rotation any more");
                    }
                }
            }
        }
    }

    #[test]
    fn the_ends_are_what_they_say() {
        let stationary = perturbed(HistoryKind::Stationary, 1.0, Direction::Up);
        assert!(stationary.xyz.iter().flatten().all(|&v| v == 0.0));
        assert!(stationary.rot.iter().all(|r| (r[1][0]).abs() < 1e-7 && r[0][0] == 1.0));

        let (clean, mirrored) = (curve(), perturbed(HistoryKind::Mirrored, 1.0, Direction::Up));
        for (a, b) in clean.xyz.iter().zip(&mirrored.xyz) {
            assert_eq!([a[0], -a[1], a[2]], *b);
        }
        for (a, b) in clean.rot.iter().zip(&mirrored.rot) {
            assert!((a[1][0] + b[1][0]).abs() < 1e-6);
        }

        let twice = perturbed(HistoryKind::SpeedScale, 1.0, Direction::Up);
        assert_eq!(twice.xyz[0], clean.xyz[0].map(|v| 2.0 * v));
        assert_eq!(twice.rot, clean.rot);

        let drifted = perturbed(HistoryKind::VelocityBias, 1.0, Direction::Up);
        for (index, (a, b)) in clean.xyz.iter().zip(&drifted.xyz).enumerate() {
            let distance = (a[0] - b[0]).hypot(a[1] - b[1]);
            assert!((distance - 0.3 * (15 - index) as f32).abs() < 1e-4);
        }
    }
}
