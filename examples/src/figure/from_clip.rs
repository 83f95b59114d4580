//! A figure's input from a clip.

use alpamayo_core::Trajectory;
use alpamayo_core::clip::Clip;
use serde_json::{Map, Value};

use super::input::{Camera, FigureInput, Plan, Track, Vehicle};
use super::projection::Projection;

impl<'a> FigureInput<'a> {
    /// What a clip holds: its cameras at t0, history, future and sentence; plans and numbers are added to it.
    ///
    /// Calibrations are taken from the clip's further fields, see [`Projection::from_json`]; the vehicle's size from
    /// `vehicle_dimensions` (`length`, `width`, `rear_axle_to_bbox_center`, metres), where that is there.
    ///
    /// ```no_run
    /// # use alpamayo_examples::figure::{self, FigureInput};
    /// # fn example(trajectory: alpamayo_core::Trajectory) -> Result<(), Box<dyn std::error::Error>> {
    /// let clip = alpamayo_core::clip::Clip::read(std::path::Path::new("data/nano/clips/red_light"))?;
    /// let mut input = FigureInput::from_clip(&clip);
    /// input.plan(&trajectory, "Stop for the red traffic light ahead.");
    /// input.number("ADE", "0.12 m");
    /// figure::draw(&input)?.write(std::path::Path::new("red_light.png"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_clip(clip: &'a Clip) -> Self {
        let cameras = clip.camera_indices.iter().filter_map(|index| {
            let frame = clip.latest_frame(*index)?;
            Some(Camera {
                index: *index,
                width: frame.width(),
                height: frame.height(),
                rgb: frame.rgb(),
                projection: Projection::from_json(&clip.extra, *index, [frame.width(), frame.height()]),
            })
        });
        Self {
            title: clip.name.clone(),
            description: clip.description.clone().unwrap_or_default(),
            cameras: cameras.collect(),
            history: Track::new(&clip.ego_history_xyz, &clip.ego_history_rot),
            truth: clip
                .ego_future_xyz
                .as_deref()
                .map(|xyz| Track::new(xyz, clip.ego_future_rot.as_deref().unwrap_or(&[]))),
            true_reasoning: clip.coc.clone(),
            vehicle: vehicle(&clip.extra),
            ..Self::default()
        }
    }

    /// Adds a sample of the model.
    pub fn plan(&mut self, trajectory: &'a Trajectory, reasoning: &'a str) {
        self.plans.push(Plan::new(Track::from(trajectory), reasoning));
    }
}

fn vehicle(fields: &Map<String, Value>) -> Vehicle {
    let size = |name: &str| {
        fields
            .get("vehicle_dimensions")?
            .get(name)?
            .as_f64()
            .filter(|value| value.is_finite())
    };
    let usual = Vehicle::default();
    Vehicle {
        length: size("length").unwrap_or(usual.length),
        width: size("width").unwrap_or(usual.width),
        rear_axle_to_center: size("rear_axle_to_bbox_center").unwrap_or(usual.rear_axle_to_center),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const CLIPS: [&str; 6] = [
        "barriers",
        "green_start",
        "pedestrian",
        "red_light",
        "right_curve",
        "slow_truck",
    ];

    fn bundled(name: &str) -> Clip {
        let clips = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/data/nano/clips"));
        Clip::read(clips.join(name)).unwrap()
    }

    /// The share of the points up to 25 m ahead that what was driven puts on grey pixels of the front-wide camera, after
    /// `moved` is done to them.
    fn on_grey(clip: &Clip, moved: impl Fn([f64; 3]) -> [f64; 3]) -> f64 {
        let input = FigureInput::from_clip(clip);
        let camera = input.cameras.iter().find(|camera| camera.index == 1).unwrap();
        let projection = camera.projection.unwrap();
        let points = input.truth.unwrap().xyz.iter().map(|point| moved(point.map(f64::from)));
        let seen = points
            .filter(|point| (5.0..25.0).contains(&point[0]))
            .filter_map(|point| projection.project(point));
        let grey: Vec<bool> = seen
            .filter(|share| share.iter().all(|value| (0.0..1.0).contains(value)))
            .map(|[x, y]| {
                let (column, row) = ((x * camera.width as f64) as usize, (y * camera.height as f64) as usize);
                let pixel = &camera.rgb[3 * (row * camera.width + column)..][..3];
                pixel.iter().max().unwrap() - pixel.iter().min().unwrap() < 24
            })
            .collect();
        if grey.is_empty() {
            return f64::NAN;
        }
        grey.iter().filter(|grey| **grey).count() as f64 / grey.len() as f64
    }

    #[test]
    fn what_was_driven_lies_on_the_road() {
        for name in CLIPS {
            let share = on_grey(&bundled(name), |point| point);
            assert!(share.is_nan() || share >= 0.8, "{name}: {share}");
        }
        // The rural scenes have meadows beside the road: ten metres to the right is not on it.
        assert!(on_grey(&bundled("right_curve"), |point| point) == 1.0);
        assert!(on_grey(&bundled("right_curve"), |[x, y, z]| [x, y - 10.0, z]) == 0.0);
    }

    #[test]
    fn a_clip_gives_everything_it_holds() {
        let clip = bundled("red_light");
        let mut input = FigureInput::from_clip(&clip);
        assert_eq!(input.title, "red_light");
        assert_eq!(
            input.cameras.iter().map(|camera| camera.index).collect::<Vec<_>>(),
            [0, 1, 2, 6]
        );
        assert!(input.cameras.iter().all(|camera| camera.projection.is_some()));
        assert_eq!(input.true_reasoning, clip.coc);
        let future = clip.ego_future_xyz.clone().unwrap();
        let trajectory = Trajectory::from_yaws(future.clone(), vec![0.0; future.len()]);
        input.plan(&trajectory, "Stop.");
        assert_eq!(input.plans[0].track.ade(&input.truth.unwrap()), Some(0.0));
        let svg = crate::figure::draw(&input).unwrap().to_svg();
        assert_eq!(svg.matches("<image ").count(), 4);
        assert!(svg.contains("ADE 0.00 m"));
    }
}
