//! What a figure shows.

use alpamayo_core::Trajectory;
use alpamayo_core::metrics::ade;

use super::extent::Extent;
use super::projection::Projection;

/// Seconds from pose to pose.
pub const STEP: f64 = 0.1;

/// Poses at 10 Hz in the vehicle's frame at t0: x forward, y left, z up, metres.
#[derive(Clone, Copy, Debug, Default)]
pub struct Track<'a> {
    /// Positions, `[steps, 3]`.
    pub xyz: &'a [[f32; 3]],
    /// Rotations, `[steps, 3, 3]`; where there are none, the headings are those of the displacements.
    pub rot: &'a [[[f32; 3]; 3]],
}

impl<'a> Track<'a> {
    /// A track of positions `[steps, 3]` and rotations `[steps, 3, 3]`.
    pub fn new(xyz: &'a [[f32; 3]], rot: &'a [[[f32; 3]; 3]]) -> Self {
        Self { xyz, rot }
    }

    /// Forward and left, in metres.
    pub fn ground(&self) -> Vec<[f64; 2]> {
        self.xyz
            .iter()
            .map(|[x, y, _]| [f64::from(*x), f64::from(*y)])
            .collect()
    }

    /// Heading of every pose in radians, counterclockwise from forward.
    pub fn headings(&self) -> Vec<f64> {
        if self.rot.len() == self.xyz.len() {
            return self
                .rot
                .iter()
                .map(|r| f64::from(r[1][0]).atan2(f64::from(r[0][0])))
                .collect();
        }
        let ground = self.ground();
        let heading = |i: usize| {
            let (from, to) = (ground[i.saturating_sub(1)], ground[(i + 1).min(ground.len() - 1)]);
            (to[1] - from[1]).atan2(to[0] - from[0])
        };
        (0..ground.len()).map(heading).collect()
    }

    /// The average displacement error against what happened, in metres; `None` where the steps are not the same.
    pub fn ade(&self, truth: &Track) -> Option<f64> {
        ade(self.xyz, truth.xyz).ok()
    }
}

impl<'a> From<&'a Trajectory> for Track<'a> {
    fn from(trajectory: &'a Trajectory) -> Self {
        Self::new(trajectory.xyz(), trajectory.rot())
    }
}

/// One sample of the model.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Where the car would go: poses at 0.1 s, 0.2 s ….
    pub track: Track<'a>,
    /// Why.
    pub reasoning: &'a str,
}

impl<'a> Plan<'a> {
    /// A plan with its reasoning.
    pub fn new(track: Track<'a>, reasoning: &'a str) -> Self {
        Self { track, reasoning }
    }
}

/// What one camera saw at t0.
#[derive(Clone, Copy, Debug)]
pub struct Camera<'a> {
    /// The camera's index in the dataset: 0 cross left, 1 front wide, 2 cross right, 3 rear left, 4 rear tele, 5 rear
    /// right, 6 front tele.
    pub index: usize,
    /// Width of the frame in pixels.
    pub width: usize,
    /// Height of the frame in pixels.
    pub height: usize,
    /// The frame, `[height, width, 3]`.
    pub rgb: &'a [u8],
    /// How the camera sees the world, where that is known.
    pub projection: Option<Projection>,
}

/// Size of the vehicle in metres.
#[derive(Clone, Copy, Debug)]
pub struct Vehicle {
    /// Length.
    pub length: f64,
    /// Width.
    pub width: f64,
    /// From the rear axle, where the poses are, forward to the middle of the vehicle.
    pub rear_axle_to_center: f64,
}

impl Default for Vehicle {
    /// A large passenger car.
    fn default() -> Self {
        Self {
            length: 4.9,
            width: 2.1,
            rear_axle_to_center: 1.4,
        }
    }
}

/// Everything that a figure shows. Every part but the title may be empty.
#[derive(Clone, Debug, Default)]
pub struct FigureInput<'a> {
    /// The title, the clip's name mostly.
    pub title: String,
    /// A sentence or two below it.
    pub description: String,
    /// Numbers beside the title: name and value with its unit.
    pub numbers: Vec<(String, String)>,
    /// The cameras at t0.
    pub cameras: Vec<Camera<'a>>,
    /// The poses up to t0.
    pub history: Track<'a>,
    /// What was driven after t0, where that is known.
    pub truth: Option<Track<'a>>,
    /// The samples.
    pub plans: Vec<Plan<'a>>,
    /// The sentence that the data has for the clip.
    pub true_reasoning: Option<String>,
    /// Size of the vehicle.
    pub vehicle: Vehicle,
    /// What the axes show; chosen by the data where it is not given. Give two figures the same to compare them.
    pub extent: Option<Extent>,
}

impl FigureInput<'_> {
    /// Adds a number beside the title.
    pub fn number(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.numbers.push((name.into(), value.into()));
    }

    /// The sample that comes closest to what happened (minADE's); the first where that is not known.
    pub fn best(&self) -> usize {
        let Some(truth) = &self.truth else { return 0 };
        let error = |plan: &Plan| plan.track.ade(truth).unwrap_or(f64::INFINITY);
        (0..self.plans.len())
            .min_by(|a, b| error(&self.plans[*a]).total_cmp(&error(&self.plans[*b])))
            .unwrap_or(0)
    }

    /// The samples by their reasoning: each sentence with the samples that gave it, in order of first appearance.
    pub fn groups(&self) -> Vec<(&str, Vec<usize>)> {
        let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
        for (i, plan) in self.plans.iter().enumerate() {
            match groups.iter_mut().find(|(reasoning, _)| *reasoning == plan.reasoning) {
                Some((_, samples)) => samples.push(i),
                None => groups.push((plan.reasoning, vec![i])),
            }
        }
        groups
    }
}
