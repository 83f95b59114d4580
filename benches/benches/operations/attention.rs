//! The four attentions.

use alpamayo_backends::ModelBackend;
use alpamayo_backends::layers::{
    Attention, CacheConfig, HeadNorms, LayerCache, RmsNorm, Rotary, RowLengths, SuffixPosition,
};
use alpamayo_backends::verify::ModelShapes;

use super::Bench;

/// Tokens of reasoning in the cache.
const SUFFIX: usize = 40;

pub fn run<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) {
    vision(bench, shapes);
    prefill(bench, shapes);
    for samples in [1, shapes.samples] {
        decode(bench, shapes, samples);
        expert(bench, shapes, samples);
    }
}

impl<B: ModelBackend> Bench<'_, B> {
    fn rotary(&self, tokens: usize, attention: &Attention) -> Rotary<B> {
        let half = attention.head_dim / 2;
        Rotary {
            cos: self.matrix(tokens, half),
            sin: self.matrix(tokens, half),
        }
    }

    fn head_norms(&self, attention: &Attention) -> HeadNorms<B> {
        let norm = || RmsNorm::new(self.vector(attention.head_dim), 1e-6);
        HeadNorms {
            query: norm(),
            key: norm(),
        }
    }

    fn layer_cache(&self, shapes: &ModelShapes, samples: usize) -> LayerCache<B> {
        let attention = &shapes.text.attention;
        let config = CacheConfig {
            clips: 1,
            samples,
            prompt_length: shapes.prompt_length,
            suffix_capacity: SUFFIX,
            num_key_value_heads: attention.num_key_value_heads,
            head_dim: attention.head_dim,
            format: self.cache,
        };
        LayerCache::new(&config, &self.device)
    }
}

fn vision<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) {
    let (attention, lengths) = (shapes.vision.attention, &shapes.vision.image_lengths);
    let patches = lengths.iter().sum();
    let (qkv, rotary) = (
        bench.matrix(patches, attention.qkv_features()),
        bench.rotary(patches, &attention),
    );
    let at = format!("{} images, {patches} patches", lengths.len());
    bench.time("vision_attention", at, || {
        B::vision_attention(qkv.clone(), &attention, &rotary, lengths)
    });
}

fn prefill<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) {
    let (attention, length) = (shapes.text.attention, shapes.prompt_length);
    let (qkv, rotary) = (
        bench.matrix(length, attention.qkv_features()),
        bench.rotary(length, &attention),
    );
    let (norms, mut cache) = (bench.head_norms(&attention), bench.layer_cache(shapes, 1));
    bench.time("prefill_attention", format!("{length} tokens"), || {
        B::prefill_attention(qkv.clone(), &attention, &norms, &rotary, &mut cache.prompt)
    });
}

fn decode<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes, samples: usize) {
    let attention = shapes.text.attention;
    let (qkv, rotary) = (
        bench.matrix(samples, attention.qkv_features()),
        bench.rotary(samples, &attention),
    );
    let (norms, mut cache) = (bench.head_norms(&attention), bench.layer_cache(shapes, samples));
    let position = SuffixPosition::new(SUFFIX - 1, &bench.device);
    let at = format!("{samples} over {} + {SUFFIX}", shapes.prompt_length);
    bench.time("decode_attention", at, || {
        B::decode_attention(qkv.clone(), &attention, &norms, &rotary, &mut cache, &position)
    });
}

fn expert<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes, samples: usize) {
    let attention = shapes.expert.attention;
    let tokens = samples * shapes.waypoints;
    let (qkv, rotary) = (
        bench.matrix(tokens, attention.qkv_features()),
        bench.rotary(tokens, &attention),
    );
    let (norms, cache) = (bench.head_norms(&attention), bench.layer_cache(shapes, samples));
    let lengths = RowLengths::new(vec![SUFFIX; samples], &bench.device);
    let at = format!(
        "{samples} x {} over {} + {SUFFIX}",
        shapes.waypoints, shapes.prompt_length
    );
    bench.time("expert_attention", at, || {
        B::expert_attention(qkv.clone(), &attention, &norms, &rotary, &cache, &lengths)
    });
}
