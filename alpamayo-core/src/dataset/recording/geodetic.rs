//! Latitude, longitude and height on the WGS 84 ellipsoid, as metres around a point.

/// Semi-major axis, metres.
const EQUATOR: f64 = 6_378_137.0;
/// Flattening.
const FLATTENING: f64 = 1.0 / 298.257_223_563;

/// Latitude and longitude in degrees, height above the ellipsoid in metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Geodetic {
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    pub(super) height: f64,
}

impl Geodetic {
    /// Metres east, north and up of `origin`, in the plane that touches the ellipsoid there.
    pub(super) fn seen_from(self, origin: Self) -> [f64; 3] {
        let (here, there) = (self.earth_centred(), origin.earth_centred());
        let [x, y, z]: [f64; 3] = std::array::from_fn(|i| here[i] - there[i]);
        let (sin_lat, cos_lat) = origin.latitude.to_radians().sin_cos();
        let (sin_lon, cos_lon) = origin.longitude.to_radians().sin_cos();
        let outward = cos_lon * x + sin_lon * y;
        [
            cos_lon * y - sin_lon * x,
            cos_lat * z - sin_lat * outward,
            cos_lat * outward + sin_lat * z,
        ]
    }

    /// Metres from the Earth's centre: towards 0° N 0° E, towards 0° N 90° E, towards the north pole.
    fn earth_centred(self) -> [f64; 3] {
        let (sin_lat, cos_lat) = self.latitude.to_radians().sin_cos();
        let (sin_lon, cos_lon) = self.longitude.to_radians().sin_cos();
        let eccentricity = FLATTENING * (2.0 - FLATTENING);
        let normal = EQUATOR / (1.0 - eccentricity * sin_lat * sin_lat).sqrt();
        let outward = (normal + self.height) * cos_lat;
        let up = (normal * (1.0 - eccentricity) + self.height) * sin_lat;
        [outward * cos_lon, outward * sin_lon, up]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn axes_of_the_ellipsoid() {
        let at = |latitude, longitude, height| {
            Geodetic {
                latitude,
                longitude,
                height,
            }
            .earth_centred()
        };
        let close = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close(at(0.0, 0.0, 0.0), [6_378_137.0, 0.0, 0.0]));
        assert!(close(at(0.0, 90.0, 10.0), [0.0, 6_378_147.0, 0.0]));
        assert!(close(at(90.0, 0.0, 0.0), [0.0, 0.0, 6_356_752.314_2]));
    }

    proptest! {
        /// Small steps have the lengths that the radii of curvature give them.
        #[test]
        fn steps_east_north_and_up(latitude in -80.0..80.0f64, longitude in -180.0..180.0f64, step in -1e-4..1e-4f64) {
            let origin = Geodetic { latitude, longitude, height: 0.0 };
            let eccentricity = FLATTENING * (2.0 - FLATTENING);
            let w = 1.0 - eccentricity * latitude.to_radians().sin().powi(2);
            let (meridian, normal) = (EQUATOR * (1.0 - eccentricity) / w.powf(1.5), EQUATOR / w.sqrt());
            let angle = step.to_radians();
            let [_, north, _] = Geodetic { latitude: latitude + step, ..origin }.seen_from(origin);
            prop_assert!((north - meridian * angle).abs() < 1e-3, "{north}");
            let [east, ..] = Geodetic { longitude: longitude + step, ..origin }.seen_from(origin);
            prop_assert!((east - normal * latitude.to_radians().cos() * angle).abs() < 1e-3, "{east}");
            let up = Geodetic { height: 5.0, ..origin }.seen_from(origin);
            prop_assert!(up[0].abs() < 1e-6 && up[1].abs() < 1e-6 && (up[2] - 5.0).abs() < 1e-6);
        }
    }
}
