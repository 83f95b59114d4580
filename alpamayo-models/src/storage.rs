//! Which parameters are stored in few bits where few bits are asked for.

use alpamayo_backends::layers::WeightFormat;

/// The format that a matrix is stored in, given the format asked for and the field that it fills.
///
/// Few bits are for the matrices whose reading takes the time: those of the decoder's and the expert's layers and the vocabulary
/// projection. The vision tower stays at 8 bits where 4 are asked for. Embedding tables and the action projections, small
/// and the model's numeric ends, stay bf16. Norms and biases are f32 always.
pub fn stored_format(field: &str, asked: WeightFormat) -> WeightFormat {
    let part = field.split('.').next().unwrap_or_default();
    match (asked, part) {
        (WeightFormat::Int8 | WeightFormat::Int4, "action_in_proj" | "action_out_proj") => WeightFormat::Bf16,
        (WeightFormat::Int8 | WeightFormat::Int4, _) if TABLES.contains(&field) => asked.of_tables(),
        (WeightFormat::Int4, "vision") => WeightFormat::Int8,
        _ => asked,
    }
}

/// The field of the token embeddings.
pub(crate) const TOKEN_TABLE: &str = "decoder.embed_tokens";

/// Fields whose rows are looked up.
const TABLES: [&str; 2] = [TOKEN_TABLE, "vision.pos_embed"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bits_are_for_the_layers() {
        use WeightFormat::{Bf16, F32, Int4, Int8};
        for (field, eight, four) in [
            ("decoder.layers.0.qkv", Int8, Int4),
            ("expert.layers.35.down_proj", Int8, Int4),
            ("vision.blocks.3.qkv", Int8, Int8),
            ("vision.patch_embed", Int8, Int8),
            ("vision.pos_embed", Bf16, Bf16),
            ("decoder.embed_tokens", Bf16, Bf16),
            ("decoder.lm_head", Int8, Int4),
            ("action_in_proj.linears.0", Bf16, Bf16),
            ("action_out_proj", Bf16, Bf16),
        ] {
            assert_eq!(stored_format(field, Int8), eight, "{field}");
            assert_eq!(stored_format(field, Int4), four, "{field}");
            assert_eq!(stored_format(field, F32), F32);
            assert_eq!(stored_format(field, Bf16), Bf16);
        }
    }
}
