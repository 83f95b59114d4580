//! From JSON to [`ModelConfig`].

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use super::{
    ActionInProjConfig, DecoderConfig, DeltaTokenizerConfig, FlowMatchingConfig, ModelConfig, ModelDtype, TrajTokenIds,
    UnicycleConfig, VisionConfig, target, validate,
};
use crate::{Error, Result};

/// Sizes above these are no model but a mistake; they also keep every product of sizes far from overflow.
pub(super) mod limit {
    pub const LAYERS: usize = 1024;
    pub const CHANNELS: usize = 1 << 18;
    pub const HEADS: usize = 4096;
    pub const HEAD_DIM: usize = 4096;
    pub const VOCABULARY: usize = 1 << 24;
    pub const PATCH: usize = 1024;
    pub const MERGE: usize = 64;
    pub const GRID: usize = 1 << 22;
    pub const PIXELS: usize = 1 << 30;
    pub const WAYPOINTS: usize = 4096;
    pub const STEPS: usize = 100_000;
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|source| Error::Json {
        path: path.to_path_buf(),
        source,
    })
}

pub(super) fn model(path: &Path, document: &Value, backbone_path: &Path, backbone: &Value) -> Result<ModelConfig> {
    let fields = Fields::root(path, document)?;
    let backbone = Fields::root(backbone_path, backbone)?;
    let text_fields = backbone.object("text_config")?;
    let text = decoder(&text_fields, None)?;
    let vision = vision(&backbone.object("vision_config")?)?;
    let expert = decoder(&fields.object("expert_cfg")?, Some(&text))?;
    if fields.optional_flag("expert_non_causal_attention")? == Some(false) {
        return Err(fields.error(
            "expert_non_causal_attention",
            "is false, but only an expert that sees all actions is known",
        ));
    }
    target::check_linear(&fields.object("action_out_proj_cfg")?)?;
    let config = ModelConfig {
        vocab_size: fields.integer("vocab_size", 1, limit::VOCABULARY)?,
        action_in_proj: action_in_proj(&fields.object("action_in_proj_cfg")?)?,
        action_space: unicycle(&fields.object("action_space_cfg")?)?,
        flow: flow_matching(&fields.object("diffusion_cfg")?)?,
        history_tokenizer: delta_tokenizer(&fields.object("hist_traj_tokenizer_cfg")?)?,
        future_num_bins: future_num_bins(&fields.object("traj_tokenizer_cfg")?)?,
        min_pixels: fields.integer("min_pixels", 1, limit::PIXELS)?,
        max_pixels: fields.integer("max_pixels", 1, limit::PIXELS)?,
        traj_vocab_size: fields.integer("traj_vocab_size", 1, limit::VOCABULARY)?,
        traj_token_start_idx: fields.integer("traj_token_start_idx", 1, limit::VOCABULARY)?,
        traj_token_ids: traj_token_ids(&fields.object("traj_token_ids")?)?,
        tokens_per_history_traj: fields.integer("tokens_per_history_traj", 1, limit::WAYPOINTS)?,
        tokens_per_future_traj: fields.integer("tokens_per_future_traj", 1, limit::STEPS)?,
        add_special_tokens: fields.optional_flag("add_special_tokens")?.unwrap_or(true),
        model_dtype: model_dtype(&fields)?,
        vlm_name_or_path: fields.text("vlm_name_or_path")?.to_string(),
        text,
        vision,
        expert,
    };
    validate::model(&config, &fields, &backbone)?;
    Ok(config)
}

/// A decoder; what it leaves out comes from `inherited`.
fn decoder(fields: &Fields, inherited: Option<&DecoderConfig>) -> Result<DecoderConfig> {
    let integer = |name: &str, max: usize, of: fn(&DecoderConfig) -> usize| match inherited {
        Some(other) => Ok(fields.optional_integer(name, 1, max)?.unwrap_or_else(|| of(other))),
        None => fields.integer(name, 1, max),
    };
    let config = DecoderConfig {
        hidden_size: integer("hidden_size", limit::CHANNELS, |other| other.hidden_size)?,
        intermediate_size: integer("intermediate_size", limit::CHANNELS, |other| other.intermediate_size)?,
        num_hidden_layers: integer("num_hidden_layers", limit::LAYERS, |other| other.num_hidden_layers)?,
        num_attention_heads: integer("num_attention_heads", limit::HEADS, |other| other.num_attention_heads)?,
        num_key_value_heads: integer("num_key_value_heads", limit::HEADS, |other| other.num_key_value_heads)?,
        head_dim: integer("head_dim", limit::HEAD_DIM, |other| other.head_dim)?,
        rms_norm_eps: match fields.optional_number("rms_norm_eps")? {
            Some(eps) => eps,
            None => inherited.map_or(1e-6, |other| other.rms_norm_eps),
        },
        rope_theta: rope_theta(fields, inherited)?,
        mrope_section: mrope_section(fields, inherited)?,
    };
    if fields.optional_flag("attention_bias")? == Some(true) {
        return Err(fields.error("attention_bias", "is true, but only attention without bias is known"));
    }
    if let Some(activation) = fields.optional_text("hidden_act")?.filter(|&name| name != "silu") {
        return Err(fields.error("hidden_act", format!("is `{activation}`, but only `silu` is known")));
    }
    validate::decoder(&config, fields)?;
    Ok(config)
}

/// The object with the rotary settings: `rope_scaling`, or `rope_parameters` as newer files call it.
fn rope_fields<'a>(fields: &Fields<'a>) -> Result<Option<Fields<'a>>> {
    Ok(match fields.optional_object("rope_scaling")? {
        Some(rope) => Some(rope),
        None => fields.optional_object("rope_parameters")?,
    })
}

fn rope_theta(fields: &Fields, inherited: Option<&DecoderConfig>) -> Result<f64> {
    if let Some(theta) = fields.optional_number("rope_theta")? {
        return Ok(theta);
    }
    if let Some(rope) = rope_fields(fields)?
        && let Some(theta) = rope.optional_number("rope_theta")?
    {
        return Ok(theta);
    }
    inherited
        .map(|other| other.rope_theta)
        .map_or_else(|| fields.number("rope_theta"), Ok)
}

fn mrope_section(fields: &Fields, inherited: Option<&DecoderConfig>) -> Result<[usize; 3]> {
    let rope = match (rope_fields(fields)?, inherited) {
        (Some(rope), _) => rope,
        (None, Some(other)) => return Ok(other.mrope_section),
        (None, None) => fields.object("rope_scaling")?,
    };
    if rope.optional_flag("mrope_interleaved")? == Some(false) {
        return Err(rope.error("mrope_interleaved", "is false, but only interleaved sections are known"));
    }
    for name in ["rope_type", "type"] {
        if let Some(kind) = rope
            .optional_text(name)?
            .filter(|kind| !["default", "mrope"].contains(kind))
        {
            return Err(rope.error(name, format!("is `{kind}`, but only `default` is known")));
        }
    }
    let section = rope.integers("mrope_section", limit::HEAD_DIM)?;
    let count = section.len();
    section
        .try_into()
        .map_err(|_| rope.error("mrope_section", format!("has {count} numbers, but must have 3")))
}

fn vision(fields: &Fields) -> Result<VisionConfig> {
    if let Some(activation) = fields
        .optional_text("hidden_act")?
        .filter(|&name| name != "gelu_pytorch_tanh")
    {
        return Err(fields.error(
            "hidden_act",
            format!("is `{activation}`, but only `gelu_pytorch_tanh` is known"),
        ));
    }
    let config = VisionConfig {
        depth: fields.integer("depth", 1, limit::LAYERS)?,
        hidden_size: fields.integer("hidden_size", 1, limit::CHANNELS)?,
        intermediate_size: fields.integer("intermediate_size", 1, limit::CHANNELS)?,
        num_heads: fields.integer("num_heads", 1, limit::HEADS)?,
        in_channels: fields.integer("in_channels", 3, 3)?,
        patch_size: fields.integer("patch_size", 1, limit::PATCH)?,
        spatial_merge_size: fields.integer("spatial_merge_size", 1, limit::MERGE)?,
        temporal_patch_size: fields.integer("temporal_patch_size", 1, limit::MERGE)?,
        out_hidden_size: fields.integer("out_hidden_size", 1, limit::CHANNELS)?,
        num_position_embeddings: fields.integer("num_position_embeddings", 1, limit::GRID)?,
        deepstack_visual_indexes: fields.integers("deepstack_visual_indexes", limit::LAYERS)?,
    };
    validate::vision(&config, fields)?;
    Ok(config)
}

fn action_in_proj(fields: &Fields) -> Result<ActionInProjConfig> {
    target::ACTION_IN_PROJ.check(fields)?;
    // The reference's defaults.
    let config = ActionInProjConfig {
        num_enc_layers: fields
            .optional_integer("num_enc_layers", 1, limit::LAYERS)?
            .unwrap_or(4),
        hidden_size: fields
            .optional_integer("hidden_size", 1, limit::CHANNELS)?
            .unwrap_or(1024),
        num_fourier_feats: fields
            .optional_integer("num_fourier_feats", 2, limit::CHANNELS)?
            .unwrap_or(20),
        max_freq: fields.optional_number("max_freq")?.unwrap_or(100.0),
    };
    if !config.num_fourier_feats.is_multiple_of(2) {
        return Err(fields.error(
            "num_fourier_feats",
            "is odd, but half of the features are sines and half are cosines",
        ));
    }
    if config.max_freq <= 0.0 {
        return Err(fields.error("max_freq", "must be above zero"));
    }
    Ok(config)
}

/// The action space; missing fields have the defaults of the reference's class, not of the released checkpoint.
fn unicycle(fields: &Fields) -> Result<UnicycleConfig> {
    target::ACTION_SPACE.check(fields)?;
    let base = UnicycleConfig::default();
    let number = |name: &str, default: f64| Ok::<_, Error>(fields.optional_number(name)?.unwrap_or(default));
    let config = UnicycleConfig {
        n_waypoints: fields
            .optional_integer("n_waypoints", 4, limit::WAYPOINTS)?
            .unwrap_or(base.n_waypoints),
        dt: number("dt", base.dt)?,
        accel_mean: number("accel_mean", 0.0)?,
        accel_std: number("accel_std", 1.0)?,
        curvature_mean: number("curvature_mean", 0.0)?,
        curvature_std: number("curvature_std", 1.0)?,
        accel_bounds: fields.optional_numbers("accel_bounds")?.unwrap_or(base.accel_bounds),
        curvature_bounds: fields.optional_numbers("curvature_bounds")?.unwrap_or([-0.2, 0.2]),
        theta_lambda: number("theta_lambda", base.theta_lambda)?,
        theta_ridge: number("theta_ridge", base.theta_ridge)?,
        v_lambda: number("v_lambda", base.v_lambda)?,
        v_ridge: number("v_ridge", base.v_ridge)?,
        a_lambda: number("a_lambda", base.a_lambda)?,
        a_ridge: number("a_ridge", base.a_ridge)?,
        kappa_lambda: number("kappa_lambda", base.kappa_lambda)?,
        kappa_ridge: number("kappa_ridge", base.kappa_ridge)?,
    };
    validate::unicycle(&config, fields)?;
    Ok(config)
}

fn flow_matching(fields: &Fields) -> Result<FlowMatchingConfig> {
    target::DIFFUSION.check(fields)?;
    if let Some(method) = fields.optional_text("int_method")?.filter(|&name| name != "euler") {
        return Err(fields.error("int_method", format!("is `{method}`, but only `euler` is known")));
    }
    Ok(FlowMatchingConfig {
        num_inference_steps: fields
            .optional_integer("num_inference_steps", 1, limit::STEPS)?
            .unwrap_or(10),
        inference_guidance_weight: fields.optional_number("inference_guidance_weight")?.unwrap_or(1.0),
    })
}

fn delta_tokenizer(fields: &Fields) -> Result<DeltaTokenizerConfig> {
    target::HISTORY_TOKENIZER.check(fields)?;
    for (name, known) in [("ego_xyz_min", [-4.0, -4.0, -10.0]), ("ego_xyz_max", [4.0, 4.0, 10.0])] {
        if fields.optional_numbers::<3>(name)?.is_some_and(|range| range != known) {
            return Err(fields.error(name, format!("is not {known:?}, the only range that is known")));
        }
    }
    for (name, known) in [
        ("ego_yaw_min", -std::f64::consts::PI),
        ("ego_yaw_max", std::f64::consts::PI),
    ] {
        if fields
            .optional_number(name)?
            .is_some_and(|range| (range - known).abs() > 1e-6)
        {
            return Err(fields.error(name, format!("is not {known}, the only range that is known")));
        }
    }
    Ok(DeltaTokenizerConfig {
        num_bins: fields
            .optional_integer("num_bins", 2, limit::VOCABULARY)?
            .unwrap_or(1000),
        predict_yaw: fields.optional_flag("predict_yaw")?.unwrap_or(false),
    })
}

fn future_num_bins(fields: &Fields) -> Result<usize> {
    target::FUTURE_TOKENIZER.check(fields)?;
    if let Some(action_space) = fields.optional_object("action_space_cfg")? {
        target::ACTION_SPACE.check(&action_space)?;
    }
    fields.integer("num_bins", 1, limit::VOCABULARY)
}

fn traj_token_ids(fields: &Fields) -> Result<TrajTokenIds> {
    // The limit is far below u32's.
    let id = |name: &str| fields.integer(name, 0, limit::VOCABULARY).map(|id| id as u32);
    Ok(TrajTokenIds {
        history: id("history")?,
        future: id("future")?,
        history_start: id("history_start")?,
        future_start: id("future_start")?,
        history_end: id("history_end")?,
        future_end: id("future_end")?,
    })
}

fn model_dtype(fields: &Fields) -> Result<ModelDtype> {
    match fields.text("model_dtype")?.trim_start_matches("torch.") {
        "bfloat16" => Ok(ModelDtype::Bf16),
        "float16" => Ok(ModelDtype::F16),
        "float32" => Ok(ModelDtype::F32),
        other => Err(fields.error(
            "model_dtype",
            format!("is `{other}`, but must be `bfloat16`, `float16` or `float32`"),
        )),
    }
}
