//! Golden cases for the tests: a small checkpoint, and what the reference computes with it (float32, CPU).

use std::path::{Path, PathBuf};

use alpamayo_backends::instances::Flex;
use alpamayo_core::{Clip, Frame, ModelConfig};
use burn::tensor::{Tensor, backend::Backend};
use safetensors::SafeTensors;

use crate::host::{download, upload};
use crate::pipeline::{Alpamayo, LoadOptions};

pub(crate) type Device = <Flex as burn::tensor::backend::BackendTypes>::Device;

/// Relative L2 error that another order of float32 operations may make.
pub(crate) const TOLERANCE: f64 = 1e-5;
/// The same behind sines of large angles, which differ between platforms.
pub(crate) const SINE_TOLERANCE: f64 = 3e-5;
/// Of trajectories.
pub(crate) const TRAJECTORY_TOLERANCE: f64 = 2e-6;

pub(crate) struct Golden {
    directory: PathBuf,
    bytes: Vec<u8>,
}

impl Golden {
    pub(crate) fn read(case: &str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(case);
        let bytes = std::fs::read(directory.join("golden.safetensors")).unwrap();
        Self { directory, bytes }
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.directory.join("checkpoint")
    }

    pub(crate) fn model(&self) -> Alpamayo<Flex> {
        Alpamayo::load(self.checkpoint(), &Device::default(), LoadOptions::default()).unwrap()
    }

    pub(crate) fn config(&self) -> ModelConfig {
        ModelConfig::from_checkpoint(&self.checkpoint(), None).unwrap()
    }

    /// A field of `case.json`.
    pub(crate) fn case(&self, field: &str) -> usize {
        let text = std::fs::read_to_string(self.directory.join("case.json")).unwrap();
        let case: serde_json::Value = serde_json::from_str(&text).unwrap();
        case[field].as_u64().unwrap() as usize
    }

    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        tensors.tensor(name).unwrap().shape().to_vec()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).is_ok()
    }

    /// How many tensors the network computes from end to end, and that are compared as a whole.
    pub(crate) fn network_tensors(&self) -> usize {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let whole = |name: &&str| match name.split_once('.') {
            Some(("vision" | "text" | "cache", _)) => true,
            Some(("expert", rest)) => matches!(rest, "action_in_proj" | "last_hidden"),
            Some(("flow", rest)) => matches!(rest, "x" | "action"),
            _ => false,
        };
        tensors.names().iter().filter(|name| whole(name)).count()
    }

    /// The id of `<|image_pad|>`.
    pub(crate) fn image_pad(&self) -> i64 {
        let text = std::fs::read_to_string(self.checkpoint().join("vlm/config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["image_token_id"].as_i64().unwrap()
    }

    fn data<const N: usize>(&self, name: &str) -> Vec<[u8; N]> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors.tensor(name).unwrap();
        assert_eq!(view.dtype().bitsize(), 8 * N, "{name}");
        view.data().as_chunks::<N>().0.to_vec()
    }

    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        self.data(name).into_iter().map(f32::from_le_bytes).collect()
    }

    pub(crate) fn i64(&self, name: &str) -> Vec<i64> {
        self.data(name).into_iter().map(i64::from_le_bytes).collect()
    }

    /// A golden tensor on the device as `[rows, last extent]`.
    pub(crate) fn tensor(&self, name: &str) -> Tensor<Flex, 2> {
        let columns = *self.shape(name).last().unwrap();
        let values = self.f32(name);
        upload(values.clone(), [values.len() / columns, columns], &Device::default())
    }

    /// The case's inputs as clips.
    pub(crate) fn clips(&self) -> Vec<Clip> {
        let [batch, images, _, height, width] = self.shape("in.frames")[..] else {
            panic!("in.frames has five extents")
        };
        let frames: Vec<u8> = self.data::<1>("in.frames").into_iter().map(|[byte]| byte).collect();
        let xyz = self.f32("in.ego_history_xyz");
        let rot = self.f32("in.ego_history_rot");
        (0..batch)
            .map(|clip| {
                let frames = (0..images)
                    .map(|image| {
                        let planes = &frames[(clip * images + image) * 3 * height * width..][..3 * height * width];
                        Frame::from_planar(width, height, planes).unwrap()
                    })
                    .collect();
                let poses = xyz.len() / 3 / batch;
                let history_xyz = xyz.as_chunks::<3>().0[clip * poses..][..poses].to_vec();
                let history_rot = rot.as_chunks::<3>().0.as_chunks::<3>().0[clip * poses..][..poses].to_vec();
                Clip {
                    frames,
                    camera_indices: (0..self.case("num_cameras")).collect(),
                    frames_per_camera: self.case("frames_per_camera"),
                    ego_history_xyz: history_xyz,
                    ego_history_rot: history_rot,
                    ..Clip::default()
                }
            })
            .collect()
    }
}

/// `|found - truth| / |truth|` over the finite values, which must be finite in both.
pub(crate) fn relative_l2(found: &[f32], truth: &[f32]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let (mut difference, mut norm) = (0.0, 0.0);
    for (&found, &truth) in found.iter().zip(truth) {
        assert_eq!(found.is_finite(), truth.is_finite(), "{found} {truth}");
        if truth.is_finite() {
            difference += (f64::from(found) - f64::from(truth)).powi(2);
            norm += f64::from(truth).powi(2);
        }
    }
    (difference / norm.max(1e-60)).sqrt()
}

/// Compares a tensor with a golden one.
#[track_caller]
pub(crate) fn assert_close<B: Backend, const D: usize>(
    found: &Tensor<B, D>,
    golden: &Golden,
    name: &str,
    tolerance: f64,
) {
    let found = download(found.clone(), name).unwrap();
    let error = relative_l2(&found, &golden.f32(name));
    assert!(
        error <= tolerance,
        "{name}: relative L2 error {error:e}, allowed {tolerance:e}"
    );
}
