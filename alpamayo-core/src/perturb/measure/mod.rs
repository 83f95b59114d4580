//! What moved: a clean run against a perturbed one of the same clip, seed and noise.
//!
//! - [`PlanChange`] and [`SampleChange`]: between trajectories.
//! - [`ReasoningChange`]: between sentences.
//! - [`Intent`]: what a sentence states and what a trajectory drives, to see whether they flip and whether they agree.

mod driven;
mod intent;
mod motion;
mod plan;
mod reasoning;
mod stated;

pub use driven::driven_intent;
pub use intent::{Intent, IntentChange, PathIntent, Side, SpeedIntent};
pub use motion::Motion;
pub use plan::{PlanChange, SampleChange};
pub use reasoning::{DiffWord, ReasoningChange, edit_distance, word_diff};
pub use stated::stated_intent;

#[cfg(test)]
mod tests {
    use crate::Trajectory;

    /// 64 poses of constant acceleration and yaw rate; the car does not drive backwards.
    pub(super) fn circle(speed: f64, accel: f64, yaw_rate: f64) -> Trajectory {
        let (mut xyz, mut yaws) = (Vec::new(), Vec::new());
        let (mut x, mut y) = (0.0, 0.0);
        // Small steps, so that the path is the circle's.
        for step in 1..=6400 {
            let time = (f64::from(step) - 0.5) * 1e-3;
            let now = (speed + accel * time).max(0.0);
            x += now * (yaw_rate * time).cos() * 1e-3;
            y += now * (yaw_rate * time).sin() * 1e-3;
            if step % 100 == 0 {
                xyz.push([x as f32, y as f32, 0.0]);
                yaws.push((yaw_rate * f64::from(step) * 1e-3) as f32);
            }
        }
        Trajectory::from_yaws(xyz, yaws)
    }
}
