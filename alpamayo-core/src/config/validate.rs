//! Sizes that fit together.

use super::fields::Fields;
use super::{DecoderConfig, HISTORY_POSES, ModelConfig, UnicycleConfig, VisionConfig};
use crate::Result;

pub(super) fn decoder(config: &DecoderConfig, fields: &Fields) -> Result<()> {
    let (heads, key_value_heads) = (config.num_attention_heads, config.num_key_value_heads);
    if heads % key_value_heads != 0 {
        let reason = format!("is {heads}, but must be a multiple of `num_key_value_heads`, which is {key_value_heads}");
        return Err(fields.error("num_attention_heads", reason));
    }
    if !config.head_dim.is_multiple_of(2) {
        let reason = format!(
            "is {}, but must be even: channels are rotated in pairs",
            config.head_dim
        );
        return Err(fields.error("head_dim", reason));
    }
    let slots: usize = config.mrope_section.iter().sum();
    if slots != config.head_dim / 2 {
        let reason = format!(
            "is {:?}, which makes {slots} slots, but `head_dim` {} has {}",
            config.mrope_section,
            config.head_dim,
            config.head_dim / 2
        );
        return Err(fields.error("rope_scaling.mrope_section", reason));
    }
    if !(config.rms_norm_eps >= 0.0 && config.rms_norm_eps < 1.0) {
        return Err(fields.error("rms_norm_eps", "must lie between 0 and 1"));
    }
    if config.rope_theta <= 0.0 {
        return Err(fields.error("rope_theta", "must be above zero"));
    }
    Ok(())
}

pub(super) fn vision(config: &VisionConfig, fields: &Fields) -> Result<()> {
    let (hidden, heads) = (config.hidden_size, config.num_heads);
    if hidden % heads != 0 {
        return Err(fields.error(
            "hidden_size",
            format!("is {hidden}, but must be a multiple of `num_heads`, {heads}"),
        ));
    }
    if (hidden / heads) % 4 != 0 {
        let reason = format!(
            "is {heads}, which makes heads of {} channels, but a quarter of a head turns with the row and a quarter \
             with the column",
            hidden / heads
        );
        return Err(fields.error("num_heads", reason));
    }
    let positions = config.num_position_embeddings;
    if positions.isqrt().pow(2) != positions {
        let reason = format!("is {positions}, but the position grid is a square");
        return Err(fields.error("num_position_embeddings", reason));
    }
    let indexes = &config.deepstack_visual_indexes;
    if let Some(index) = indexes.iter().find(|&&index| index >= config.depth) {
        let reason = format!("names block {index}, but `depth` is {}", config.depth);
        return Err(fields.error("deepstack_visual_indexes", reason));
    }
    let twice = |&(place, index): &(usize, &usize)| indexes[..place].contains(index);
    if let Some((_, index)) = indexes.iter().enumerate().find(twice) {
        let reason = format!("is {indexes:?}, but a block feeds one merger; {index} is there twice");
        return Err(fields.error("deepstack_visual_indexes", reason));
    }
    Ok(())
}

pub(super) fn unicycle(config: &UnicycleConfig, fields: &Fields) -> Result<()> {
    let positive = [
        ("dt", config.dt),
        ("accel_std", config.accel_std),
        ("curvature_std", config.curvature_std),
    ];
    if let Some((name, value)) = positive.iter().find(|(_, value)| *value <= 0.0) {
        return Err(fields.error(name, format!("is {value}, but must be above zero")));
    }
    let weights = [
        ("theta_lambda", config.theta_lambda),
        ("theta_ridge", config.theta_ridge),
        ("v_lambda", config.v_lambda),
        ("v_ridge", config.v_ridge),
        ("a_lambda", config.a_lambda),
        ("a_ridge", config.a_ridge),
        ("kappa_lambda", config.kappa_lambda),
        ("kappa_ridge", config.kappa_ridge),
    ];
    if let Some((name, value)) = weights.iter().find(|(_, value)| *value < 0.0) {
        return Err(fields.error(name, format!("is {value}, but must not be negative")));
    }
    for (name, [low, high]) in [
        ("accel_bounds", config.accel_bounds),
        ("curvature_bounds", config.curvature_bounds),
    ] {
        if low >= high {
            return Err(fields.error(name, format!("is [{low}, {high}], but the first must be the lower")));
        }
    }
    Ok(())
}

pub(super) fn model(config: &ModelConfig, fields: &Fields, backbone: &Fields) -> Result<()> {
    expert(config, fields)?;
    vision_and_text(config, fields, backbone)?;
    vocabulary(config, fields)?;
    let numbers = if config.history_tokenizer.predict_yaw { 4 } else { 3 };
    if config.tokens_per_history_traj != HISTORY_POSES * numbers {
        let reason = format!(
            "is {}, but {HISTORY_POSES} poses of {numbers} numbers make {}",
            config.tokens_per_history_traj,
            HISTORY_POSES * numbers
        );
        return Err(fields.error("tokens_per_history_traj", reason));
    }
    Ok(())
}

/// The expert reads the decoder's cache, layer by layer.
fn expert(config: &ModelConfig, fields: &Fields) -> Result<()> {
    let (text, expert) = (&config.text, &config.expert);
    let shared = [
        ("num_hidden_layers", expert.num_hidden_layers, text.num_hidden_layers),
        (
            "num_key_value_heads",
            expert.num_key_value_heads,
            text.num_key_value_heads,
        ),
        ("head_dim", expert.head_dim, text.head_dim),
    ];
    match shared.iter().find(|(_, expert, text)| expert != text) {
        None => Ok(()),
        Some((name, expert, text)) => {
            let reason = format!("is {expert}, but the backbone's, whose cache the expert reads, is {text}");
            Err(fields.error(&format!("expert_cfg.{name}"), reason))
        }
    }
}

fn vision_and_text(config: &ModelConfig, fields: &Fields, backbone: &Fields) -> Result<()> {
    let (text, vision) = (&config.text, &config.vision);
    if vision.out_hidden_size != text.hidden_size {
        let reason = format!(
            "is {}, but the text's `hidden_size` is {}",
            vision.out_hidden_size, text.hidden_size
        );
        return Err(backbone.error("vision_config.out_hidden_size", reason));
    }
    let (outputs, layers) = (vision.deepstack_visual_indexes.len(), text.num_hidden_layers);
    if outputs > layers {
        let reason = format!("has {outputs} entries, but the text has {layers} layers to add them to");
        return Err(backbone.error("vision_config.deepstack_visual_indexes", reason));
    }
    if config.min_pixels > config.max_pixels {
        let reason = format!(
            "is {}, above `max_pixels`, which is {}",
            config.min_pixels, config.max_pixels
        );
        return Err(fields.error("min_pixels", reason));
    }
    let token = vision.resize_factor().pow(2);
    if config.max_pixels < token {
        let reason = format!("is {}, but one image token takes {token}", config.max_pixels);
        return Err(fields.error("max_pixels", reason));
    }
    Ok(())
}

fn vocabulary(config: &ModelConfig, fields: &Fields) -> Result<()> {
    let bins = config.future_num_bins + config.history_tokenizer.num_bins;
    if bins > config.traj_vocab_size {
        let reason = format!(
            "is {}, but {} future and {} history bins need {bins}",
            config.traj_vocab_size, config.future_num_bins, config.history_tokenizer.num_bins
        );
        return Err(fields.error("traj_vocab_size", reason));
    }
    let trajectory = config.traj_token_start_idx..config.traj_token_start_idx + config.traj_vocab_size;
    if trajectory.end > config.vocab_size {
        let reason = format!(
            "is {}, but the trajectory tokens end at {}",
            config.vocab_size, trajectory.end
        );
        return Err(fields.error("vocab_size", reason));
    }
    let ids = config.traj_token_ids.named();
    for (index, (name, id)) in ids.iter().enumerate() {
        let field = format!("traj_token_ids.{name}");
        let position = *id as usize;
        if position >= config.vocab_size || trajectory.contains(&position) {
            let reason = format!(
                "is {id}, but must be below `vocab_size`, {}, and not among the trajectory's numbers, {} to {}",
                config.vocab_size,
                trajectory.start,
                trajectory.end - 1
            );
            return Err(fields.error(&field, reason));
        }
        if let Some((other, _)) = ids[..index].iter().find(|(_, other)| other == id) {
            return Err(fields.error(&field, format!("is {id}, as `{other}` is")));
        }
    }
    Ok(())
}
