//! What a plan does.

use super::intent::{Intent, PathIntent, Side, SpeedIntent};
use super::motion::Motion;
use crate::{Result, Trajectory};

/// Below this speed a car stands, m/s.
const STANDING: f64 = 0.5;
/// A speed that changes by less than this share, and less than 1 m/s, is kept.
const SPEED_SHARE: f64 = 0.15;
/// A car that brakes at the end of its plan stops if it would stand within this time, seconds.
const STOPS_WITHIN: f64 = 4.0;
/// Braking that is meant, m/s².
const BRAKING: f64 = 0.5;
/// A plan that gains less heading than this goes straight, radians (8°).
const STRAIGHT: f64 = 0.14;
/// A turn gains at least this much heading (40°) …
const TURN: f64 = 0.7;
/// … on a mean radius of at most this, metres.
const TURN_RADIUS: f64 = 30.0;
/// A nudge leaves the arc between the plan's ends by at least this, metres.
const NUDGE: f64 = 0.3;

/// Reads the intent from a plan whose poses are `dt` seconds apart, by these rules, the first that applies:
///
/// - speed: *stop* where the car stands at the end, stands after having moved, or brakes so at the end that it stands 4
///   s later; *slow* where its least speed is below that at t0, *accelerate* where its last is above, by 15 % and by 1
///   m/s; else *keep*.
/// - path: *turn* where it gains 40° of heading on a mean radius of 30 m or less; *curve* where it gains 8°; *nudge*
///   where it leaves by 0.3 m the arc that gains its heading evenly, to the side where it does so most; else *keep*.
///
/// # Errors
/// Those of [`Motion::of`].
pub fn driven_intent(plan: &Trajectory, dt: f64) -> Result<Intent> {
    let motion = Motion::of(plan, dt)?;
    Ok(Intent {
        speed: Some(driven_speed(&motion)),
        path: Some(driven_path(plan, &motion)),
    })
}

fn driven_speed(motion: &Motion) -> SpeedIntent {
    let last = motion.speeds.len() - 1;
    let (first, end) = (motion.speeds[0], motion.speeds[last]);
    let least = motion.speeds.iter().copied().fold(f64::INFINITY, f64::min);
    let braking = -motion.accels[last];
    let stops_soon = braking >= BRAKING && end / braking <= STOPS_WITHIN;
    let margin = (SPEED_SHARE * first).max(1.0);
    if end < STANDING || (first >= STANDING && (least < STANDING || stops_soon)) {
        SpeedIntent::Stop
    } else if least <= first - margin {
        SpeedIntent::Slow
    } else if end >= first + margin {
        SpeedIntent::Accelerate
    } else {
        SpeedIntent::Keep
    }
}

fn driven_path(plan: &Trajectory, motion: &Motion) -> PathIntent {
    let last = motion.headings.len() - 1;
    let (gained, length) = (motion.headings[last], motion.lengths[last]);
    let side = |left: bool| if left { Side::Left } else { Side::Right };
    if gained.abs() >= TURN && length / gained.abs() <= TURN_RADIUS {
        return PathIntent::Turn(side(gained > 0.0));
    }
    if gained.abs() >= STRAIGHT {
        return PathIntent::Curve(side(gained > 0.0));
    }
    // How far to the left of an arc of constant curvature, step by step.
    let curvature = motion.mean_curvature();
    let farthest = plan
        .xyz
        .iter()
        .zip(&motion.lengths[1..])
        .map(|(position, length)| f64::from(position[1]) - curvature * length * length / 2.0)
        .fold(0.0f64, |farthest, offset| {
            if offset.abs() > farthest.abs() {
                offset
            } else {
                farthest
            }
        });
    match farthest.abs() >= NUDGE {
        true => PathIntent::Nudge(side(farthest > 0.0)),
        false => PathIntent::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::circle;
    use super::*;

    fn of(plan: &Trajectory) -> String {
        driven_intent(plan, 0.1).unwrap().to_string()
    }

    #[test]
    fn speeds_are_read() {
        assert_eq!(of(&circle(10.0, 0.0, 0.0)), "keep, keep lane");
        assert_eq!(of(&circle(10.0, -0.1, 0.0)), "keep, keep lane");
        assert_eq!(of(&circle(10.0, -0.3, 0.0)), "slow, keep lane");
        assert_eq!(of(&circle(10.0, 0.4, 0.0)), "accelerate, keep lane");
        assert_eq!(of(&circle(0.0, 1.0, 0.0)), "accelerate, keep lane");
        assert_eq!(of(&circle(0.0, 0.0, 0.0)), "stop, keep lane");
        // 1.0 m/s are left after 6.4 s at -1.4 m/s².
        assert_eq!(of(&circle(10.0, -1.4, 0.0)), "stop, keep lane");
        assert_eq!(of(&circle(20.0, -1.4, 0.0)), "slow, keep lane");
    }

    #[test]
    fn paths_are_read() {
        assert_eq!(of(&circle(10.0, 0.0, 0.02)), "keep, keep lane");
        assert_eq!(of(&circle(10.0, 0.0, 0.05)), "keep, curve left");
        assert_eq!(of(&circle(18.0, 0.0, -0.15)), "keep, curve right");
        assert_eq!(of(&circle(5.0, 0.0, 0.25)), "keep, turn left");
        assert_eq!(of(&circle(5.0, 0.0, -0.25)), "keep, turn right");
        // Within the lane and back, and over to the next lane.
        for (amplitude, returns, expected) in [
            (-0.9, true, "nudge right"),
            (0.5, true, "nudge left"),
            (3.5, false, "nudge left"),
            (0.1, true, "keep lane"),
        ] {
            let mut plan = circle(10.0, 0.0, 0.0);
            for (step, position) in plan.xyz.iter_mut().enumerate() {
                let turns = std::f32::consts::PI * (step + 1) as f32 / 64.0;
                let turns = if returns { 2.0 * turns } else { turns };
                position[1] = amplitude * (1.0 - turns.cos()) / 2.0;
            }
            assert_eq!(of(&plan), format!("keep, {expected}"));
        }
    }
}
