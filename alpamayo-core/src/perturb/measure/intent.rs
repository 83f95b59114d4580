//! What a car means to do, in words or in a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An intent in two parts, each unknown (`None`) where a sentence does not speak of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Intent {
    /// Along the road.
    pub speed: Option<SpeedIntent>,
    /// Across it.
    pub path: Option<PathIntent>,
}

/// What happens to the speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpeedIntent {
    /// Come to a stand, or stay there.
    Stop,
    /// Let somebody else go first. A reason more than a motion: only sentences say it.
    Yield,
    /// Drive more slowly.
    Slow,
    /// Drive on as before.
    Keep,
    /// Start, or drive faster.
    Accelerate,
}

/// What happens to the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathIntent {
    /// Stay in a straight lane.
    Keep,
    /// Move sideways, within the lane or to the next.
    Nudge(Side),
    /// Follow the road's bend.
    Curve(Side),
    /// Turn off.
    Turn(Side),
}

/// A side of the car.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Left.
    Left,
    /// Right.
    Right,
}

impl Intent {
    /// Whether a plan does what a sentence says. `self` is stated, `driven` comes from the plan.
    ///
    /// What is not stated agrees with everything. Stopping, yielding and slowing down agree with a plan that stops or
    /// slows down, since 6.4 s may not be enough to come to a stand. Keeping the lane agrees with following its bend,
    /// and a turn with a bend to the same side.
    pub fn agrees_with(&self, driven: &Self) -> bool {
        use SpeedIntent::{Accelerate, Keep, Slow, Stop, Yield};
        let speed = match (self.speed, driven.speed) {
            (None, _) | (_, None) => true,
            (Some(Stop | Yield | Slow), Some(driven)) => matches!(driven, Stop | Yield | Slow),
            (Some(stated @ (Keep | Accelerate)), Some(driven)) => stated == driven,
        };
        let path = match (self.path, driven.path) {
            (None, _) | (_, None) => true,
            (Some(PathIntent::Keep), Some(driven)) => matches!(driven, PathIntent::Keep | PathIntent::Curve(_)),
            (Some(PathIntent::Nudge(side)), Some(driven)) => driven == PathIntent::Nudge(side),
            (Some(PathIntent::Curve(side) | PathIntent::Turn(side)), Some(driven)) => {
                driven == PathIntent::Curve(side) || driven == PathIntent::Turn(side)
            }
        };
        speed && path
    }
}

impl fmt::Display for Intent {
    /// `stop`, `nudge left`, `slow, curve right`; `unstated` where nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side| match side {
            Side::Left => "left",
            Side::Right => "right",
        };
        let speed = self.speed.map(|speed| match speed {
            SpeedIntent::Stop => "stop".to_owned(),
            SpeedIntent::Yield => "yield".to_owned(),
            SpeedIntent::Slow => "slow".to_owned(),
            SpeedIntent::Keep => "keep".to_owned(),
            SpeedIntent::Accelerate => "accelerate".to_owned(),
        });
        let path = self.path.map(|path| match path {
            PathIntent::Keep => "keep lane".to_owned(),
            PathIntent::Nudge(to) => format!("nudge {}", side(to)),
            PathIntent::Curve(to) => format!("curve {}", side(to)),
            PathIntent::Turn(to) => format!("turn {}", side(to)),
        });
        let parts: Vec<String> = speed.into_iter().chain(path).collect();
        f.write_str(if parts.is_empty() { "unstated" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// Stated and driven intents, clean and perturbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentChange {
    /// What the sentence says: clean, perturbed.
    pub stated: [Intent; 2],
    /// What the plan does: clean, perturbed.
    pub driven: [Intent; 2],
}

impl IntentChange {
    /// Whether the sentence says something else.
    pub fn stated_flips(&self) -> bool {
        self.stated[0] != self.stated[1]
    }

    /// Whether the plan does something else.
    pub fn driven_flips(&self) -> bool {
        self.driven[0] != self.driven[1]
    }

    /// Whether words and plan agree: clean, perturbed.
    pub fn agreement(&self) -> [bool; 2] {
        [0, 1].map(|run| self.stated[run].agrees_with(&self.driven[run]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(speed: Option<SpeedIntent>, path: Option<PathIntent>) -> Intent {
        Intent { speed, path }
    }

    #[test]
    fn agreement_allows_what_the_horizon_cuts_off() {
        let straight = Some(PathIntent::Keep);
        let slowing = intent(Some(SpeedIntent::Slow), straight);
        let keeping = intent(Some(SpeedIntent::Keep), straight);
        for stated in [SpeedIntent::Stop, SpeedIntent::Yield, SpeedIntent::Slow] {
            assert!(intent(Some(stated), None).agrees_with(&slowing));
            assert!(!intent(Some(stated), None).agrees_with(&keeping));
        }
        assert!(!intent(Some(SpeedIntent::Keep), None).agrees_with(&slowing));
        assert!(!intent(Some(SpeedIntent::Accelerate), None).agrees_with(&keeping));
        assert!(Intent::default().agrees_with(&slowing));

        let bend = intent(None, Some(PathIntent::Curve(Side::Left)));
        assert!(intent(None, Some(PathIntent::Turn(Side::Left))).agrees_with(&bend));
        assert!(intent(None, straight).agrees_with(&bend));
        assert!(!intent(None, Some(PathIntent::Turn(Side::Right))).agrees_with(&bend));
        assert!(!intent(None, Some(PathIntent::Nudge(Side::Left))).agrees_with(&bend));
    }

    #[test]
    fn changes_are_flips() {
        let stop = intent(Some(SpeedIntent::Stop), None);
        let keep = intent(Some(SpeedIntent::Keep), Some(PathIntent::Keep));
        let change = IntentChange {
            stated: [stop, keep],
            driven: [stop, stop],
        };
        assert!(change.stated_flips() && !change.driven_flips());
        assert_eq!(change.agreement(), [true, false]);
        assert_eq!(stop.to_string(), "stop");
        assert_eq!(keep.to_string(), "keep, keep lane");
        assert_eq!(
            intent(None, Some(PathIntent::Nudge(Side::Left))).to_string(),
            "nudge left"
        );
        assert_eq!(Intent::default().to_string(), "unstated");
    }
}
