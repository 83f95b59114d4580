//! The prediction that needs no model.

use crate::{Result, Trajectory, UnicycleActionSpace};

/// Straight on at the speed and in the direction that the vehicle has at t0.
///
/// The speed is the action space's own estimate from the history (`[poses, 3]`, `[poses, 3, 3]`, last pose at the origin
/// looking along x), so that a model is compared with a baseline that knows exactly as much. As many poses as the action
/// space has waypoints; z is that of the last history pose.
///
/// # Errors
/// Those of [`UnicycleActionSpace::estimate_v0`].
pub fn constant_velocity(
    space: &UnicycleActionSpace<f32>,
    history_xyz: &[[f32; 3]],
    history_rot: &[[[f32; 3]; 3]],
) -> Result<Trajectory> {
    let v0 = f64::from(space.estimate_v0(history_xyz, history_rot)?);
    let z = history_xyz.last().map_or(0.0, |position| position[2]);
    let steps = 1..=space.n_waypoints();
    let xyz: Vec<[f32; 3]> = steps
        .map(|step| [(v0 * space.dt() * step as f64) as f32, 0.0, z])
        .collect();
    let yaws = vec![0.0; xyz.len()];
    Ok(Trajectory::from_yaws(xyz, yaws))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{UnicycleConfig, rotation_from_yaw};

    #[test]
    fn constant_motion_is_continued() {
        let space = UnicycleActionSpace::new(&UnicycleConfig::default());
        let history: Vec<[f32; 3]> = (-15..=0).map(|i| [i as f32 * 1.2, 0.0, 0.25]).collect();
        let rotations = [rotation_from_yaw(0.0); 16];
        let predicted = constant_velocity(&space, &history, &rotations).unwrap();
        assert_eq!(predicted.len(), 64);
        for (i, [x, y, z]) in predicted.xyz.iter().enumerate() {
            assert!((x - (i + 1) as f32 * 1.2).abs() < 1e-2, "{x}");
            assert_eq!((*y, *z), (0.0, 0.25));
        }
    }
}
