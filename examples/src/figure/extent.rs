//! What the axes of a figure show.

use super::input::FigureInput;
use super::profile;
use crate::chart::Axis;
use crate::chart::axis::span;

/// The sharpest curvature that the axis is made wide for, in 1/m: the bound of the model's action space.
const SHARPEST: f64 = 0.2;

/// What the axes of a figure show, so that several figures can show the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    /// Metres behind (negative) and ahead of the vehicle.
    pub forward: [f64; 2],
    /// Metres to the right (negative) and to the left.
    pub left: [f64; 2],
    /// Metres per second.
    pub speed: [f64; 2],
    /// One over metres, to the right negative.
    pub curvature: [f64; 2],
}

impl Extent {
    /// What holds everything that one figure shows.
    pub fn of(input: &FigureInput) -> Self {
        let tracks = || {
            let plans = input.plans.iter().map(|plan| plan.track);
            plans.chain(input.truth).chain([input.history])
        };
        let points: Vec<[f64; 2]> = tracks().flat_map(|track| track.ground()).collect();
        let metres = |axis: usize| span(points.iter().map(|point| point[axis]).chain([0.0])).unwrap_or([0.0; 2]);
        let ([back, front], [right, left]) = (metres(0), metres(1));
        let profiles: Vec<profile::Profile> = tracks().map(|track| profile::of(&track, 0.0)).collect();
        let speeds = profiles
            .iter()
            .flat_map(|profile| profile.speed.iter().map(|point| point[1]))
            .chain([0.0]);
        let curvatures = profiles.iter().flat_map(|profile| {
            profile
                .curvature
                .iter()
                .map(|point| point[1].clamp(-SHARPEST, SHARPEST))
        });
        Self {
            forward: [back.min(-6.0) - 3.0, front.max(30.0) + 6.0],
            left: [right.min(-6.0) - 3.0, left.max(6.0) + 3.0],
            speed: Axis::default().at_least(0.0, 5.0).resolve(speeds),
            curvature: Axis::default().at_least(-0.02, 0.02).resolve(curvatures),
        }
    }

    /// What holds both.
    pub fn union(&self, other: &Self) -> Self {
        let hull = |a: [f64; 2], b: [f64; 2]| [a[0].min(b[0]), a[1].max(b[1])];
        Self {
            forward: hull(self.forward, other.forward),
            left: hull(self.left, other.left),
            speed: hull(self.speed, other.speed),
            curvature: hull(self.curvature, other.curvature),
        }
    }
}
