//! From a point in the world to a pixel.

use serde_json::{Map, Value};

/// Nearest distance in metres at which a pinhole camera shows a point.
const NEAR: f64 = 0.3;

/// How a camera sees the world: where it is on the vehicle, and which pixel a direction falls on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Projection {
    /// Where the camera is, metres in the vehicle's frame (x forward, y left, z up; origin on the ground below the
    /// rear axle).
    position: [f64; 3],
    /// From the camera's frame (x right, y down, z ahead) to the vehicle's.
    rotation: [[f64; 3]; 3],
    lens: Lens,
    /// Width and height in pixels of the frames that the lens was measured on.
    size: [f64; 2],
}

/// Which pixel a direction falls on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lens {
    /// Straight lines stay straight.
    Pinhole { focal: f64, center: [f64; 2] },
    /// The distance from the centre is a polynomial of the angle, as NVIDIA's dataset describes its cameras.
    FTheta {
        center: [f64; 2],
        forward: [f64; 5],
        widest: f64,
    },
}

impl Projection {
    /// A pinhole camera that looks level: `yaw` in degrees to the left, `field_of_view` in degrees from the left to the
    /// right edge, `horizon` as a share of the height from the top; `size` is width and height in pixels.
    pub fn pinhole(position: [f64; 3], yaw: f64, field_of_view: f64, horizon: f64, size: [usize; 2]) -> Option<Self> {
        let [width, height] = size.map(|length| length as f64);
        let focal = width / 2.0 / (field_of_view.to_radians() / 2.0).tan();
        let (sine, cosine) = yaw.to_radians().sin_cos();
        let valid = focal.is_finite() && focal > 0.0 && field_of_view < 180.0 && horizon.is_finite();
        valid.then_some(Self {
            position,
            rotation: [[sine, 0.0, cosine], [-cosine, 0.0, sine], [0.0, -1.0, 0.0]],
            lens: Lens::Pinhole {
                focal,
                center: [width / 2.0, horizon * height],
            },
            size: [width, height],
        })
    }

    /// An f-theta camera: with θ the angle between a direction and the optical axis, the pixel is `center` plus
    /// Σ `forward[i]`·θⁱ in the direction's own direction on the image; `backward` is the inverse polynomial, from
    /// pixels to radians. `quaternion` is (x, y, z, w) of the camera in the vehicle's frame.
    pub fn f_theta(
        position: [f64; 3],
        quaternion: [f64; 4],
        center: [f64; 2],
        forward: [f64; 5],
        backward: [f64; 5],
        size: [usize; 2],
    ) -> Option<Self> {
        let size = size.map(|length| length as f64);
        let corner = |x: f64, y: f64| (x - center[0]).hypot(y - center[1]);
        let farthest = [
            corner(0.0, 0.0),
            corner(size[0], 0.0),
            corner(0.0, size[1]),
            corner(size[0], size[1]),
        ];
        let widest = polynomial(&backward, farthest.into_iter().fold(0.0, f64::max));
        let rotation = rotation(quaternion)?;
        let valid = widest.is_finite() && widest > 0.0 && forward.iter().all(|c| c.is_finite());
        valid.then_some(Self {
            position,
            rotation,
            lens: Lens::FTheta {
                center,
                forward,
                widest,
            },
            size,
        })
    }

    /// The pixel of a point in the vehicle's frame at t0, as shares of the frame's width and height; `None` where the
    /// camera cannot see in its direction. Points beside the frame are outside of 0 to 1.
    pub fn project(&self, point: [f64; 3]) -> Option<[f64; 2]> {
        let offset: [f64; 3] = std::array::from_fn(|i| point[i] - self.position[i]);
        let [x, y, z]: [f64; 3] =
            std::array::from_fn(|column| (0..3).map(|row| self.rotation[row][column] * offset[row]).sum());
        let pixel = match self.lens {
            Lens::Pinhole { focal, center } if z >= NEAR => [center[0] + focal * x / z, center[1] + focal * y / z],
            Lens::Pinhole { .. } => return None,
            Lens::FTheta {
                center,
                forward,
                widest,
            } => {
                let sideways = x.hypot(y);
                let angle = sideways.atan2(z);
                if angle > widest {
                    return None;
                }
                let stretch = if sideways > 0.0 {
                    polynomial(&forward, angle) / sideways
                } else {
                    0.0
                };
                [center[0] + stretch * x, center[1] + stretch * y]
            }
        };
        let share = [pixel[0] / self.size[0], pixel[1] / self.size[1]];
        share.iter().all(|value| value.is_finite()).then_some(share)
    }

    /// The projection of camera `index` as a clip's JSON describes it: `camera_rig` (x, y, z, `yaw_deg`, `hfov_deg`,
    /// `cy_frac`), or `camera_intrinsics` and `sensor_extrinsics` with the columns of NVIDIA's dataset, each an object
    /// by camera index. `size` is the frames' width and height. `None` where neither is there or complete.
    pub fn from_json(fields: &Map<String, Value>, index: usize, size: [usize; 2]) -> Option<Self> {
        let entry = |name: &str| fields.get(name)?.get(index.to_string());
        if let Some(rig) = entry("camera_rig") {
            let [x, y, z, yaw, field_of_view] = numbers(rig, ["x", "y", "z", "yaw_deg", "hfov_deg"])?;
            let horizon = rig.get("cy_frac").and_then(Value::as_f64).unwrap_or(0.5);
            return Self::pinhole([x, y, z], yaw, field_of_view, horizon, size);
        }
        let (lens, place) = (entry("camera_intrinsics")?, entry("sensor_extrinsics")?);
        let [width, height, cx, cy] = numbers(lens, ["width", "height", "cx", "cy"])?;
        let [x, y, z] = numbers(place, ["x", "y", "z"])?;
        let quaternion = numbers(place, ["qx", "qy", "qz", "qw"])?;
        let (forward, backward) = (coefficients(lens, "fw_poly")?, coefficients(lens, "bw_poly")?);
        let measured_on = [width as usize, height as usize];
        Self::f_theta([x, y, z], quaternion, [cx, cy], forward, backward, measured_on)
    }
}

fn polynomial(coefficients: &[f64; 5], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

fn rotation(quaternion: [f64; 4]) -> Option<[[f64; 3]; 3]> {
    let norm = quaternion.iter().map(|q| q * q).sum::<f64>().sqrt();
    if !(norm.is_finite() && norm > 1e-6) {
        return None;
    }
    let [x, y, z, w] = quaternion.map(|q| q / norm);
    Some([
        [
            1.0 - 2.0 * (y * y + z * z),
            2.0 * (x * y - z * w),
            2.0 * (x * z + y * w),
        ],
        [
            2.0 * (x * y + z * w),
            1.0 - 2.0 * (x * x + z * z),
            2.0 * (y * z - x * w),
        ],
        [
            2.0 * (x * z - y * w),
            2.0 * (y * z + x * w),
            1.0 - 2.0 * (x * x + y * y),
        ],
    ])
}

fn numbers<const N: usize>(object: &Value, names: [&str; N]) -> Option<[f64; N]> {
    let mut values = [0.0; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = object.get(name)?.as_f64()?;
    }
    Some(values)
}

/// Five coefficients, as an array or as five fields `name_0` … `name_4`.
fn coefficients(object: &Value, name: &str) -> Option<[f64; 5]> {
    let mut values = [0.0; 5];
    for (i, value) in values.iter_mut().enumerate() {
        let field = object.get(name).and_then(|list| list.get(i));
        *value = field.or_else(|| object.get(format!("{name}_{i}")))?.as_f64()?;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Of a camera that looks forward: right is -y, down is -z, ahead is x.
    const FORWARD: [f64; 4] = [-0.5, 0.5, -0.5, 0.5];

    fn near(a: Option<[f64; 2]>, b: [f64; 2]) -> bool {
        a.is_some_and(|a| (a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9)
    }

    #[test]
    fn pinhole_points_fall_where_geometry_says() {
        let camera = Projection::pinhole([1.7, 0.0, 1.5], 0.0, 90.0, 0.5, [480, 240]).unwrap();
        // Straight ahead at the camera's height: the centre. A field of view of 90 degrees: a focal length of 240.
        assert!(near(camera.project([21.7, 0.0, 1.5]), [0.5, 0.5]));
        assert!(near(camera.project([11.7, 10.0, 1.5]), [0.0, 0.5]));
        assert!(near(camera.project([11.7, -5.0, 0.0]), [0.75, 0.5 + 0.15]));
        assert_eq!(camera.project([0.0, 0.0, 0.0]), None);
        // A camera turned to the left has what is on the left in its centre.
        let left = Projection::pinhole([0.0, 0.0, 1.5], 60.0, 120.0, 0.5, [480, 288]).unwrap();
        let (sine, cosine) = 60f64.to_radians().sin_cos();
        assert!(near(left.project([20.0 * cosine, 20.0 * sine, 1.5]), [0.5, 0.5]));
        assert!(left.project([20.0, 1.0, 1.5]).unwrap()[0] > 0.9);
    }

    #[test]
    fn f_theta_distance_is_the_polynomial_of_the_angle() {
        let (forward, backward) = ([0.0, 900.0, 0.0, -20.0, 0.0], [0.0, 1.0 / 900.0, 0.0, 0.0, 0.0]);
        let camera = Projection::f_theta(
            [1.0, 0.0, 1.5],
            FORWARD,
            [960.0, 540.0],
            forward,
            backward,
            [1920, 1080],
        )
        .unwrap();
        assert!(near(camera.project([31.0, 0.0, 1.5]), [0.5, 0.5]));
        let angle = 0.6f64;
        let radius = 900.0 * angle - 20.0 * angle.powi(3);
        let right = camera.project([1.0 + angle.cos(), -angle.sin(), 1.5]);
        assert!(near(right, [(960.0 + radius) / 1920.0, 0.5]), "{right:?}");
        let below = camera.project([1.0 + 0.4f64.cos(), 0.0, 1.5 - 0.4f64.sin()]);
        let radius = 900.0 * 0.4 - 20.0 * 0.4f64.powi(3);
        assert!(near(below, [0.5, (540.0 + radius) / 1080.0]), "{below:?}");
        assert_eq!(camera.project([-20.0, 0.0, 1.5]), None);
    }

    #[test]
    fn calibrations_are_read_from_json() {
        let fields = json!({
            "camera_rig": {"1": {"x": 1.7, "y": 0.0, "z": 1.5, "yaw_deg": 0.0, "hfov_deg": 90.0, "cy_frac": 0.5}},
            "camera_intrinsics": {"2": {"width": 1920, "height": 1080, "cx": 960.0, "cy": 540.0,
                "fw_poly_0": 0.0, "fw_poly_1": 900.0, "fw_poly_2": 0.0, "fw_poly_3": 0.0, "fw_poly_4": 0.0,
                "bw_poly": [0.0, 0.00111, 0.0, 0.0, 0.0]}},
            "sensor_extrinsics": {"2": {"qx": -0.5, "qy": 0.5, "qz": -0.5, "qw": 0.5, "x": 1.7, "y": 0.0, "z": 1.5}},
        });
        let fields = fields.as_object().unwrap();
        let rig = Projection::from_json(fields, 1, [480, 240]).unwrap();
        assert!(near(rig.project([11.7, 10.0, 1.5]), [0.0, 0.5]));
        let measured = Projection::from_json(fields, 2, [960, 540]).unwrap();
        assert!(near(measured.project([31.7, 0.0, 1.5]), [0.5, 0.5]));
        assert_eq!(Projection::from_json(fields, 3, [480, 240]), None);
        assert_eq!(Projection::from_json(&Map::new(), 1, [480, 240]), None);
    }

    proptest! {
        /// With r = fθ and small angles both lenses agree.
        #[test]
        fn lenses_agree_near_the_axis(y in -0.5..0.5f64, z in 1.0..2.0f64) {
            let pinhole = Projection::pinhole([0.0, 0.0, 1.5], 0.0, 90.0, 0.5, [1000, 1000]).unwrap();
            let (forward, backward) = ([0.0, 500.0, 0.0, 0.0, 0.0], [0.0, 0.002, 0.0, 0.0, 0.0]);
            let f_theta =
                Projection::f_theta([0.0, 0.0, 1.5], FORWARD, [500.0; 2], forward, backward, [1000, 1000]).unwrap();
            let (a, b) = (pinhole.project([40.0, y, z]).unwrap(), f_theta.project([40.0, y, z]).unwrap());
            prop_assert!((a[0] - b[0]).abs() < 1e-6 && (a[1] - b[1]).abs() < 1e-6);
        }
    }
}
