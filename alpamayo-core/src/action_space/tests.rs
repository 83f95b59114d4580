use proptest::prelude::*;

use super::*;
use crate::Trajectory;
use crate::test_data::{Element, TestData};

/// The reference's cases in one float type.
struct Cases<T> {
    data: TestData,
    prefix: &'static str,
    space: UnicycleActionSpace<T>,
}

const CASES: usize = 21;

impl<T: Scalar + Element> Cases<T> {
    fn new(prefix: &'static str) -> Self {
        Self {
            data: TestData::read("action_space.safetensors"),
            prefix,
            space: UnicycleActionSpace::new(&config()),
        }
    }

    fn history(&self, case: usize) -> Trajectory<T> {
        self.trajectory("history", 16, case)
    }

    fn trajectory(&self, name: &str, poses: usize, case: usize) -> Trajectory<T> {
        let xyz = self.data.rows(&format!("{}.{name}_xyz", self.prefix));
        let rot = self.data.matrices(&format!("{}.{name}_rot", self.prefix));
        Trajectory {
            xyz: xyz[case * poses..][..poses].to_vec(),
            rot: rot[case * poses..][..poses].to_vec(),
        }
    }

    fn actions(&self, name: &str, case: usize) -> Vec<[T; 2]> {
        self.data.rows(&format!("{}.{name}", self.prefix))[case * 64..][..64].to_vec()
    }

    fn v0(&self) -> Vec<T> {
        self.data.values(&format!("{}.v0", self.prefix))
    }

    /// The actions found behind a case's future.
    fn inverted(&self, case: usize) -> Vec<[T; 2]> {
        let (history, future) = (self.history(case), self.trajectory("future", 64, case));
        let actions = self.space.trajectory_to_action(&future, &history.xyz, &history.rot);
        actions.unwrap()
    }

    /// Largest differences of the poses that the reference's actions lead to, per case; `v0` in place of the estimate.
    fn driven_difference(&self, case: usize, v0: Option<T>) -> f64 {
        let history = self.history(case);
        let difference = |actions: &str, truth: &str| {
            let actions = self.actions(actions, case);
            let driven = match v0 {
                Some(v0) => self.space.roll_out(&actions, v0, history.xyz[15][2]),
                None => self.space.action_to_trajectory(&actions, &history.xyz, &history.rot),
            };
            pose_difference(&driven.unwrap(), &self.trajectory(truth, 64, case))
        };
        difference("action", "roundtrip").max(difference("random_action", "random"))
    }
}

fn config() -> UnicycleConfig {
    UnicycleConfig::default()
}

fn max_difference<T: Scalar>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(&a, &b)| (a - b).to_double().abs());
    differences.fold(0.0, f64::max)
}

fn pose_difference<T: Scalar>(a: &Trajectory<T>, b: &Trajectory<T>) -> f64 {
    let positions = max_difference(&a.xyz.concat(), &b.xyz.concat());
    positions.max(max_difference(&a.rot.concat().concat(), &b.rot.concat().concat()))
}

#[test]
fn f64_is_the_reference() {
    let cases = Cases::<f64>::new("f64");
    for (case, v0) in cases.v0().into_iter().enumerate() {
        let history = cases.history(case);
        let found = cases.space.estimate_v0(&history.xyz, &history.rot).unwrap();
        assert!((found - v0).abs() <= 1e-9, "{found} {v0}");
        let difference = max_difference(&cases.inverted(case).concat(), &cases.actions("action", case).concat());
        assert!(difference <= 1e-9, "actions of case {case}: {difference:e}");
        let difference = cases.driven_difference(case, None);
        assert!(difference <= 1e-9, "poses of case {case}: {difference:e}");
    }
}

#[test]
fn f32_trajectories_are_the_references() {
    let cases = Cases::<f32>::new("f32");
    for (case, v0) in cases.v0().into_iter().enumerate() {
        let history = cases.history(case);
        let found = cases.space.estimate_v0(&history.xyz, &history.rot).unwrap();
        // The last digit, by a sine that another library rounds otherwise.
        assert!((found - v0).abs() <= 2e-6, "case {case}: {found} {v0}");
        let difference = cases.driven_difference(case, Some(v0));
        assert!(difference <= 2e-5, "from the same speed, case {case}: {difference:e}");
        let difference = cases.driven_difference(case, None);
        assert!(difference <= 2e-5, "case {case}: {difference:e}");
    }
}

#[test]
fn f32_actions_are_close_to_the_f64_reference() {
    // Closer than the reference's own f32 actions, which are off by 10⁻³.
    let (cases, precise) = (Cases::<f32>::new("f32"), Cases::<f64>::new("f64"));
    for case in 0..CASES {
        let truth = precise.actions("action", case).concat();
        let widened: Vec<f64> = cases.inverted(case).concat().into_iter().map(f64::from).collect();
        let difference = max_difference(&widened, &truth);
        assert!(difference <= 5e-4, "case {case}: {difference:e}");
    }
}

#[test]
fn constants_of_a_bf16_checkpoint() {
    let cases = Cases::<f32>::new("f32");
    let values = cases.data.values::<f32>("bf16_constants.values");
    let normalization = ActionNormalization {
        accel_mean: values[0],
        accel_std: values[1],
        curvature_mean: values[2],
        curvature_std: values[3],
    };
    let rounded = ActionNormalization::from_config(&config()).rounded(ModelDtype::Bf16);
    assert_eq!(rounded, normalization);
    let space = UnicycleActionSpace::with_normalization(&config(), normalization);
    let truth = cases.data.rows::<f32, 3>("bf16_constants.random_xyz");
    let truth_rot = cases.data.matrices::<f32>("bf16_constants.random_rot");
    for (case, v0) in cases.v0().into_iter().enumerate() {
        let z = cases.history(case).xyz[15][2];
        let driven = space.roll_out(&cases.actions("random_action", case), v0, z).unwrap();
        let truth = Trajectory {
            xyz: truth[case * 64..][..64].to_vec(),
            rot: truth_rot[case * 64..][..64].to_vec(),
        };
        let difference = pose_difference(&driven, &truth);
        assert!(difference <= 2e-5, "case {case}: {difference:e}");
    }
}

#[test]
fn bounds_are_the_references() {
    for (prefix, found) in [("f32", bounds::<f32>("f32")), ("f64", bounds::<f64>("f64"))] {
        let data = TestData::read("action_space.safetensors");
        let truth = data.values::<u8>(&format!("{prefix}.within_bounds"));
        assert_eq!(found, truth);
    }
}

fn bounds<T: Scalar + Element>(prefix: &'static str) -> Vec<u8> {
    let cases = Cases::<T>::new(prefix);
    (0..CASES)
        .map(|case| u8::from(cases.space.within_bounds(&cases.actions("random_action", case))))
        .collect()
}

fn straight_history(speed: f64) -> Trajectory<f64> {
    let xyz = (0..16).map(|i| [speed * 0.1 * (f64::from(i) - 15.0), 0.0, 0.0]);
    Trajectory::from_yaws(xyz.collect(), [0.0; 16])
}

proptest! {
    #[test]
    fn actions_come_back_from_their_trajectory(speed in 8.0f64..30.0, accel in -1.5f64..1.5, turn in -1.5f64..1.5, frequency in 0.1f64..1.0) {
        let space = UnicycleActionSpace::<f64>::new(&config());
        let history = straight_history(speed);
        let wave = |t: usize, phase: f64| (frequency * 0.1 * t as f64 + phase).sin();
        let actions: Vec<[f64; 2]> = (0..64).map(|t| [accel * wave(t, 0.3), turn * wave(t, 1.1)]).collect();
        let v0 = space.estimate_v0(&history.xyz, &history.rot).unwrap();
        prop_assert!((v0 - speed).abs() < 1e-3 * speed);
        let driven = space.action_to_trajectory(&actions, &history.xyz, &history.rot).unwrap();
        let inverted = space.trajectory_to_action(&driven, &history.xyz, &history.rot).unwrap();
        // Smoothing changes actions a little, most at the ends; poses hardly at all.
        for (t, (a, b)) in inverted.iter().zip(&actions).enumerate() {
            prop_assert!((a[0] - b[0]).abs() < 0.1 && (a[1] - b[1]).abs() < 0.1, "{} {:?} {:?}", t, a, b);
        }
        let again = space.action_to_trajectory(&inverted, &history.xyz, &history.rot).unwrap();
        let difference = pose_difference(&again, &driven);
        prop_assert!(difference < 0.02, "{}", difference);
    }

    #[test]
    fn headings_follow_the_motion(speed in 2.0f64..30.0, turn in -1.0f64..1.0) {
        let space = UnicycleActionSpace::<f64>::new(&config());
        let coasting = -space.accel_mean / space.accel_std;
        let driven = space.roll_out(&[[coasting, turn]; 64], speed, 1.5).unwrap();
        for (pair, yaws) in driven.xyz.windows(2).zip(driven.yaw().windows(2)) {
            let direction = (pair[1][1] - pair[0][1]).atan2(pair[1][0] - pair[0][0]);
            let mut angles = [yaws[0], direction, yaws[1]];
            unwrap_angles(&mut angles);
            prop_assert!((angles[1] - (angles[0] + angles[2]) / 2.0).abs() < 1e-6);
            prop_assert_eq!(pair[1][2], 1.5);
        }
    }
}

#[test]
fn wrong_lengths_and_values_are_errors() {
    let space = UnicycleActionSpace::<f64>::new(&config());
    let history = straight_history(5.0);
    assert!(space.estimate_v0(&[], &[]).is_err());
    assert!(space.estimate_v0(&history.xyz, &history.rot[1..]).is_err());
    let error = space.roll_out(&[[0.0; 2]; 63], 1.0, 0.0).unwrap_err();
    assert!(error.to_string().contains("63 actions"), "{error}");
    assert!(space.roll_out(&[[f64::NAN, 0.0]; 64], 1.0, 0.0).is_err());
    let mut future = space.roll_out(&[[0.0; 2]; 64], 5.0, 0.0).unwrap();
    let inverse = |future: &Trajectory<f64>| space.trajectory_to_action(future, &history.xyz, &history.rot);
    assert!(inverse(&future).is_ok());
    future.xyz[7][1] = f64::INFINITY;
    assert!(inverse(&future).is_err());
    future.xyz.pop();
    assert!(inverse(&future).is_err());
}
