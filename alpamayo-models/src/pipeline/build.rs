//! The model with everything around the network, and how it is built.

use std::path::Path;
use std::sync::Arc;

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{CacheFormat, WeightFormat};
use alpamayo_core::{DeltaTokenizer, ImageProcessor, ModelConfig, Tokenizer, UnicycleActionSpace};

use super::decoding::Decoding;
use super::extents::LastExtents;
use super::flowing::Flowing;
use super::guard::guard;
use super::kept::Kept;
use super::options::LoadOptions;
use crate::error::{Error, Result};
use crate::import::{self, Checkpoint, CheckpointSource, ProgressCallback};
use crate::network::Network;
use crate::random::RandomParameters;
use crate::vision::KeptTables;

/// Alpamayo-R1 on a device: the network, and what turns clips into its inputs and its outputs into plans.
#[derive(Debug)]
pub struct Alpamayo<B: ModelBackend> {
    pub(super) network: Network<B>,
    pub(super) config: ModelConfig,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) image_processor: ImageProcessor,
    pub(super) history_tokenizer: DeltaTokenizer,
    pub(super) action_space: UnicycleActionSpace<f32>,
    pub(super) cache_format: CacheFormat,
    pub(super) device: B::Device,
    /// Tables of the image sizes seen last.
    pub(super) vision_tables: KeptTables<B>,
    /// Frames' grids of the last encoding.
    pub(super) grids: LastExtents<Vec<[usize; 3]>>,
    /// Clips and tokens of the last prefill.
    pub(super) prompts: LastExtents<[usize; 2]>,
    /// What was recorded of the last plan's decoding.
    pub(super) decoding: Kept<Decoding<B>>,
    /// What was recorded of the last plan's flow.
    pub(super) flowing: Kept<Flowing<B>>,
}

impl<B: ModelBackend> Alpamayo<B> {
    /// Loads a checkpoint directory (`config.json` and safetensors files) onto a device.
    ///
    /// # Errors
    /// Where the checkpoint, its backbone's files or its tokenizer are missing, damaged or don't fit together, and where the device
    /// can't hold them. Headers of all files are checked before any memory is taken.
    pub fn load(checkpoint: impl AsRef<Path>, device: &B::Device, mut options: LoadOptions) -> Result<Self> {
        let checkpoint = checkpoint.as_ref();
        check_cache_format::<B>(device, &options)?;
        let config = ModelConfig::from_checkpoint(checkpoint, options.vlm.as_deref())?;
        let tokenizer = tokenizer(checkpoint, &config, &options)?;
        let network = guard("loading", || network(checkpoint, &config, device, &mut options))?;
        Self::from_network(network, config, Some(tokenizer), device, &options)
    }

    /// A model of random parameters, made on the device: for measuring at any size without a checkpoint.
    ///
    /// Without a tokenizer the stages from [`encode`](Self::encode) to [`trajectories`](Self::trajectories) run, on prompts of ids.
    ///
    /// # Errors
    /// Where the configuration's sizes don't fit together, or the device can't hold the model.
    pub fn random(
        config: &ModelConfig,
        tokenizer: Option<Tokenizer>,
        device: &B::Device,
        options: &LoadOptions,
    ) -> Result<Self> {
        check_cache_format::<B>(device, options)?;
        let network = guard("initialising", || {
            let format = options.weight_format::<B>(device);
            check_memory::<B>(config, format, device, options)?;
            let table = options.token_table::<B>(format, device);
            let mut source = RandomParameters::new(device, format).with_token_table(table);
            Network::new(config, &mut source)
        })?;
        Self::from_network(network, config.clone(), tokenizer, device, options)
    }

    /// A model around a network that was built elsewhere.
    ///
    /// # Errors
    /// Where the configuration's history tokenizer is impossible, or the device can't store the cache's format.
    pub fn from_network(
        network: Network<B>,
        config: ModelConfig,
        tokenizer: Option<Tokenizer>,
        device: &B::Device,
        options: &LoadOptions,
    ) -> Result<Self> {
        check_cache_format::<B>(device, options)?;
        Ok(Self {
            image_processor: ImageProcessor::new(&config),
            history_tokenizer: history_tokenizer(&config)?,
            action_space: UnicycleActionSpace::with_normalization(&config.action_space, network.normalization),
            cache_format: options.cache_format::<B>(device),
            device: device.clone(),
            vision_tables: KeptTables::default(),
            grids: LastExtents::default(),
            prompts: LastExtents::default(),
            decoding: Kept::default(),
            flowing: Kept::default(),
            network,
            config,
            tokenizer,
        })
    }

    /// The checkpoint's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The network's modules.
    pub fn network(&self) -> &Network<B> {
        &self.network
    }

    /// The device.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] where the model was built without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        let action = "turn text into tokens or back";
        self.tokenizer.as_ref().ok_or(Error::NoTokenizer { action })
    }

    /// From actions to trajectories and back.
    pub fn action_space(&self) -> &UnicycleActionSpace<f32> {
        &self.action_space
    }
}

/// Whether the device has the memory for the model, where it tells.
fn check_memory<B: ModelBackend>(
    config: &ModelConfig,
    weights: WeightFormat,
    device: &B::Device,
    options: &LoadOptions,
) -> Result<()> {
    let Some(available) = B::limits(device).memory else {
        return Ok(());
    };
    let formats = (weights, options.cache_format::<B>(device));
    let table = |weights| options.token_table::<B>(weights, device);
    import::check_memory(config, formats, &table, &format!("{device:?}"), available)
}

/// Opens the device and asks it, before anything is loaded: a cache is made only when the first clip comes.
fn check_cache_format<B: ModelBackend>(device: &B::Device, options: &LoadOptions) -> Result<()> {
    guard("looking at the device", || {
        B::open(device);
        let format = options.cache_format::<B>(device);
        if B::supports_cache_format(format, device) {
            return Ok(());
        }
        Err(Error::Argument {
            argument: "cache_format",
            reason: format!(
                "{} can't store keys and values in {} on {device:?}; choose f32",
                B::name(device),
                format.name()
            ),
        })
    })
}

fn history_tokenizer(config: &ModelConfig) -> Result<DeltaTokenizer> {
    let tokenizer = DeltaTokenizer::new(config.history_tokenizer.num_bins)?;
    Ok(if config.history_tokenizer.predict_yaw {
        tokenizer.with_yaw()
    } else {
        tokenizer
    })
}

fn network<B: ModelBackend>(
    checkpoint: &Path,
    config: &ModelConfig,
    device: &B::Device,
    options: &mut LoadOptions,
) -> Result<Network<B>> {
    let checkpoint = Arc::new(Checkpoint::open(checkpoint)?);
    // Few bits on disk stay few bits, unless another format is asked for.
    let stored = checkpoint.quantization().map(WeightFormat::from);
    let format = options.weight_format.or(stored);
    let format = format.unwrap_or_else(|| options.weight_format::<B>(device));
    // Matrices of few bits keep them where few bits are asked for.
    let on_device = stored.filter(|_| format.quantization().is_some()).unwrap_or(format);
    check_memory::<B>(config, on_device, device, options)?;
    let table = options.token_table::<B>(format, device);
    let progress = options
        .progress
        .as_mut()
        .map(|progress| progress.as_mut() as &mut ProgressCallback<'_>);
    let mut source = CheckpointSource::new(checkpoint, config, format, device, progress)?.with_token_table(table);
    let network = Network::new(config, &mut source)?;
    source.finish()?;
    Ok(network)
}

fn tokenizer(checkpoint: &Path, config: &ModelConfig, options: &LoadOptions) -> Result<Tokenizer> {
    let path = match &options.tokenizer {
        Some(path) => path.clone(),
        None => config.tokenizer_path(checkpoint, options.vlm.as_deref())?,
    };
    Ok(Tokenizer::from_file(path, config)?)
}
