//! One decoder layer, shared by the language model and the action expert.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{
    Activation, Attention, HeadNorms, KeyValue, LayerCache, Linear, Norm, Rotary, RowLengths, SuffixPosition,
};
use alpamayo_core::DecoderConfig;
use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use crate::error::Result;
use crate::host::select_rows;
use crate::parameters::ParameterSource;

/// A pre-norm layer: grouped-query attention with per-head RMSNorm and rotation, then a SwiGLU MLP.
#[derive(Module, Debug)]
pub struct DecoderLayer<B: Backend> {
    /// RMSNorm before the attention.
    pub input_layernorm: Norm<B>,
    /// Fused `q | k | v`, no bias.
    pub qkv: Linear<B>,
    /// Per-head RMSNorms of queries and keys.
    pub head_norms: HeadNorms<B>,
    /// Output projection of the attention.
    pub o_proj: Linear<B>,
    /// RMSNorm before the MLP.
    pub post_attention_layernorm: Norm<B>,
    /// Fused `gate | up`.
    pub gate_up: Linear<B>,
    /// Down projection.
    pub down_proj: Linear<B>,
    /// Heads.
    #[module(skip)]
    pub attention: Attention,
}

impl<B: ModelBackend> DecoderLayer<B> {
    /// Builds the layer from a source's fields `{prefix}.*` (`decoder.layers.{i}`, `expert.layers.{i}`).
    ///
    /// # Errors
    /// As the source's.
    pub fn new(config: &DecoderConfig, prefix: &str, source: &mut dyn ParameterSource<B>) -> Result<Self> {
        let (hidden, intermediate, epsilon) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let attention = Attention {
            num_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        };
        let queries = attention.num_heads * attention.head_dim;
        let keys = attention.num_key_value_heads * attention.head_dim;
        let field = |name: &str| format!("{prefix}.{name}");
        Ok(Self {
            input_layernorm: Norm::Rms(source.rms_norm(&field("input_layernorm"), hidden, epsilon)?),
            qkv: source.linear(&field("qkv"), hidden, &[queries, keys, keys], false)?,
            head_norms: HeadNorms {
                query: source.rms_norm(&field("q_norm"), attention.head_dim, epsilon)?,
                key: source.rms_norm(&field("k_norm"), attention.head_dim, epsilon)?,
            },
            o_proj: source.linear(&field("o_proj"), queries, &[hidden], false)?,
            post_attention_layernorm: Norm::Rms(source.rms_norm(
                &field("post_attention_layernorm"),
                hidden,
                epsilon,
            )?),
            gate_up: source.linear(&field("gate_up"), hidden, &[intermediate, intermediate], false)?,
            down_proj: source.linear(&field("down_proj"), intermediate, &[hidden], false)?,
            attention,
        })
    }

    /// Whole prompts `[clips · length, hidden]`; fills `prompt`.
    pub fn prefill(&self, x: Tensor<B, 2>, rotary: &Rotary<B>, prompt: &mut KeyValue<B>) -> Tensor<B, 2> {
        self.forward(x, |qkv| {
            B::prefill_attention(qkv, &self.attention, &self.head_norms, rotary, prompt)
        })
    }

    /// As [`prefill`](Self::prefill), with the output of the given rows only, `[rows, hidden]`; fills all of `prompt`.
    ///
    /// Behind the last layer nothing reads the other rows, and keys and values are all that is left of them.
    pub fn prefill_rows(
        &self,
        x: Tensor<B, 2>,
        rotary: &Rotary<B>,
        prompt: &mut KeyValue<B>,
        rows: &[usize],
    ) -> Tensor<B, 2> {
        let wanted = select_rows(x.clone(), rows.iter().copied());
        let attended = self.attend(x, |qkv| {
            B::prefill_attention(qkv, &self.attention, &self.head_norms, rotary, prompt)
        });
        self.after_attention(select_rows(attended, rows.iter().copied()), wanted)
    }

    /// The next tokens of every row, `[rows · tokens, hidden]`; writes their keys and values from suffix `position` on.
    ///
    /// `projected` is this layer's `q | k | v` of `x` where the layer before has computed it; with the result comes that of `next`.
    pub fn decode(
        &self,
        x: Tensor<B, 2>,
        projected: Option<Tensor<B, 2>>,
        rotary: &Rotary<B>,
        cache: &mut LayerCache<B>,
        position: &SuffixPosition<B>,
        next: Option<&Self>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 2>>) {
        let qkv = projected.unwrap_or_else(|| self.project(x.clone()));
        let attended = B::decode_attention(qkv, &self.attention, &self.head_norms, rotary, cache, position);
        self.before_next(attended, x, next)
    }

    /// Action tokens `[rows · tokens, hidden]` over a cache that is only read.
    ///
    /// `projected` is this layer's `q | k | v` of `x` where the layer before has computed it; with the result comes that of `next`.
    pub fn expert(
        &self,
        x: Tensor<B, 2>,
        projected: Option<Tensor<B, 2>>,
        rotary: &Rotary<B>,
        cache: &LayerCache<B>,
        suffix_lengths: &RowLengths<B>,
        next: Option<&Self>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 2>>) {
        let qkv = projected.unwrap_or_else(|| self.project(x.clone()));
        let attended = B::expert_attention(qkv, &self.attention, &self.head_norms, rotary, cache, suffix_lengths);
        self.before_next(attended, x, next)
    }

    /// The layer's rows, from what was attended to, and `q | k | v` of the next layer.
    fn before_next(
        &self,
        attended: Tensor<B, 2>,
        x: Tensor<B, 2>,
        next: Option<&Self>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 2>>) {
        let [x, inner] = self.before_down(attended, x);
        match next {
            Some(next) => {
                let [x, projected] =
                    B::project_add_norm_project(inner, &self.down_proj, x, &next.input_layernorm, &next.qkv);
                (x, Some(projected))
            }
            None => (B::project_add(inner, &self.down_proj, x), None),
        }
    }

    fn forward(&self, x: Tensor<B, 2>, attend: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>) -> Tensor<B, 2> {
        let attended = self.attend(x.clone(), attend);
        self.after_attention(attended, x)
    }

    fn attend(&self, x: Tensor<B, 2>, attend: impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>) -> Tensor<B, 2> {
        attend(self.project(x))
    }

    /// `q | k | v`.
    fn project(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::norm_project(x, &self.input_layernorm, &self.qkv, Activation::None)
    }

    fn after_attention(&self, attended: Tensor<B, 2>, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [x, inner] = self.before_down(attended, x);
        B::project_add(inner, &self.down_proj, x)
    }

    /// The rows behind the attention, and what the down projection adds to them.
    fn before_down(&self, attended: Tensor<B, 2>, x: Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
        B::project_add_norm_gate_up(attended, &self.o_proj, x, &self.post_attention_layernorm, &self.gate_up)
    }
}
