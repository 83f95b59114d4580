//! Trajectories as discrete tokens: the history that stands in the prompt.
//!
//! Every pose becomes its displacement from the pose before, each axis of it quantised to one of `num_bins` numbers. In
//! the prompt those numbers take the place of the `<|traj_history|>` tokens ([`fuse_history`]).
//!
//! Source: Alpamayo-R1, arXiv 2511.00088, the section on trajectory tokens; the released configuration's delta tokenizer.

use std::f32::consts::PI;

use crate::local_fit::LocalFit;
use crate::{DeltaTokenizerConfig, Error, Result, Trajectory, check_length, rotation_from_yaw, yaw_of};

/// Ranges of a step along x, y and z, metres.
const POSITION_RANGES: [[f32; 2]; 3] = [[-4.0, 4.0], [-4.0, 4.0], [-10.0, 10.0]];
/// Range of a step's turn, radians.
const YAW_RANGE: [f32; 2] = [-PI, PI];
/// Headings are those of cubics through ten points.
const HEADING_FIT: LocalFit = LocalFit { window: 10, degree: 3 };

/// Quantises displacements between poses.
///
/// Arithmetic is f32, in the reference's order, so that bins are exactly the reference's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaTokenizer {
    num_bins: u32,
    with_yaw: bool,
}

impl DeltaTokenizer {
    /// Three numbers per pose (x, y, z), each below `num_bins`.
    ///
    /// # Errors
    /// [`Error::TrajectoryTokens`] for fewer than two bins, or for more than f32 tells apart (2²⁴).
    pub fn new(num_bins: usize) -> Result<Self> {
        if !(2..=1 << 24).contains(&num_bins) {
            return Err(Error::TrajectoryTokens(format!(
                "`num_bins` is {num_bins}, but must lie between 2 and 16777216"
            )));
        }
        Ok(Self {
            num_bins: num_bins as u32,
            with_yaw: false,
        })
    }

    /// The tokenizer that a configuration describes.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn from_config(config: &DeltaTokenizerConfig) -> Result<Self> {
        let tokenizer = Self::new(config.num_bins)?;
        Ok(if config.predict_yaw {
            tokenizer.with_yaw()
        } else {
            tokenizer
        })
    }

    /// The variant with a fourth number per pose, the **negated** turn since the pose before.
    pub fn with_yaw(self) -> Self {
        Self { with_yaw: true, ..self }
    }

    /// Number of values per axis.
    pub fn num_bins(&self) -> usize {
        self.num_bins as usize
    }

    /// Tokens per pose: 3, or 4 with yaw.
    pub fn tokens_per_pose(&self) -> usize {
        if self.with_yaw { 4 } else { 3 }
    }

    /// The range of a step's n-th number, in metres or radians.
    pub fn range(&self, n: usize) -> [f32; 2] {
        POSITION_RANGES.get(n).copied().unwrap_or(YAW_RANGE)
    }

    /// Encodes poses (ego frame at t0, metres; the first one's step is taken from the origin) as bins, pose by pose, in the
    /// order x, y, z and, with yaw, the turn. Steps beyond the ranges get the outermost bin.
    ///
    /// `rot [poses, 3, 3]` is read by the variant with yaw only; the other one takes an empty slice too. Bins are not token
    /// ids yet: those start at the vocabulary's offset for the history.
    ///
    /// # Errors
    /// [`Error::Length`] where the variant with yaw gets another number of rotations than of positions,
    /// [`Error::TrajectoryTokens`] where a value is not finite.
    pub fn encode(&self, xyz: &[[f32; 3]], rot: &[[[f32; 3]; 3]]) -> Result<Vec<u32>> {
        if self.with_yaw {
            check_length("rotations to encode", xyz.len(), rot.len())?;
        }
        let mut bins = Vec::with_capacity(xyz.len() * self.tokens_per_pose());
        let (mut position, mut yaw) = ([0.0; 3], 0.0);
        for (pose, next) in xyz.iter().enumerate() {
            for axis in 0..3 {
                bins.push(self.quantize(next[axis] - position[axis], axis, pose)?);
            }
            position = *next;
            if self.with_yaw {
                let next_yaw = yaw_of(&rot[pose]);
                bins.push(self.quantize(wrap(yaw - next_yaw), 3, pose)?);
                yaw = next_yaw;
            }
        }
        Ok(bins)
    }

    /// Decodes bins to poses, up to half a bin per step.
    ///
    /// Without yaw, headings are the directions of cubics fitted to x and to y around each pose. With yaw they are the sums
    /// of the decoded turns; since those were negated on the way in, a trajectory that was encoded comes back **turning the
    /// other way**, as in the reference.
    ///
    /// # Errors
    /// [`Error::TrajectoryTokens`] where the number of bins is no multiple of [`tokens_per_pose`](Self::tokens_per_pose) or a
    /// bin is not below [`num_bins`](Self::num_bins).
    pub fn decode(&self, bins: &[u32]) -> Result<Trajectory<f32>> {
        if !bins.len().is_multiple_of(self.tokens_per_pose()) {
            return Err(Error::TrajectoryTokens(format!(
                "{} bins make no whole number of poses of {} bins each",
                bins.len(),
                self.tokens_per_pose()
            )));
        }
        // Sums are formed in f64 and rounded to f32 pose by pose, as the reference's are.
        let (mut position, mut yaw) = ([0.0f64; 3], 0.0f64);
        let mut trajectory = Trajectory::default();
        for pose in bins.chunks_exact(self.tokens_per_pose()) {
            for (axis, sum) in position.iter_mut().enumerate() {
                *sum += f64::from(self.dequantize(pose[axis], axis)?);
            }
            trajectory.xyz.push(position.map(|sum| sum as f32));
            if self.with_yaw {
                yaw += f64::from(self.dequantize(pose[3], 3)?);
                trajectory.rot.push(rotation_from_yaw(yaw as f32));
            }
        }
        if !self.with_yaw {
            trajectory.rot = fitted_headings(&trajectory.xyz);
        }
        Ok(trajectory)
    }

    fn quantize(&self, value: f32, n: usize, pose: usize) -> Result<u32> {
        if !value.is_finite() {
            return Err(Error::TrajectoryTokens(format!(
                "the step to pose {pose} is not finite in its number {n} (x, y, z, yaw)"
            )));
        }
        let [low, high] = self.range(n);
        let last = (self.num_bins - 1) as f32;
        let scaled = (value - low) / (high - low) * last;
        Ok(scaled.round_ties_even().clamp(0.0, last) as u32)
    }

    fn dequantize(&self, bin: u32, n: usize) -> Result<f32> {
        if bin >= self.num_bins {
            return Err(Error::TrajectoryTokens(format!(
                "bin {bin} does not exist, there are {}",
                self.num_bins
            )));
        }
        let [low, high] = self.range(n);
        Ok(bin as f32 / (self.num_bins - 1) as f32 * (high - low) + low)
    }
}

/// The angle in [-π, π] that differs by whole turns.
fn wrap(angle: f32) -> f32 {
    angle.sin().atan2(angle.cos())
}

/// Rotations whose headings are the directions of motion.
fn fitted_headings(xyz: &[[f32; 3]]) -> Vec<[[f32; 3]; 3]> {
    let slopes = |axis: usize| {
        let values: Vec<f64> = xyz.iter().map(|position| f64::from(position[axis])).collect();
        HEADING_FIT.derivative(&values, 1.0)
    };
    let directions = slopes(0).into_iter().zip(slopes(1));
    directions.map(|(x, y)| rotation_from_yaw(y.atan2(x) as f32)).collect()
}

/// Puts encoded histories into prompts: the tokens `<|traj_history|>` (`history_token`) are replaced, in order, by
/// `first_id + bin`.
///
/// `ids` may be one prompt with one history, or several of both, one behind the other. `first_id` is the id of bin 0:
/// [`ModelConfig::history_token_start`](crate::ModelConfig::history_token_start).
///
/// # Errors
/// [`Error::TrajectoryTokens`] where the prompt has another number of such tokens than there are bins; `ids` are unchanged then.
pub fn fuse_history(ids: &mut [u32], history_token: u32, first_id: u32, bins: &[u32]) -> Result<()> {
    let places = ids.iter().filter(|&&id| id == history_token).count();
    if places != bins.len() {
        return Err(Error::TrajectoryTokens(format!(
            "the prompt has {places} `<|traj_history|>` tokens (`tokens_per_history_traj` each), \
             but the encoded history has {}",
            bins.len()
        )));
    }
    let places = ids.iter_mut().filter(|id| **id == history_token);
    for (id, bin) in places.zip(bins) {
        *id = first_id + bin;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::TestData;
    use proptest::prelude::*;

    fn max_difference(found: impl IntoIterator<Item = f32>, truth: &[f32]) -> f32 {
        let found: Vec<f32> = found.into_iter().collect();
        assert_eq!(found.len(), truth.len());
        let differences = found.iter().zip(truth).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f32::max)
    }

    #[test]
    fn bins_and_decoded_poses_are_the_references() {
        let data = TestData::read("trajectory_tokens.safetensors");
        let xyz = data.rows::<f32, 3>("history_xyz");
        let rot = data.matrices::<f32>("history_rot");
        for num_bins in [100, 1000] {
            let plain = DeltaTokenizer::new(num_bins).unwrap();
            for (suffix, tokenizer) in [("", plain.clone()), ("_yaw", plain.with_yaw())] {
                let name = format!("bins{num_bins}{suffix}");
                let ids = data.values::<i64>(&format!("{name}.ids"));
                let (mut bins, mut decoded_xyz, mut decoded_rot) = (vec![], vec![], vec![]);
                for (xyz, rot) in xyz.chunks(16).zip(rot.chunks(16)) {
                    let encoded = tokenizer.encode(xyz, rot).unwrap();
                    let decoded = tokenizer.decode(&encoded).unwrap();
                    bins.extend(encoded.iter().map(|&bin| i64::from(bin)));
                    decoded_xyz.extend(decoded.xyz.concat());
                    decoded_rot.extend(decoded.rot.concat().concat());
                }
                assert_eq!(bins, ids, "{name}");
                let truth = data.values::<f32>(&format!("{name}.decoded_xyz"));
                let difference = max_difference(decoded_xyz, &truth);
                assert!(difference <= 4e-6, "{name}: xyz {difference:e}");
                let truth = data.values::<f32>(&format!("{name}.decoded_rot"));
                let difference = max_difference(decoded_rot, &truth);
                assert!(difference <= 4e-6, "{name}: rot {difference:e}");
            }
        }
    }

    fn steps() -> impl Strategy<Value = Vec<[f32; 4]>> {
        let step = (-4.0f32..4.0, -4.0f32..4.0, -10.0f32..10.0, -3.0f32..3.0);
        prop::collection::vec(step.prop_map(|(x, y, z, yaw)| [x, y, z, yaw]), 0..40)
    }

    proptest! {
        #[test]
        fn decoding_returns_to_within_half_a_bin_per_step(steps in steps(), num_bins in 2usize..3000) {
            let tokenizer = DeltaTokenizer::new(num_bins).unwrap().with_yaw();
            let mut pose = [0.0f32; 4];
            let mut poses = vec![];
            for step in &steps {
                for (sum, value) in pose.iter_mut().zip(step) { *sum += value; }
                poses.push(pose);
            }
            let xyz: Vec<[f32; 3]> = poses.iter().map(|p| [p[0], p[1], p[2]]).collect();
            let rot: Vec<_> = poses.iter().map(|p| rotation_from_yaw(p[3])).collect();
            let bins = tokenizer.encode(&xyz, &rot).unwrap();
            let decoded = tokenizer.decode(&bins).unwrap();
            for (i, pose) in poses.iter().enumerate() {
                for (axis, value) in pose[..3].iter().enumerate() {
                    let [low, high] = tokenizer.range(axis);
                    let half_bin = (high - low) / (num_bins - 1) as f32 / 2.0;
                    let bound = (i + 1) as f32 * half_bin + 1e-4;
                    prop_assert!((decoded.xyz[i][axis] - value).abs() <= bound);
                }
                // The turn comes back with its sign flipped.
                let half_bin = PI / (num_bins - 1) as f32;
                let difference = wrap(yaw_of(&decoded.rot[i]) + pose[3]);
                prop_assert!(difference.abs() <= (i + 1) as f32 * half_bin + 1e-4);
            }
            // Decoded positions encode to the same bins again.
            let again = tokenizer.encode(&decoded.xyz, &decoded.rot).unwrap();
            let positions = |bins: &[u32]| -> Vec<u32> { bins.chunks(4).flat_map(|b| b[..3].to_vec()).collect() };
            prop_assert_eq!(positions(&again), positions(&bins));
        }

        #[test]
        fn fusing_replaces_history_tokens_only(mut ids in prop::collection::vec(0u32..6, 0..60)) {
            let before = ids.clone();
            let places = ids.iter().filter(|&&id| id == 5).count();
            let bins: Vec<u32> = (0..places as u32).collect();
            prop_assert!(fuse_history(&mut ids, 5, 1000, &[&bins[..], &[0]].concat()).is_err());
            prop_assert_eq!(&ids, &before);
            fuse_history(&mut ids, 5, 1000, &bins).unwrap();
            let mut next = 1000;
            for (id, before) in ids.iter().zip(before) {
                let expected = if before == 5 { next += 1; next - 1 } else { before };
                prop_assert_eq!(*id, expected);
            }
        }
    }

    #[test]
    fn what_cannot_be_encoded_or_decoded_is_an_error() {
        assert!(DeltaTokenizer::new(1).is_err());
        let tokenizer = DeltaTokenizer::new(10).unwrap();
        assert!(tokenizer.encode(&[[f32::NAN, 0.0, 0.0]], &[]).is_err());
        assert!(tokenizer.decode(&[1, 2]).is_err());
        let error = tokenizer.decode(&[1, 2, 10]).unwrap_err();
        assert!(error.to_string().contains("bin 10"), "{error}");
        let with_yaw = tokenizer.with_yaw();
        assert!(with_yaw.encode(&[[0.0; 3]], &[]).is_err());
    }
}
