//! The four attentions, as products and a softmax over materialised scores.

use burn::tensor::{Bool, DType, Int, Tensor, TensorData, activation::softmax, backend::Backend};

use super::rotary::{normalize_heads, rotate};
use crate::layers::{Attention, HeadNorms, KeyValue, LayerCache, Rotary, RowLengths};

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
pub fn prefill_attention<B: Backend>(
    qkv: Tensor<B, 2>,
    attention: &Attention,
    norms: &HeadNorms<B>,
    rotary: &Rotary<B>,
    prompt: &mut KeyValue<B>,
) -> Tensor<B, 2> {
    let clips = prompt.key.dims()[0];
    let [query, key, value] = prepare(qkv, attention, norms, rotary).map(|x| rows(x, clips));
    let length = query.dims()[2];
    write(prompt, key.clone(), value.clone(), 0);
    let hidden = hidden_mask(&query, length, |_, token, position| position > token);
    attend(query, key, value, Some(hidden), attention)
}

/// See [`ModelBackend::decode_attention`](crate::ModelBackend::decode_attention).
pub fn decode_attention<B: Backend>(
    qkv: Tensor<B, 2>,
    attention: &Attention,
    norms: &HeadNorms<B>,
    rotary: &Rotary<B>,
    cache: &mut LayerCache<B>,
    position: usize,
) -> Tensor<B, 2> {
    let rows_count = cache.rows();
    let [query, key, value] = prepare(qkv, attention, norms, rotary).map(|x| rows(x, rows_count));
    let tokens = query.dims()[2];
    write(&mut cache.suffix, key, value, position);
    let (prompt, visible) = (cache.prompt_length(), position + tokens);
    let context = |prompt: &Tensor<B, 4>, suffix: &Tensor<B, 4>| {
        Tensor::cat(
            vec![
                repeat(prompt, cache.samples()),
                suffix.clone().narrow(2, 0, visible).cast(DType::F32),
            ],
            2,
        )
    };
    let key = context(&cache.prompt.key, &cache.suffix.key);
    let value = context(&cache.prompt.value, &cache.suffix.value);
    let hidden = (tokens > 1).then(|| {
        hidden_mask(&query, prompt + visible, |_, token, index| {
            index > prompt + position + token
        })
    });
    attend(query, key, value, hidden, attention)
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
    let context = |prompt: &Tensor<B, 4>, suffix: &Tensor<B, 4>, own: Tensor<B, 4>| {
        let mut parts = vec![repeat(prompt, cache.samples())];
        if longest > 0 {
            parts.push(suffix.clone().narrow(2, 0, longest).cast(DType::F32));
        }
        parts.push(own);
        Tensor::cat(parts, 2)
    };
    let key = context(&cache.prompt.key, &cache.suffix.key, key);
    let value = context(&cache.prompt.value, &cache.suffix.value, value);
    let suffix_start = cache.prompt_length();
    let hidden = lengths.iter().any(|&length| length < longest).then(|| {
        hidden_mask(&query, key.dims()[2], |row, _, index| {
            (suffix_start + lengths[row]..suffix_start + longest).contains(&index)
        })
    });
    attend(query, key, value, hidden, attention)
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

/// The clips' entries once per row: `[clips, …]` → `[clips · samples, …]`, as f32.
fn repeat<B: Backend>(clips: &Tensor<B, 4>, samples: usize) -> Tensor<B, 4> {
    let [count, heads, length, head_dim] = clips.dims();
    let clips = clips.clone().cast(DType::F32);
    if samples == 1 {
        return clips;
    }
    clips
        .unsqueeze_dim::<5>(1)
        .repeat_dim(1, samples)
        .reshape([count * samples, heads, length, head_dim])
}

/// Writes keys and values `[rows, heads, tokens, head_dim]` into a cache from `position` on.
fn write<B: Backend>(cache: &mut KeyValue<B>, key: Tensor<B, 4>, value: Tensor<B, 4>, position: usize) {
    let [rows, heads, tokens, head_dim] = key.dims();
    let ranges = [0..rows, 0..heads, position..position + tokens, 0..head_dim];
    let dtype = cache.key.dtype();
    if cache.key.dims() == key.dims() {
        // Nothing of the old cache remains: replacing it spares backends that copy on assignment.
        *cache = KeyValue {
            key: key.cast(dtype),
            value: value.cast(dtype),
        };
        return;
    }
    cache
        .key
        .inplace(|cache| cache.slice_assign(ranges.clone(), key.cast(dtype)));
    cache
        .value
        .inplace(|cache| cache.slice_assign(ranges, value.cast(dtype)));
}

/// A mask `[rows, 1, tokens, context]` that is true where `hidden(row, token, index)`.
fn hidden_mask<B: Backend>(
    query: &Tensor<B, 4>,
    context: usize,
    hidden: impl Fn(usize, usize, usize) -> bool,
) -> Tensor<B, 4, Bool> {
    let [rows, _, tokens, _] = query.dims();
    let mut values = Vec::with_capacity(rows * tokens * context);
    for row in 0..rows {
        for token in 0..tokens {
            values.extend((0..context).map(|index| i32::from(hidden(row, token, index))));
        }
    }
    let data = TensorData::new(values, [rows, 1, tokens, context]);
    // Through integers: not every backend takes booleans from the host.
    Tensor::<B, 4, Int>::from_data(data, &query.device()).equal_elem(1)
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
    let [rows, heads, tokens, head_dim] = query.dims();
    let (groups, context) = (attention.num_key_value_heads, key.dims()[2]);
    let shared = heads / groups;
    let scale = (head_dim as f64).powf(-0.5);
    let query = (query * scale).reshape([rows, groups, shared * tokens, head_dim]);
    let mut scores = query.matmul(key.transpose()).reshape([rows, heads, tokens, context]);
    if let Some(hidden) = hidden {
        scores = scores.mask_fill(hidden.expand([rows, heads, tokens, context]), f32::MIN);
    }
    let weights = softmax(scores, 3).reshape([rows, groups, shared * tokens, context]);
    weights
        .matmul(value)
        .reshape([rows, heads, tokens, head_dim])
        .swap_dims(1, 2)
        .reshape([rows * tokens, heads * head_dim])
}
