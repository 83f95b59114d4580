//! The extents at which operations are verified.

use crate::layers::Attention;

/// A decoder's extents (text or expert).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderShapes {
    /// Features of the residual stream.
    pub hidden_size: usize,
    /// Features of the gated MLP.
    pub intermediate_size: usize,
    /// Heads.
    pub attention: Attention,
}

/// The vision tower's extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisionShapes {
    /// Features of the residual stream.
    pub hidden_size: usize,
    /// Features of the MLP.
    pub intermediate_size: usize,
    /// Heads (as many for keys as for queries).
    pub attention: Attention,
    /// Patches of each image.
    pub image_lengths: Vec<usize>,
}

/// A model's extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelShapes {
    /// The language model.
    pub text: DecoderShapes,
    /// The action expert.
    pub expert: DecoderShapes,
    /// The vision tower.
    pub vision: VisionShapes,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Prompt tokens.
    pub prompt_length: usize,
    /// Rows that share a prompt.
    pub samples: usize,
    /// Action tokens.
    pub waypoints: usize,
}

impl ModelShapes {
    /// Alpamayo-R1-10B with sixteen images of 1080x1920.
    pub fn released() -> Self {
        let heads = |num_heads, num_key_value_heads, head_dim| Attention {
            num_heads,
            num_key_value_heads,
            head_dim,
        };
        Self {
            text: DecoderShapes {
                hidden_size: 4096,
                intermediate_size: 12288,
                attention: heads(32, 8, 128),
            },
            expert: DecoderShapes {
                hidden_size: 2048,
                intermediate_size: 8256,
                attention: heads(16, 8, 128),
            },
            vision: VisionShapes {
                hidden_size: 1152,
                intermediate_size: 4304,
                attention: heads(16, 16, 72),
                image_lengths: vec![720; 16],
            },
            vocabulary: 155_697,
            prompt_length: 3006,
            samples: 6,
            waypoints: 64,
        }
    }

    /// Small and odd, for tests.
    pub fn small() -> Self {
        let heads = |num_heads, num_key_value_heads, head_dim| Attention {
            num_heads,
            num_key_value_heads,
            head_dim,
        };
        Self {
            text: DecoderShapes {
                hidden_size: 64,
                intermediate_size: 88,
                attention: heads(6, 2, 32),
            },
            expert: DecoderShapes {
                hidden_size: 48,
                intermediate_size: 72,
                attention: heads(4, 2, 32),
            },
            vision: VisionShapes {
                hidden_size: 48,
                intermediate_size: 104,
                attention: heads(3, 3, 24),
                image_lengths: vec![12, 20],
            },
            vocabulary: 301,
            prompt_length: 37,
            samples: 3,
            waypoints: 9,
        }
    }
}
