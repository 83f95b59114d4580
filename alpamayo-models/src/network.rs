//! The whole network.

use alpamayo_backends::ModelBackend;
use alpamayo_core::{ActionNormalization, ModelConfig};
use burn::module::Module;
use burn::tensor::backend::Backend;

use crate::decoder::Decoder;
use crate::error::Result;
use crate::expert::Expert;
use crate::parameters::ParameterSource;
use crate::vision::VisionTower;

/// Everything of Alpamayo-R1 that a checkpoint holds.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    /// Frames → image tokens.
    pub vision: VisionTower<B>,
    /// Prompt → chain of causation, and the cache.
    pub decoder: Decoder<B>,
    /// Cache and noise → actions.
    pub expert: Expert<B>,
    /// Normalised → physical actions.
    #[module(skip)]
    pub normalization: ActionNormalization,
}

impl<B: ModelBackend> Network<B> {
    /// Builds the network from a source of parameters.
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &ModelConfig, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        Ok(Self {
            vision: VisionTower::new(&config.vision, source)?,
            decoder: Decoder::new(&config.text, config.vocab_size, source)?,
            expert: Expert::new(config, source)?,
            normalization: normalization(config, source)?,
        })
    }
}

/// The checkpoint's normalisation, or the configuration's rounded to the checkpoint's dtype as the reference's buffers are.
fn normalization<B: ModelBackend>(
    config: &ModelConfig,
    source: &mut dyn ParameterSource<B>,
) -> Result<ActionNormalization> {
    let mut value = |name: &str, configured: f64| -> Result<f32> {
        let stored = source.buffer(&format!("action_space.{name}"), 1)?;
        let stored = stored.and_then(|values| values.first().copied());
        Ok(stored.unwrap_or_else(|| config.model_dtype.round(configured) as f32))
    };
    let space = &config.action_space;
    Ok(ActionNormalization {
        accel_mean: value("accel_mean", space.accel_mean)?,
        accel_std: value("accel_std", space.accel_std)?,
        curvature_mean: value("curvature_mean", space.curvature_mean)?,
        curvature_std: value("curvature_std", space.curvature_std)?,
    })
}
