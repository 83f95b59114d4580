//! The four attentions, with per-head norms, rotation and the cache.

use burn::tensor::DType;

use super::host;
use super::linear::Layer;
use super::{Bench, ModelShapes};
use crate::ModelBackend;
use crate::error::Result;
use crate::layers::{
    Activation, Attention, CacheConfig, HeadNorms, LayerCache, Norm, RmsNorm, Rotary, RowLengths, SuffixPosition,
};

/// At most so many tokens of an output are compared.
const SAMPLED: usize = 12;
/// Suffix tokens before the one that is decoded.
const SUFFIX: usize = 5;
/// Features of the rows whose projection is attended to: few, since the host multiplies them too.
const PROJECTED: usize = 16;

pub(super) fn verify<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) -> Result<()> {
    let vision = &shapes.vision;
    let patches = vision.image_lengths.iter().sum();
    let rows = Rows::new(bench, patches, &vision.attention);
    images(bench, &vision.attention, &vision.image_lengths, &rows);
    let rows = Rows::projected(bench, patches, &vision.attention)?;
    if rows.tensor.dtype() != DType::F32 {
        images(bench, &vision.attention, &vision.image_lengths, &rows);
    }
    decoder(bench, shapes);
    Ok(())
}

/// The parameters around one attention, on the host and on the device.
struct Surroundings<B: ModelBackend> {
    attention: Attention,
    query_weight: Vec<f32>,
    key_weight: Vec<f32>,
    norms: HeadNorms<B>,
}

/// Random fused rows with their rotation.
struct Rows<B: ModelBackend> {
    values: Vec<f32>,
    tensor: burn::tensor::Tensor<B, 2>,
    cos: Vec<f32>,
    sin: Vec<f32>,
    rotary: Rotary<B>,
}

impl<B: ModelBackend> Rows<B> {
    fn new(bench: &mut Bench<'_, B>, tokens: usize, attention: &Attention) -> Self {
        let rows = bench.matrix(tokens, attention.qkv_features(), 1.5);
        Self::rotated(bench, tokens, attention, rows)
    }

    /// Rows as a projection behind a norm leaves them, in the element type that it chooses.
    fn projected(bench: &mut Bench<'_, B>, tokens: usize, attention: &Attention) -> Result<Self> {
        let features = attention.qkv_features();
        let layer = Layer::new(bench, PROJECTED, features)?;
        let (x, tensor) = bench.matrix(tokens, PROJECTED, 1.5);
        let (weight, weight_tensor) = bench.vector(PROJECTED, 1.0, 0.5);
        let norm = Norm::rms(weight_tensor, 1e-6);
        let mut values = Vec::with_capacity(tokens * features);
        for x in x.chunks(PROJECTED) {
            let x = host::rms_norm(x, &weight, 1e-6);
            values.extend((0..features).map(|row| layer.output(&x, row) as f32));
        }
        let projected = B::norm_project(tensor, &norm, &layer.linear, Activation::None);
        Ok(Self::rotated(bench, tokens, attention, (values, projected)))
    }

    fn rotated(
        bench: &mut Bench<'_, B>,
        tokens: usize,
        attention: &Attention,
        (values, tensor): (Vec<f32>, burn::tensor::Tensor<B, 2>),
    ) -> Self {
        let half = attention.head_dim / 2;
        let angles = bench.random.values(tokens * half, 3.0);
        let cos: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
        let rotary = Rotary {
            cos: host::upload(&cos, [tokens, half], bench.device),
            sin: host::upload(&sin, [tokens, half], bench.device),
        };
        Self {
            values,
            tensor,
            cos,
            sin,
            rotary,
        }
    }

    /// A head of query (0), key (1) or value (2), rotated and, given a weight, normalised.
    fn head(&self, token: usize, part: usize, head: usize, attention: &Attention, weight: Option<&[f32]>) -> Vec<f32> {
        let width = attention.qkv_features();
        let head = host::head_of(&self.values[token * width..(token + 1) * width], part, head, attention);
        if part == 2 {
            return head;
        }
        let head = weight.map_or(head.clone(), |weight| host::rms_norm(&head, weight, 1e-6));
        let half = attention.head_dim / 2;
        let angles = token * half..(token + 1) * half;
        host::rotate(&head, &self.cos[angles.clone()], &self.sin[angles])
    }
}

impl<B: ModelBackend> Surroundings<B> {
    fn new(bench: &mut Bench<'_, B>, attention: Attention) -> Self {
        let (query_weight, query) = bench.vector(attention.head_dim, 1.0, 0.5);
        let (key_weight, key) = bench.vector(attention.head_dim, 1.0, 0.5);
        let norms = HeadNorms {
            query: rms(query),
            key: rms(key),
        };
        Self {
            attention,
            query_weight,
            key_weight,
            norms,
        }
    }

    /// The outputs of some tokens, each over the context that `context(token)` lists as (rows, token) pairs.
    fn expected(
        &self,
        queries: &Rows<B>,
        tokens: &[usize],
        context: impl Fn(usize) -> Vec<(usize, usize)>,
        sources: &[&Rows<B>],
    ) -> Vec<(usize, usize, f64)> {
        let attention = &self.attention;
        let shared = attention.num_heads / attention.num_key_value_heads;
        let mut elements = Vec::new();
        for &token in tokens {
            let context = context(token);
            for head in 0..attention.num_heads {
                let part = |part: usize, weight: Option<&[f32]>| -> Vec<Vec<f32>> {
                    let at = |&(source, token): &(usize, usize)| {
                        sources[source].head(token, part, head / shared, attention, weight)
                    };
                    context.iter().map(at).collect()
                };
                let (keys, values) = (part(1, Some(&self.key_weight)), part(2, None));
                let query = queries.head(token, 0, head, attention, Some(&self.query_weight));
                let output = host::attend(&query, &slices(&keys), &slices(&values));
                elements.extend(
                    output
                        .into_iter()
                        .enumerate()
                        .map(|(d, x)| (token, head * attention.head_dim + d, x)),
                );
            }
        }
        elements
    }
}

fn slices(rows: &[Vec<f32>]) -> Vec<&[f32]> {
    rows.iter().map(Vec::as_slice).collect()
}

fn rms<B: ModelBackend>(weight: burn::tensor::Tensor<B, 1>) -> RmsNorm<B> {
    match Norm::rms(weight, 1e-6) {
        Norm::Rms(norm) => norm,
        Norm::Layer(_) => unreachable!("an RMSNorm was made"),
    }
}

/// Attention of images to themselves.
fn images<B: ModelBackend>(bench: &mut Bench<'_, B>, attention: &Attention, lengths: &[usize], rows: &Rows<B>) {
    let patches = lengths.iter().sum();
    let output = B::vision_attention(rows.tensor.clone(), attention, &rows.rotary, lengths);
    let starts: Vec<usize> = lengths
        .iter()
        .scan(0, |start, length| Some(std::mem::replace(start, *start + length)))
        .collect();
    let mut expected = Vec::new();
    for token in bench.random.sample(patches, SAMPLED) {
        let image = starts.iter().rposition(|&start| start <= token).unwrap_or(0);
        for head in 0..attention.num_heads {
            let part = |part| -> Vec<Vec<f32>> {
                (starts[image]..starts[image] + lengths[image])
                    .map(|t| rows.head(t, part, head, attention, None))
                    .collect()
            };
            let (keys, values) = (part(1), part(2));
            let output = host::attend(
                &rows.head(token, 0, head, attention, None),
                &slices(&keys),
                &slices(&values),
            );
            expected.extend(
                output
                    .into_iter()
                    .enumerate()
                    .map(|(d, x)| (token, head * attention.head_dim + d, x)),
            );
        }
    }
    let tolerance = bench.formats.tolerance();
    let shape = format!(
        "{} images, {patches} patches, {} x {}, {:?} rows",
        lengths.len(),
        attention.num_heads,
        attention.head_dim,
        rows.tensor.dtype()
    );
    bench.compare("vision_attention", shape, tolerance, output, expected);
}

fn decoder<B: ModelBackend>(bench: &mut Bench<'_, B>, shapes: &ModelShapes) {
    let around = Surroundings::new(bench, shapes.text.attention);
    let attention = around.attention;
    let (prompt, samples) = (shapes.prompt_length, shapes.samples);
    let config = CacheConfig {
        clips: 1,
        samples,
        prompt_length: prompt,
        suffix_capacity: SUFFIX + 1,
        num_key_value_heads: attention.num_key_value_heads,
        head_dim: attention.head_dim,
        format: bench.formats.cache,
    };
    let mut cache = LayerCache::<B>::new(&config, bench.device);
    let tolerance = bench.formats.tolerance();

    let prompts = Rows::new(bench, prompt, &attention);
    let output = B::prefill_attention(
        prompts.tensor.clone(),
        &attention,
        &around.norms,
        &prompts.rotary,
        &mut cache.prompt,
    );
    let tokens = bench.random.sample(prompt, SAMPLED);
    let expected = around.expected(
        &prompts,
        &tokens,
        |token| (0..=token).map(|t| (0, t)).collect(),
        &[&prompts],
    );
    let shape = format!(
        "{prompt} tokens, {}/{} x {}",
        attention.num_heads, attention.num_key_value_heads, attention.head_dim
    );
    bench.compare("prefill_attention", shape.clone(), tolerance, output, expected);

    // All rows' first tokens at once, then one more each, as teacher forcing and decoding do.
    let forced = Rows::new(bench, samples * SUFFIX, &attention);
    B::decode_attention(
        forced.tensor.clone(),
        &attention,
        &around.norms,
        &forced.rotary,
        &mut cache,
        &SuffixPosition::new(0, bench.device),
    );
    let next = Rows::new(bench, samples, &attention);
    let output = B::decode_attention(
        next.tensor.clone(),
        &attention,
        &around.norms,
        &next.rotary,
        &mut cache,
        &SuffixPosition::new(SUFFIX, bench.device),
    );
    let prompt_context = || (0..prompt).map(|t| (0, t));
    let context = |row: usize| -> Vec<(usize, usize)> {
        let own = (0..SUFFIX).map(|t| (1, row * SUFFIX + t));
        prompt_context().chain(own).chain([(2, row)]).collect()
    };
    let rows: Vec<usize> = (0..samples).collect();
    let expected = around.expected(&next, &rows, context, &[&prompts, &forced, &next]);
    bench.compare(
        "decode_attention",
        format!("{samples} rows after {shape}"),
        tolerance,
        output,
        expected,
    );

    expert(bench, shapes, &around, &cache, &prompts, &forced);
}

fn expert<B: ModelBackend>(
    bench: &mut Bench<'_, B>,
    shapes: &ModelShapes,
    text: &Surroundings<B>,
    cache: &LayerCache<B>,
    prompts: &Rows<B>,
    forced: &Rows<B>,
) {
    let attention = Attention {
        num_key_value_heads: text.attention.num_key_value_heads,
        head_dim: text.attention.head_dim,
        ..shapes.expert.attention
    };
    let around = Surroundings::<B> {
        attention,
        query_weight: text.query_weight.clone(),
        key_weight: text.key_weight.clone(),
        norms: text.norms.clone(),
    };
    let (samples, waypoints, prompt) = (shapes.samples, shapes.waypoints, shapes.prompt_length);
    // The cached heads were cut from the text's fused rows, so the reference reads them with the text's layout.
    let own = Rows::new(bench, samples * waypoints, &attention);
    let lengths: Vec<usize> = (0..samples).map(|row| row % (SUFFIX + 1)).collect();
    let output = B::expert_attention(
        own.tensor.clone(),
        &attention,
        &around.norms,
        &own.rotary,
        cache,
        &RowLengths::new(lengths.clone(), bench.device),
    );
    let mut expected = Vec::new();
    for token in bench.random.sample(samples * waypoints, SAMPLED) {
        let row = token / waypoints;
        for head in 0..attention.num_heads {
            let group = head * attention.num_key_value_heads / attention.num_heads;
            let part = |part: usize, weight: Option<&[f32]>| -> Vec<Vec<f32>> {
                let mut context: Vec<_> = (0..prompt)
                    .map(|t| prompts.head(t, part, group, &text.attention, weight))
                    .collect();
                context.extend(
                    (0..lengths[row]).map(|t| forced.head(row * SUFFIX + t, part, group, &text.attention, weight)),
                );
                let mine = row * waypoints..(row + 1) * waypoints;
                context.extend(mine.map(|t| own.head(t, part, group, &attention, weight)));
                context
            };
            let (keys, values) = (part(1, Some(&around.key_weight)), part(2, None));
            let query = own.head(token, 0, head, &attention, Some(&around.query_weight));
            let output = host::attend(&query, &slices(&keys), &slices(&values));
            expected.extend(
                output
                    .into_iter()
                    .enumerate()
                    .map(|(d, x)| (token, head * attention.head_dim + d, x)),
            );
        }
    }
    let tolerance = bench.formats.tolerance();
    let shape = format!("{samples} x {waypoints} tokens over {prompt} + {SUFFIX}");
    bench.compare("expert_attention", shape, tolerance, output, expected);
}
