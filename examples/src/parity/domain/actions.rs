//! Actions and trajectories, in f64 and f32.

use std::collections::BTreeMap;

use alpamayo_core::{ActionNormalization, ModelConfig, Scalar, Trajectory, UnicycleActionSpace};

use super::super::Result;
use super::super::golden::{Golden, Values};
use super::{Domain, doubles, get};

/// f64 against f64.
const EXACT: f64 = 1e-9;
/// The inverse in f32 is ill-conditioned: the reference's own f32 actions are this far from its f64 ones. Here they are solved
/// in f64.
const REFERENCE_F32_ACTIONS: f64 = 1e-3;
/// Metres between positions, in either precision.
const POSITIONS: f64 = 2e-5;
const HISTORY: usize = 16;

pub(super) fn compare(domain: &mut Domain<'_>, config: &ModelConfig) -> Result<()> {
    let tensors = domain.tensors("action_space.safetensors")?;
    let space = UnicycleActionSpace::<f64>::new(&config.action_space);
    precision(domain, &tensors, "f64", &space, EXACT, EXACT)?;
    let space = UnicycleActionSpace::<f32>::new(&config.action_space);
    let allowed = domain.tolerance.0;
    precision(domain, &tensors, "f32", &space, allowed, REFERENCE_F32_ACTIONS)?;

    let values = get(&tensors, "bf16_constants.values")?.floats();
    let [accel_mean, accel_std, curvature_mean, curvature_std] = values[..] else {
        return Err("bf16_constants.values are not four".into());
    };
    let normalization = ActionNormalization {
        accel_mean,
        accel_std,
        curvature_mean,
        curvature_std,
    };
    let space = UnicycleActionSpace::<f32>::with_normalization(&config.action_space, normalization);
    let inputs = Inputs::<f32>::new(&tensors, "f32")?;
    let trajectories = inputs.roll_out(&space, "random_action")?;
    trajectories_row(domain, &tensors, "bf16_constants", "random", &trajectories, allowed)
}

fn precision<T: Scalar>(
    domain: &mut Domain<'_>,
    tensors: &BTreeMap<String, Golden>,
    precision: &str,
    space: &UnicycleActionSpace<T>,
    allowed: f64,
    allowed_actions: f64,
) -> Result<()> {
    let inputs = Inputs::<T>::new(tensors, precision)?;
    let mut v0 = Vec::new();
    let mut actions = Vec::new();
    let mut bounds = Vec::new();
    for index in 0..inputs.count() {
        let (xyz, rot) = inputs.poses("history", HISTORY, index)?;
        v0.push(space.estimate_v0(&xyz, &rot)?.to_double());
        let (future_xyz, future_rot) = inputs.poses("future", space.n_waypoints(), index)?;
        let future = Trajectory {
            xyz: future_xyz,
            rot: future_rot,
        };
        actions.extend(
            space
                .trajectory_to_action(&future, &xyz, &rot)?
                .into_iter()
                .flatten()
                .map(Scalar::to_double),
        );
        bounds.push(i64::from(space.within_bounds(&inputs.action("random_action", index)?)));
    }
    let name = |part: &str| format!("{precision}.{part}");
    domain.compare(
        "action_space",
        &name("v0"),
        get(tensors, &name("v0"))?,
        &Values::Float(v0),
        allowed,
    );
    domain.compare(
        "action_space",
        &name("action"),
        get(tensors, &name("action"))?,
        &Values::Float(actions),
        allowed_actions,
    );
    let golden = get(tensors, &name("within_bounds"))?;
    domain.compare(
        "action_space",
        &name("within_bounds"),
        golden,
        &Values::Integer(bounds),
        0.0,
    );
    for (part, action) in [("random", "random_action"), ("roundtrip", "action")] {
        let trajectories = inputs.roll_out(space, action)?;
        trajectories_row(domain, tensors, precision, part, &trajectories, allowed)?;
    }
    Ok(())
}

fn trajectories_row<T: Scalar>(
    domain: &mut Domain<'_>,
    tensors: &BTreeMap<String, Golden>,
    precision: &str,
    part: &str,
    trajectories: &[Trajectory<T>],
    allowed: f64,
) -> Result<()> {
    let xyz = trajectories
        .iter()
        .flat_map(|t| t.xyz())
        .flatten()
        .map(|&x| x.to_double())
        .collect();
    let rot = trajectories
        .iter()
        .flat_map(|t| t.rot())
        .flatten()
        .flatten()
        .map(|&x| x.to_double())
        .collect();
    for (suffix, values, metres) in [("xyz", xyz, POSITIONS), ("rot", rot, f64::INFINITY)] {
        let name = format!("{precision}.{part}_{suffix}");
        let (golden, actual) = (get(tensors, &name)?, Values::Float(values));
        domain.compare_within("action_space", &name, golden, &actual, [allowed, metres]);
    }
    Ok(())
}

/// The golden inputs of one precision.
struct Inputs<'a, T> {
    tensors: &'a BTreeMap<String, Golden>,
    precision: &'a str,
    scalar: std::marker::PhantomData<T>,
}

impl<'a, T: Scalar> Inputs<'a, T> {
    fn new(tensors: &'a BTreeMap<String, Golden>, precision: &'a str) -> Result<Self> {
        Ok(Self {
            tensors,
            precision,
            scalar: std::marker::PhantomData,
        })
    }

    fn count(&self) -> usize {
        self.tensors
            .get(&format!("{}.v0", self.precision))
            .map_or(0, |v0| v0.shape[0])
    }

    fn values(&self, name: &str) -> Result<Vec<T>> {
        let values = doubles(get(self.tensors, &format!("{}.{name}", self.precision))?);
        Ok(values.into_iter().map(T::from_double).collect())
    }

    fn action(&self, name: &str, index: usize) -> Result<Vec<[T; 2]>> {
        let values = self.values(name)?;
        let size = values.len() / self.count();
        Ok(values[index * size..(index + 1) * size].as_chunks::<2>().0.to_vec())
    }

    #[allow(clippy::type_complexity, reason = "positions and rotations as the crate takes them")]
    fn poses(&self, name: &str, count: usize, index: usize) -> Result<(Vec<[T; 3]>, Vec<[[T; 3]; 3]>)> {
        let xyz = self.values(&format!("{name}_xyz"))?[index * count * 3..(index + 1) * count * 3]
            .as_chunks::<3>()
            .0
            .to_vec();
        let rot = self.values(&format!("{name}_rot"))?;
        let rot = rot[index * count * 9..(index + 1) * count * 9].as_chunks::<9>().0;
        Ok((xyz, rot.iter().map(super::super::rotation).collect()))
    }

    fn roll_out(&self, space: &UnicycleActionSpace<T>, action: &str) -> Result<Vec<Trajectory<T>>> {
        (0..self.count())
            .map(|index| {
                let (xyz, rot) = self.poses("history", HISTORY, index)?;
                Ok(space.action_to_trajectory(&self.action(action, index)?, &xyz, &rot)?)
            })
            .collect()
    }
}
