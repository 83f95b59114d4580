//! The four attentions, as products and a softmax over materialised scores.

use burn::tensor::{Bool, DType, Int, Tensor, TensorData, activation::softmax, backend::Backend};

use super::rotary::{normalize_heads, rotate};
use crate::ModelBackend;
use crate::layers::{Attention, HeadNorms, KeyValue, LayerCache, Rotary, RowLengths, SuffixPosition};

/// See [`ModelBackend::vision_attention`](crate::ModelBackend::vision_attention).
pub fn vision_attention<B: Backend>(
    qkv: Tensor<B, 2>,
    attention: &Attention,
    rotary: &Rotary<B>,
    image_lengths: &[usize],
) -> Tensor<B, 2> {
    let [query, key, value] = split(qkv, attention);
    let (query, key) = (rotate(query, rotary), rotate(key, rotary));
    let mut start = 0;
    let mut outputs = Vec::with_capacity(image_lengths.len());
    for &length in image_lengths {
        let image = |x: &Tensor<B, 3>| rows(x.clone().narrow(0, start, length), 1);
        outputs.push(attend(image(&query), image(&key), image(&value), None, attention));
        start += length;
    }
    Tensor::cat(outputs, 0)
}

/// See [`ModelBackend::prefill_attention`](crate::ModelBackend::prefill_attention).
pub fn prefill_attention<B: ModelBackend>(
    qkv: Tensor<B, 2>,
    attention: &Attention,
    norms: &HeadNorms<B>,
    rotary: &Rotary<B>,
    prompt: &mut KeyValue<B>,
) -> Tensor<B, 2> {
    let clips = prompt.key.dims()[0];
    let [query, key, value] = prepare(qkv, attention, norms, rotary).map(|x| rows(x, clips));
    let length = query.dims()[2];
    B::write_cache(&mut prompt.key, key.clone(), 0);
    B::write_cache(&mut prompt.value, value.clone(), 0);
    let hidden = hidden_mask(&query, length, |_, token| token + 1);
    attend(query, key, value, Some(hidden), attention)
}

/// See [`ModelBackend::decode_attention`](crate::ModelBackend::decode_attention).
pub fn decode_attention<B: ModelBackend>(
    qkv: Tensor<B, 2>,
    attention: &Attention,
    norms: &HeadNorms<B>,
    rotary: &Rotary<B>,
    cache: &mut LayerCache<B>,
    position: &SuffixPosition<B>,
) -> Tensor<B, 2> {
    let position = position.host();
    let rows_count = cache.rows();
    let [query, key, value] = prepare(qkv, attention, norms, rotary).map(|x| rows(x, rows_count));
    let tokens = query.dims()[2];
    B::write_cache(&mut cache.suffix.key, key, position);
    B::write_cache(&mut cache.suffix.value, value, position);
    let visible = position + tokens;
    let suffix = Own {
        hidden: (tokens > 1).then(|| hidden_mask(&query, visible, |_, token| position + token + 1)),
        ..Own::beginning(&cache.suffix, visible)
    };
    attend_shared(query, &cache.prompt, vec![suffix], attention)
}

/// See [`ModelBackend::expert_attention`](crate::ModelBackend::expert_attention).
pub fn expert_attention<B: Backend>(
    qkv: Tensor<B, 2>,
    attention: &Attention,
    norms: &HeadNorms<B>,
    rotary: &Rotary<B>,
    cache: &LayerCache<B>,
    suffix_lengths: &RowLengths<B>,
) -> Tensor<B, 2> {
    let [query, key, value] = prepare(qkv, attention, norms, rotary).map(|x| rows(x, cache.rows()));
    let lengths = suffix_lengths.host();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mut own = Vec::new();
    if longest > 0 {
        let ragged = lengths.iter().any(|&length| length < longest);
        own.push(Own {
            hidden: ragged.then(|| hidden_mask(&query, longest, |row, _| lengths[row])),
            ..Own::beginning(&cache.suffix, longest)
        });
    }
    own.push(Own {
        key,
        value,
        hidden: None,
    });
    attend_shared(query, &cache.prompt, own, attention)
}

/// See [`ModelBackend::write_cache`](crate::ModelBackend::write_cache).
pub fn write_cache<B: Backend>(cache: &mut Tensor<B, 4>, values: Tensor<B, 4>, position: usize) {
    let [rows, heads, tokens, head_dim] = values.dims();
    let values = values.cast(cache.dtype());
    if cache.dims() == values.dims() {
        // Nothing of the old cache remains. Flat once, entries lie one after another: products read them without a copy.
        *cache = values
            .reshape([rows * heads * tokens * head_dim])
            .reshape([rows, heads, tokens, head_dim]);
        return;
    }
    let ranges = [0..rows, 0..heads, position..position + tokens, 0..head_dim];
    cache.inplace(|cache| cache.slice_assign(ranges, values));
}

/// A fused row `q | k | v` as three tensors `[tokens, heads, head_dim]`.
fn split<B: Backend>(qkv: Tensor<B, 2>, attention: &Attention) -> [Tensor<B, 3>; 3] {
    let tokens = qkv.dims()[0];
    let Attention {
        num_heads,
        num_key_value_heads,
        head_dim,
    } = *attention;
    let qkv = qkv.cast(DType::F32);
    let part = |start: usize, heads: usize| {
        qkv.clone()
            .narrow(1, start * head_dim, heads * head_dim)
            .reshape([tokens, heads, head_dim])
    };
    [
        part(0, num_heads),
        part(num_heads, num_key_value_heads),
        part(num_heads + num_key_value_heads, num_key_value_heads),
    ]
}

/// Splits, normalises queries and keys per head and rotates them.
fn prepare<B: Backend>(
    qkv: Tensor<B, 2>,
    attention: &Attention,
    norms: &HeadNorms<B>,
    rotary: &Rotary<B>,
) -> [Tensor<B, 3>; 3] {
    let [query, key, value] = split(qkv, attention);
    [
        rotate(normalize_heads(query, &norms.query), rotary),
        rotate(normalize_heads(key, &norms.key), rotary),
        value,
    ]
}

/// `[rows · tokens, heads, head_dim]` → `[rows, heads, tokens, head_dim]`.
fn rows<B: Backend>(x: Tensor<B, 3>, rows: usize) -> Tensor<B, 4> {
    let [tokens, heads, head_dim] = x.dims();
    x.reshape([rows, tokens / rows, heads, head_dim]).swap_dims(1, 2)
}

/// A mask `[rows, 1, tokens, context]` that is true from position `first(row, token)` on.
fn hidden_mask<B: Backend>(
    query: &Tensor<B, 4>,
    context: usize,
    first: impl Fn(usize, usize) -> usize,
) -> Tensor<B, 4, Bool> {
    let [rows, _, tokens, _] = query.dims();
    let device = query.device();
    let firsts: Vec<i32> = (0..rows * tokens)
        .map(|token| first(token / tokens, token % tokens) as i32)
        .collect();
    let firsts = Tensor::<B, 4, Int>::from_data(TensorData::new(firsts, [rows, 1, tokens, 1]), &device);
    let positions = Tensor::<B, 1, Int>::arange(0..context as i64, &device).reshape([1, 1, 1, context]);
    // Compared on the device: not every backend takes booleans from the host, and a prompt's mask has millions of them.
    let shape = [rows, 1, tokens, context];
    positions.expand(shape).greater_equal(firsts.expand(shape))
}

/// Softmax attention of `[rows, heads, tokens, head_dim]` queries over grouped keys and values; returns
/// `[rows · tokens, heads · head_dim]`.
fn attend<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    hidden: Option<Tensor<B, 4, Bool>>,
    attention: &Attention,
) -> Tensor<B, 2> {
    let [_, heads, tokens, _] = query.dims();
    let scores = scores(grouped(query, attention), key);
    let weights = softmax(hide(scores, hidden, heads, tokens), 3);
    ungrouped(weights.matmul(value), heads, tokens)
}

/// Keys and values that a row alone sees, `[rows, num_key_value_heads, length, head_dim]`, f32.
struct Own<B: Backend> {
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    /// `[rows, 1, tokens, length]`, true where a token doesn't see a position.
    hidden: Option<Tensor<B, 4, Bool>>,
}

impl<B: Backend> Own<B> {
    /// The first positions of a cache's suffix.
    fn beginning(suffix: &KeyValue<B>, length: usize) -> Self {
        let beginning = |x: &Tensor<B, 4>| x.clone().narrow(2, 0, length).cast(DType::F32);
        Self {
            key: beginning(&suffix.key),
            value: beginning(&suffix.value),
            hidden: None,
        }
    }
}

/// As [`attend`], over the clips' prompts and then the rows' own keys. A clip's rows are queries of one product with its prompt,
/// which is read in place: only scores, which are small, are put together.
fn attend_shared<B: Backend>(
    query: Tensor<B, 4>,
    prompt: &KeyValue<B>,
    own: Vec<Own<B>>,
    attention: &Attention,
) -> Tensor<B, 2> {
    let [rows, heads, tokens, _] = query.dims();
    let [clips, _, length, _] = prompt.key.dims();
    let query = grouped(query, attention);
    let mut parts = vec![scores(
        by_clip(query.clone(), clips),
        prompt.key.clone().cast(DType::F32),
    )];
    let mut values = Vec::new();
    for Own { key, value, hidden } in own {
        let scores = hide(scores(query.clone(), key), hidden, heads, tokens);
        parts.push(by_clip(scores, clips));
        values.push(value);
    }
    let weights = softmax(Tensor::cat(parts, 3), 3);
    let value = prompt.value.clone().cast(DType::F32);
    let mut sum = by_row(weights.clone().narrow(3, 0, length).matmul(value), rows);
    let mut start = length;
    for value in values {
        let length = value.dims()[2];
        sum = sum + by_row(weights.clone().narrow(3, start, length), rows).matmul(value);
        start += length;
    }
    ungrouped(sum, heads, tokens)
}

/// The last two dimensions swapped. Where one of them is a single row nothing moves, and a reshape says so: what is transposed there is
/// reshaped wrongly by Burn's CubeCL backends afterwards.
fn transposed<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    match x.dims() {
        [entries, groups, a, b] if a == 1 || b == 1 => x.reshape([entries, groups, b, a]),
        _ => x.transpose(),
    }
}

/// Scaled queries by key-value head: `[rows, heads, tokens, head_dim]` → `[rows, groups, heads / groups · tokens, head_dim]`.
fn grouped<B: Backend>(query: Tensor<B, 4>, attention: &Attention) -> Tensor<B, 4> {
    let [rows, heads, tokens, head_dim] = query.dims();
    let groups = attention.num_key_value_heads;
    (query * (head_dim as f64).powf(-0.5)).reshape([rows, groups, heads / groups * tokens, head_dim])
}

/// `[rows, groups, heads / groups · tokens, head_dim]` → `[rows · tokens, heads · head_dim]`.
fn ungrouped<B: Backend>(x: Tensor<B, 4>, heads: usize, tokens: usize) -> Tensor<B, 2> {
    let [rows, _, _, head_dim] = x.dims();
    x.reshape([rows, heads, tokens, head_dim])
        .swap_dims(1, 2)
        .reshape([rows * tokens, heads * head_dim])
}

/// Products of queries `[entries, groups, queries, head_dim]` and keys `[entries, groups, length, head_dim]`:
/// `[entries, groups, queries, length]`.
fn scores<B: Backend>(query: Tensor<B, 4>, key: Tensor<B, 4>) -> Tensor<B, 4> {
    let [_, _, queries, head_dim] = query.dims();
    if queries < head_dim {
        // Some backends copy what they transpose: here the scores are fewer than the keys' elements.
        return transposed(key.matmul(query.transpose()));
    }
    query.matmul(key.transpose())
}

/// Scores `[rows, groups, heads / groups · tokens, length]`, the lowest where `hidden` `[rows, 1, tokens, length]`.
fn hide<B: Backend>(
    scores: Tensor<B, 4>,
    hidden: Option<Tensor<B, 4, Bool>>,
    heads: usize,
    tokens: usize,
) -> Tensor<B, 4> {
    let Some(hidden) = hidden else { return scores };
    let [rows, groups, queries, length] = scores.dims();
    let hidden = hidden.expand([rows, heads, tokens, length]);
    scores
        .reshape([rows, heads, tokens, length])
        .mask_fill(hidden, f32::MIN)
        .reshape([rows, groups, queries, length])
}

/// Rows of a clip side by side: `[rows, groups, queries, width]` → `[clips, groups, samples · queries, width]`.
fn by_clip<B: Backend>(x: Tensor<B, 4>, clips: usize) -> Tensor<B, 4> {
    let [rows, groups, queries, width] = x.dims();
    let samples = rows / clips;
    x.reshape([clips, samples, groups, queries, width])
        .swap_dims(1, 2)
        .reshape([clips, groups, samples * queries, width])
}

/// The inverse of [`by_clip`].
fn by_row<B: Backend>(x: Tensor<B, 4>, rows: usize) -> Tensor<B, 4> {
    let [clips, groups, queries, width] = x.dims();
    let samples = rows / clips;
    x.reshape([clips, groups, samples, queries / samples, width])
        .swap_dims(1, 2)
        .reshape([rows, groups, queries / samples, width])
}

#[cfg(all(test, any(feature = "flex", feature = "candle")))]
mod tests {
    use super::*;

    fn masks<B: Backend>() {
        let query = Tensor::<B, 4>::zeros([2, 3, 2, 4], &B::Device::default());
        let mask = |context, first: fn(usize, usize) -> usize| {
            let mask = hidden_mask(&query, context, first);
            assert_eq!(mask.dims(), [2, 1, 2, context]);
            mask.int().into_data().iter::<i64>().collect::<Vec<i64>>()
        };
        let causal = [0, 1, 1, 0, 0, 1];
        assert_eq!(mask(3, |_, token| token + 1), [causal, causal].concat());
        assert_eq!(mask(2, |row, _| row), [1, 1, 1, 1, 0, 1, 0, 1]);
        assert_eq!(mask(1, |_, _| 5), [0; 4]);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn masks_hide_what_follows() {
        masks::<crate::instances::Flex>();
    }

    /// Candle takes no booleans from the host.
    #[cfg(feature = "candle")]
    #[test]
    fn masks_hide_what_follows_on_candle() {
        masks::<crate::instances::Candle>();
    }
}
