//! The table of a checkpoint's tensors: the part of the model each belongs to, its name, the module field it fills, its shape.
//!
//! `{}` stands for the number that the row's [`Repeat`] counts. Tensors that share a field and a role (`weight` or `bias`, the
//! end of the name) are stacked by rows in the table's order. Rows stand in the order in which the modules ask for them, which is
//! the order of the data's way through the model. What the columns mean is in [`layout`](super::layout).

use super::layout::Part::{self, *};
use super::layout::Repeat::{self, *};
use super::layout::Size::{self, *};

/// One row of the table.
pub(super) struct Row {
    /// The part of the model.
    pub part: Part,
    /// How often the row is repeated.
    pub repeat: Repeat,
    /// The tensor's name in a checkpoint.
    pub name: &'static str,
    /// The field as the modules ask for it.
    pub field: &'static str,
    /// The extents, outermost first.
    pub shape: &'static [Size],
}

const fn row(part: Part, repeat: Repeat, name: &'static str, field: &'static str, shape: &'static [Size]) -> Row {
    Row {
        part,
        repeat,
        name,
        field,
        shape,
    }
}

/// Every tensor of an Alpamayo-R1 checkpoint.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    row(Vision, Once, "vlm.model.visual.patch_embed.proj.weight", "vision.patch_embed", &[VisionHidden, Channels, TemporalPatch, Patch, Patch]),
    row(Vision, Once, "vlm.model.visual.patch_embed.proj.bias",   "vision.patch_embed", &[VisionHidden]),
    row(Vision, Once, "vlm.model.visual.pos_embed.weight",        "vision.pos_embed",   &[VisionPositions, VisionHidden]),

    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.norm1.weight",          "vision.blocks.{}.norm1",      &[VisionHidden]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.norm1.bias",            "vision.blocks.{}.norm1",      &[VisionHidden]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.attn.qkv.weight",       "vision.blocks.{}.qkv",        &[VisionQkv, VisionHidden]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.attn.qkv.bias",         "vision.blocks.{}.qkv",        &[VisionQkv]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.attn.proj.weight",      "vision.blocks.{}.proj",       &[VisionHidden, VisionHidden]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.attn.proj.bias",        "vision.blocks.{}.proj",       &[VisionHidden]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.norm2.weight",          "vision.blocks.{}.norm2",      &[VisionHidden]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.norm2.bias",            "vision.blocks.{}.norm2",      &[VisionHidden]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.mlp.linear_fc1.weight", "vision.blocks.{}.linear_fc1", &[VisionIntermediate, VisionHidden]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.mlp.linear_fc1.bias",   "vision.blocks.{}.linear_fc1", &[VisionIntermediate]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.mlp.linear_fc2.weight", "vision.blocks.{}.linear_fc2", &[VisionHidden, VisionIntermediate]),
    row(Vision, VisionBlocks, "vlm.model.visual.blocks.{}.mlp.linear_fc2.bias",   "vision.blocks.{}.linear_fc2", &[VisionHidden]),

    row(Vision, Once, "vlm.model.visual.merger.norm.weight",       "vision.merger.norm",       &[VisionHidden]),
    row(Vision, Once, "vlm.model.visual.merger.norm.bias",         "vision.merger.norm",       &[VisionHidden]),
    row(Vision, Once, "vlm.model.visual.merger.linear_fc1.weight", "vision.merger.linear_fc1", &[VisionMerged, VisionMerged]),
    row(Vision, Once, "vlm.model.visual.merger.linear_fc1.bias",   "vision.merger.linear_fc1", &[VisionMerged]),
    row(Vision, Once, "vlm.model.visual.merger.linear_fc2.weight", "vision.merger.linear_fc2", &[VisionOut, VisionMerged]),
    row(Vision, Once, "vlm.model.visual.merger.linear_fc2.bias",   "vision.merger.linear_fc2", &[VisionOut]),

    row(Vision, DeepstackMergers, "vlm.model.visual.deepstack_merger_list.{}.norm.weight",       "vision.deepstack.{}.norm",       &[VisionMerged]),
    row(Vision, DeepstackMergers, "vlm.model.visual.deepstack_merger_list.{}.norm.bias",         "vision.deepstack.{}.norm",       &[VisionMerged]),
    row(Vision, DeepstackMergers, "vlm.model.visual.deepstack_merger_list.{}.linear_fc1.weight", "vision.deepstack.{}.linear_fc1", &[VisionMerged, VisionMerged]),
    row(Vision, DeepstackMergers, "vlm.model.visual.deepstack_merger_list.{}.linear_fc1.bias",   "vision.deepstack.{}.linear_fc1", &[VisionMerged]),
    row(Vision, DeepstackMergers, "vlm.model.visual.deepstack_merger_list.{}.linear_fc2.weight", "vision.deepstack.{}.linear_fc2", &[VisionOut, VisionMerged]),
    row(Vision, DeepstackMergers, "vlm.model.visual.deepstack_merger_list.{}.linear_fc2.bias",   "vision.deepstack.{}.linear_fc2", &[VisionOut]),

    row(Text, Once, "vlm.model.language_model.embed_tokens.weight", "decoder.embed_tokens", &[Vocabulary, TextHidden]),

    row(Text, TextLayers, "vlm.model.language_model.layers.{}.input_layernorm.weight",          "decoder.layers.{}.input_layernorm",          &[TextHidden]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.self_attn.q_proj.weight",         "decoder.layers.{}.qkv",                      &[TextQuery, TextHidden]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.self_attn.k_proj.weight",         "decoder.layers.{}.qkv",                      &[TextKeyValue, TextHidden]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.self_attn.v_proj.weight",         "decoder.layers.{}.qkv",                      &[TextKeyValue, TextHidden]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.self_attn.q_norm.weight",         "decoder.layers.{}.q_norm",                   &[TextHead]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.self_attn.k_norm.weight",         "decoder.layers.{}.k_norm",                   &[TextHead]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.self_attn.o_proj.weight",         "decoder.layers.{}.o_proj",                   &[TextHidden, TextQuery]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.post_attention_layernorm.weight", "decoder.layers.{}.post_attention_layernorm", &[TextHidden]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.mlp.gate_proj.weight",            "decoder.layers.{}.gate_up",                  &[TextIntermediate, TextHidden]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.mlp.up_proj.weight",              "decoder.layers.{}.gate_up",                  &[TextIntermediate, TextHidden]),
    row(Text, TextLayers, "vlm.model.language_model.layers.{}.mlp.down_proj.weight",            "decoder.layers.{}.down_proj",                &[TextHidden, TextIntermediate]),

    row(Text,   Once, "vlm.model.language_model.norm.weight", "decoder.norm",    &[TextHidden]),
    row(LmHead, Once, "vlm.lm_head.weight",                   "decoder.lm_head", &[Vocabulary, TextHidden]),

    row(Expert, ExpertLayers, "expert.layers.{}.input_layernorm.weight",          "expert.layers.{}.input_layernorm",          &[ExpertHidden]),
    row(Expert, ExpertLayers, "expert.layers.{}.self_attn.q_proj.weight",         "expert.layers.{}.qkv",                      &[ExpertQuery, ExpertHidden]),
    row(Expert, ExpertLayers, "expert.layers.{}.self_attn.k_proj.weight",         "expert.layers.{}.qkv",                      &[ExpertKeyValue, ExpertHidden]),
    row(Expert, ExpertLayers, "expert.layers.{}.self_attn.v_proj.weight",         "expert.layers.{}.qkv",                      &[ExpertKeyValue, ExpertHidden]),
    row(Expert, ExpertLayers, "expert.layers.{}.self_attn.q_norm.weight",         "expert.layers.{}.q_norm",                   &[ExpertHead]),
    row(Expert, ExpertLayers, "expert.layers.{}.self_attn.k_norm.weight",         "expert.layers.{}.k_norm",                   &[ExpertHead]),
    row(Expert, ExpertLayers, "expert.layers.{}.self_attn.o_proj.weight",         "expert.layers.{}.o_proj",                   &[ExpertHidden, ExpertQuery]),
    row(Expert, ExpertLayers, "expert.layers.{}.post_attention_layernorm.weight", "expert.layers.{}.post_attention_layernorm", &[ExpertHidden]),
    row(Expert, ExpertLayers, "expert.layers.{}.mlp.gate_proj.weight",            "expert.layers.{}.gate_up",                  &[ExpertIntermediate, ExpertHidden]),
    row(Expert, ExpertLayers, "expert.layers.{}.mlp.up_proj.weight",              "expert.layers.{}.gate_up",                  &[ExpertIntermediate, ExpertHidden]),
    row(Expert, ExpertLayers, "expert.layers.{}.mlp.down_proj.weight",            "expert.layers.{}.down_proj",                &[ExpertHidden, ExpertIntermediate]),
    row(Expert, Once,         "expert.norm.weight",                               "expert.norm",                               &[ExpertHidden]),

    row(ActionProjections, Once,          "action_in_proj.encoder.trunk.0.weight",  "action_in_proj.linears.0",  &[ProjectionHidden, FourierFeatures]),
    row(ActionProjections, Once,          "action_in_proj.encoder.trunk.0.bias",    "action_in_proj.linears.0",  &[ProjectionHidden]),
    row(ActionProjections, EncoderNorms,  "action_in_proj.encoder.trunk.{}.weight", "action_in_proj.norms.{}",   &[ProjectionHidden]),
    row(ActionProjections, EncoderHidden, "action_in_proj.encoder.trunk.{}.weight", "action_in_proj.linears.{}", &[ProjectionHidden, ProjectionHidden]),
    row(ActionProjections, EncoderHidden, "action_in_proj.encoder.trunk.{}.bias",   "action_in_proj.linears.{}", &[ProjectionHidden]),
    row(ActionProjections, EncoderOutput, "action_in_proj.encoder.trunk.{}.weight", "action_in_proj.linears.{}", &[ExpertHidden, ProjectionHidden]),
    row(ActionProjections, EncoderOutput, "action_in_proj.encoder.trunk.{}.bias",   "action_in_proj.linears.{}", &[ExpertHidden]),
    row(ActionProjections, Once,          "action_in_proj.norm.weight",             "action_in_proj.norm",       &[ExpertHidden]),
    row(ActionProjections, Once,          "action_in_proj.norm.bias",               "action_in_proj.norm",       &[ExpertHidden]),
    row(ActionProjections, Once,          "action_out_proj.weight",                 "action_out_proj",           &[Actions, ExpertHidden]),
    row(ActionProjections, Once,          "action_out_proj.bias",                   "action_out_proj",           &[Actions]),

    row(Buffers, Once, "action_in_proj.sinus.0.freqs",                  "action_in_proj.frequencies.0", &[One, Frequencies]),
    row(Buffers, Once, "action_in_proj.sinus.1.freqs",                  "action_in_proj.frequencies.1", &[One, Frequencies]),
    row(Buffers, Once, "action_in_proj.timestep_fourier_encoder.freqs", "action_in_proj.frequencies.2", &[One, Frequencies]),
    row(Buffers, Once, "action_space.accel_mean",                       "action_space.accel_mean",      &[]),
    row(Buffers, Once, "action_space.accel_std",                        "action_space.accel_std",       &[]),
    row(Buffers, Once, "action_space.curvature_mean",                   "action_space.curvature_mean",  &[]),
    row(Buffers, Once, "action_space.curvature_std",                    "action_space.curvature_std",   &[]),
];
