//! What the columns of the [table](super::table) mean, and the list of tensors that they give for a model.

use alpamayo_core::ModelConfig;
use serde::Serialize;

use super::table::{Row, TABLE};

/// Values that describe an action: acceleration and curvature.
const ACTIONS: usize = 2;

/// A part of the model, as the summary of a checkpoint counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Vision tower with its mergers.
    Vision,
    /// Token embeddings and text decoder.
    Text,
    /// The vocabulary projection.
    LmHead,
    /// Action expert.
    Expert,
    /// Projections of actions into and out of the expert.
    ActionProjections,
    /// Constants that may be left out, since the configuration gives them.
    Buffers,
}

impl Part {
    /// All parts, in the order of the data's way.
    pub const ALL: [Self; 6] = [
        Self::Vision,
        Self::Text,
        Self::LmHead,
        Self::Expert,
        Self::ActionProjections,
        Self::Buffers,
    ];

    /// The name shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Text => "text",
            Self::LmHead => "lm_head",
            Self::Expert => "expert",
            Self::ActionProjections => "action projections",
            Self::Buffers => "buffers",
        }
    }
}

/// What repeats a row, and which numbers take the place of `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Not at all.
    Once,
    /// Every block of the vision tower.
    VisionBlocks,
    /// Every deepstack merger.
    DeepstackMergers,
    /// Every decoder layer.
    TextLayers,
    /// Every layer of the action expert.
    ExpertLayers,
    /// Every RMSNorm of the action encoder: the stored sequence is linear, SiLU, then norm, linear, SiLU …, norm, linear.
    EncoderNorms,
    /// The action encoder's linear layers between the first and the last.
    EncoderHidden,
    /// The action encoder's last linear layer.
    EncoderOutput,
}

impl Repeat {
    /// `(number in the checkpoint's name, number in the module's field)` of every repetition.
    fn numbers(self, config: &ModelConfig) -> Vec<(usize, usize)> {
        let encoder_layers = config.action_in_proj.num_enc_layers;
        let same = |count: usize| (0..count).map(|index| (index, index)).collect();
        match self {
            Self::Once => same(1),
            Self::VisionBlocks => same(config.vision.depth),
            Self::DeepstackMergers => same(config.vision.deepstack_visual_indexes.len()),
            Self::TextLayers => same(config.text.num_hidden_layers),
            Self::ExpertLayers => same(config.expert.num_hidden_layers),
            Self::EncoderNorms => (0..encoder_layers).map(|index| (3 * index + 2, index)).collect(),
            Self::EncoderHidden => (1..encoder_layers).map(|index| (3 * index, index)).collect(),
            Self::EncoderOutput => vec![(3 * encoder_layers, encoder_layers)],
        }
    }
}

/// An extent of a tensor, in terms of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    One,
    VisionHidden,
    VisionIntermediate,
    VisionQkv,
    VisionPositions,
    VisionMerged,
    VisionOut,
    Channels,
    TemporalPatch,
    Patch,
    Vocabulary,
    TextHidden,
    TextIntermediate,
    TextQuery,
    TextKeyValue,
    TextHead,
    ExpertHidden,
    ExpertIntermediate,
    ExpertQuery,
    ExpertKeyValue,
    ExpertHead,
    ProjectionHidden,
    FourierFeatures,
    Frequencies,
    Actions,
}

impl Size {
    /// The extent for a model. Products saturate: a configuration that overflows fits no checkpoint.
    fn of(self, config: &ModelConfig) -> usize {
        let ModelConfig {
            vision,
            text,
            expert,
            action_in_proj,
            ..
        } = config;
        match self {
            Self::One => 1,
            Self::VisionHidden => vision.hidden_size,
            Self::VisionIntermediate => vision.intermediate_size,
            Self::VisionQkv => vision.hidden_size.saturating_mul(3),
            Self::VisionPositions => vision.num_position_embeddings,
            Self::VisionMerged => vision
                .hidden_size
                .saturating_mul(vision.spatial_merge_size)
                .saturating_mul(vision.spatial_merge_size),
            Self::VisionOut => vision.out_hidden_size,
            Self::Channels => vision.in_channels,
            Self::TemporalPatch => vision.temporal_patch_size,
            Self::Patch => vision.patch_size,
            Self::Vocabulary => config.vocab_size,
            Self::TextHidden => text.hidden_size,
            Self::TextIntermediate => text.intermediate_size,
            Self::TextQuery => text.num_attention_heads.saturating_mul(text.head_dim),
            Self::TextKeyValue => text.num_key_value_heads.saturating_mul(text.head_dim),
            Self::TextHead => text.head_dim,
            Self::ExpertHidden => expert.hidden_size,
            Self::ExpertIntermediate => expert.intermediate_size,
            Self::ExpertQuery => expert.num_attention_heads.saturating_mul(expert.head_dim),
            Self::ExpertKeyValue => expert.num_key_value_heads.saturating_mul(expert.head_dim),
            Self::ExpertHead => expert.head_dim,
            Self::ProjectionHidden => action_in_proj.hidden_size,
            Self::FourierFeatures => action_in_proj.num_fourier_feats.saturating_mul(ACTIONS + 1),
            Self::Frequencies => action_in_proj.num_fourier_feats / 2,
            Self::Actions => ACTIONS,
        }
    }
}

/// A tensor that a model's checkpoint must hold, or may hold where it is optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpectedTensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// The module field that it fills, alone or stacked with others.
    pub field: String,
    /// Its extents, outermost first; `[out, in]` for linear weights.
    pub shape: Vec<usize>,
    /// The part of the model that it belongs to.
    pub part: Part,
    /// Whether a checkpoint may leave it out.
    pub optional: bool,
}

impl ExpectedTensor {
    /// Whether it is stored as a matrix in the format asked for; everything else is f32.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() > 1 && self.part != Part::Buffers
    }

    /// Number of values, saturating.
    pub fn elements(&self) -> usize {
        self.shape
            .iter()
            .fold(1, |product: usize, &extent| product.saturating_mul(extent))
    }
}

/// Every tensor that a checkpoint of this model holds, in the order in which the modules ask for them.
pub fn expected_tensors(config: &ModelConfig) -> Vec<ExpectedTensor> {
    TABLE
        .chunk_by(|first, second| first.repeat == second.repeat)
        .flat_map(|rows| {
            let numbers = rows.first().map(|row| row.repeat.numbers(config)).unwrap_or_default();
            numbers
                .into_iter()
                .flat_map(move |numbers| rows.iter().map(move |row| expected(row, numbers, config)))
        })
        .collect()
}

fn expected(row: &Row, (in_name, in_field): (usize, usize), config: &ModelConfig) -> ExpectedTensor {
    ExpectedTensor {
        name: row.name.replace("{}", &in_name.to_string()),
        field: row.field.replace("{}", &in_field.to_string()),
        shape: row.shape.iter().map(|size| size.of(config)).collect(),
        part: row.part,
        optional: row.part == Part::Buffers,
    }
}
