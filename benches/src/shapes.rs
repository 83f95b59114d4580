//! The extents that a model's operations run at.

use alpamayo_backends::layers::Attention;
use alpamayo_backends::verify::{DecoderShapes, ModelShapes, VisionShapes};
use alpamayo_core::{DecoderConfig, ModelConfig};
use alpamayo_models::pipeline::Inputs;

/// Rows that share a prompt.
const SAMPLES: usize = 6;

/// The extents of one clip's drive with six samples.
pub fn shapes(config: &ModelConfig, inputs: &Inputs) -> ModelShapes {
    let vision = &config.vision;
    let decoder = |decoder: &DecoderConfig| DecoderShapes {
        hidden_size: decoder.hidden_size,
        intermediate_size: decoder.intermediate_size,
        attention: Attention {
            num_heads: decoder.num_attention_heads,
            num_key_value_heads: decoder.num_key_value_heads,
            head_dim: decoder.head_dim,
        },
    };
    ModelShapes {
        text: decoder(&config.text),
        expert: decoder(&config.expert),
        vision: VisionShapes {
            hidden_size: vision.hidden_size,
            intermediate_size: vision.intermediate_size,
            attention: Attention {
                num_heads: vision.num_heads,
                num_key_value_heads: vision.num_heads,
                head_dim: vision.hidden_size / vision.num_heads,
            },
            image_lengths: inputs
                .patches
                .grid_thw
                .iter()
                .map(|grid| grid.iter().product())
                .collect(),
        },
        vocabulary: config.vocab_size,
        prompt_length: inputs.prompts.first().map_or(0, |prompt| prompt.len()),
        samples: SAMPLES,
        waypoints: config.action_space.n_waypoints,
    }
}
