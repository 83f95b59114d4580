//! Interleaved multimodal rotary positions: each slot of a head turns with a token's time, row or column.

use alpamayo_backends::layers::Rotary;
use alpamayo_core::DecoderConfig;
use burn::tensor::backend::Backend;

use crate::rotary::{inverse_frequencies, rotary_table};

/// Positions `(t, h, w)` → rotation angles of a decoder's heads.
#[derive(Debug, Clone)]
pub struct MultimodalRope {
    inverse_frequencies: Vec<f32>,
    /// Which of a position's three numbers turns each slot.
    axes: Vec<usize>,
}

impl MultimodalRope {
    /// The rotation of a decoder: `rope_theta`, `head_dim` and `mrope_section` of its configuration.
    pub fn new(config: &DecoderConfig) -> Self {
        let [_, height, width] = config.mrope_section;
        let axis = |slot: usize| match slot % 3 {
            1 if slot < 3 * height => 1,
            2 if slot < 3 * width => 2,
            _ => 0,
        };
        Self {
            inverse_frequencies: inverse_frequencies(config.rope_theta, config.head_dim),
            axes: (0..config.head_dim / 2).map(axis).collect(),
        }
    }

    /// Angles in radians, `[tokens, head_dim / 2]`, f32.
    pub fn angles(&self, positions: impl IntoIterator<Item = [i64; 3]>) -> Vec<f32> {
        let slots = || self.axes.iter().zip(&self.inverse_frequencies);
        positions
            .into_iter()
            .flat_map(|position| slots().map(move |(&axis, frequency)| position[axis] as f32 * frequency))
            .collect()
    }

    /// The tables for one position per token.
    pub fn table<B: Backend>(&self, positions: impl IntoIterator<Item = [i64; 3]>, device: &B::Device) -> Rotary<B> {
        rotary_table(&self.angles(positions), self.axes.len(), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(head_dim: usize, mrope_section: [usize; 3]) -> DecoderConfig {
        DecoderConfig {
            hidden_size: 64,
            intermediate_size: 64,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            num_key_value_heads: 1,
            head_dim,
            rms_norm_eps: 1e-6,
            rope_theta: 5e6,
            mrope_section,
        }
    }

    #[test]
    fn the_released_sections_interleave_to_the_sixtieth_slot() {
        let rope = MultimodalRope::new(&config(128, [24, 20, 20]));
        let count = |axis| rope.axes.iter().filter(|&&a| a == axis).count();
        assert_eq!([count(0), count(1), count(2)], [24, 20, 20]);
        assert_eq!(&rope.axes[..6], [0, 1, 2, 0, 1, 2]);
        assert_eq!(&rope.axes[57..], [0, 1, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn equal_positions_turn_as_plain_rotary_embedding() {
        let rope = MultimodalRope::new(&config(32, [6, 5, 5]));
        let angles = rope.angles([[7, 7, 7]]);
        for (j, angle) in angles.iter().enumerate() {
            let truth = 7.0 * 5e6f64.powf(-2.0 * j as f64 / 32.0);
            assert!((f64::from(*angle) - truth).abs() <= 1e-6 * truth);
        }
    }
}
