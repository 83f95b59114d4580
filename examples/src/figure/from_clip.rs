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

    use serde_json::json;

    use super::*;
    use crate::cli::BUNDLED_CLIPS;

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
        for name in BUNDLED_CLIPS {
            let share = on_grey(&bundled(name), |point| point);
            assert!(share.is_nan() || share >= 0.8, "{name}: {share}");
        }
        // The rural scenes have meadows beside the road: ten metres to the right is not on it.
        assert!(on_grey(&bundled("right_curve"), |point| point) == 1.0);
        assert!(on_grey(&bundled("right_curve"), |[x, y, z]| [x, y - 10.0, z]) == 0.0);
    }

    /// The clip with its front-wide camera described as NVIDIA's dataset does, by a lens of the same pictures.
    fn measured(mut clip: Clip) -> Clip {
        let frame = clip.latest_frame(1).unwrap();
        let (width, height) = (frame.width() as f64, frame.height() as f64);
        let rig = clip.extra.remove("camera_rig").unwrap()["1"].clone();
        let focal = width / 2.0 / (rig["hfov_deg"].as_f64().unwrap() / 2.0).to_radians().tan();
        // tan θ to the third order: 0.2 % off at 20 degrees, where the road ahead is.
        let lens = json!({"width": width, "height": height, "cx": width / 2.0, "cy": rig["cy_frac"].as_f64().unwrap() * height,
            "fw_poly_0": 0.0, "fw_poly_1": focal, "fw_poly_2": 0.0, "fw_poly_3": focal / 3.0, "fw_poly_4": 0.0,
            "bw_poly_0": 0.0, "bw_poly_1": 1.0 / focal, "bw_poly_2": 0.0, "bw_poly_3": 0.0, "bw_poly_4": 0.0});
        let place = json!({"qx": -0.5, "qy": 0.5, "qz": -0.5, "qw": 0.5, "x": rig["x"], "y": rig["y"], "z": rig["z"]});
        clip.extra.insert("camera_intrinsics".into(), json!({"1": lens}));
        clip.extra.insert("sensor_extrinsics".into(), json!({"1": place}));
        clip
    }

    #[test]
    fn a_measured_camera_puts_the_path_where_its_rig_does() {
        let clip = bundled("right_curve");
        let known = FigureInput::from_clip(&clip).cameras[1].projection.unwrap();
        let clip = measured(clip);
        assert_eq!(on_grey(&clip, |point| point), 1.0);
        let mut input = FigureInput::from_clip(&clip);
        let projections: Vec<bool> = input.cameras.iter().map(|camera| camera.projection.is_some()).collect();
        assert_eq!(projections, [false, true, false, false]);
        let projection = input.cameras[1].projection.unwrap();
        let path = clip.ego_future_xyz.as_deref().unwrap();
        let ahead = path.iter().filter(|point| (6.0..25.0).contains(&point[0]));
        let mut compared = 0;
        for point in ahead.map(|point| point.map(f64::from)) {
            let (a, b) = (projection.project(point).unwrap(), known.project(point).unwrap());
            let pixels = [(a[0] - b[0]) * 480.0, (a[1] - b[1]) * 288.0];
            assert!(pixels[0].hypot(pixels[1]) < 0.5, "{point:?} is {pixels:?} pixels off");
            compared += 1;
        }
        assert!(compared > 5);

        // The path is drawn: the truth's line and what is below it, clipped to the frame.
        let without = crate::figure::draw(&input).unwrap().to_svg();
        let trajectory = Trajectory::from_yaws(path.to_vec(), vec![0.0; path.len()]);
        input.plan(&trajectory, "Follow the curve.");
        input.cameras[1].projection = None;
        let unseen = crate::figure::draw(&input).unwrap().to_svg();
        input.cameras[1].projection = Some(projection);
        let drawn = crate::figure::draw(&input).unwrap().to_svg();
        assert!(drawn.matches("<path ").count() > unseen.matches("<path ").count());
        assert_ne!(drawn, without);
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
