//! The four attentions as kernels: two launches (prepare, attend), or three where the keys are split over cubes.
//!
//! Queries and keys are normalised per head, rotated and stored by one kernel, which also scales the queries. What follows
//! depends on how the keys are stored: f32 takes the exact kernel, which never rounds below f32.

pub(super) mod buffers;
mod combine;
mod cooperative;
mod decode;
mod decode_fresh;
mod element;
mod exact;
mod head_norm_rope_append;
pub(super) mod launch;
mod launch_matrices;
mod plan;
mod problem;
mod stage;
mod stream;
mod tensor_core;
#[cfg(all(test, feature = "wgpu", feature = "flex"))]
mod tests;
mod tiles;

use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, FloatElement, IntElement};
use cubecl::CubeElement;

use crate::definition;
use crate::instances::KernelRuntime;
use crate::kernels::native::NativeWork;
use crate::layers::{Attention, HeadNorms, KeyValue, LayerCache, Rotary, RowLengths, SuffixPosition};
use buffers::Buffers;
use launch::{Cube, Launch, Prepare, primitive, tensor};
pub use plan::Plan;
use problem::Problem;
use stream::takes_fresh;

/// Whether the kernels take heads of this shape; otherwise the definition does.
pub fn takes(attention: &Attention) -> bool {
    attention.head_dim.is_multiple_of(8) && attention.head_dim <= 256
}

/// The platform's own kernels where keys are bf16 and it has some, otherwise the common plan.
fn plan<R: KernelRuntime>(qkv: &CubeTensor<R>, packed: bool, common: impl FnOnce() -> Plan) -> Plan {
    if packed && R::has_native(&qkv.device) {
        Plan::Native
    } else {
        common()
    }
}

fn problem(attention: &Attention, packed: bool) -> Problem {
    Problem {
        heads: attention.num_heads,
        key_value_heads: attention.num_key_value_heads,
        head_dim: attention.head_dim,
        packed,
        causal: false,
        split: false,
        row_lengths: false,
        own: false,
        ragged: false,
    }
}

/// See [`ModelBackend::vision_attention`](crate::ModelBackend::vision_attention).
pub fn vision<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    qkv: Tensor<Cube<R, F, I, BT>, 2>,
    attention: &Attention,
    rotary: &Rotary<Cube<R, F, I, BT>>,
    image_lengths: &[usize],
) -> Tensor<Cube<R, F, I, BT>, 2> {
    if !takes(attention) {
        return definition::vision_attention(qkv, attention, rotary, image_lengths);
    }
    let qkv_tensor = primitive(&qkv);
    let packed = qkv_tensor.dtype == DType::BF16;
    let plan = plan(&qkv_tensor, packed, || Plan::vision(&qkv_tensor.client, packed));
    vision_with(plan, qkv, attention, rotary, image_lengths)
}

/// [`vision`] by the given plan.
pub fn vision_with<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    plan: Plan,
    qkv: Tensor<Cube<R, F, I, BT>, 2>,
    attention: &Attention,
    rotary: &Rotary<Cube<R, F, I, BT>>,
    image_lengths: &[usize],
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let longest = image_lengths.iter().copied().max().unwrap_or(0);
    let ragged = image_lengths.iter().any(|&length| length != longest);
    let mut prepare = Prepare::new(qkv, attention, None, rotary);
    if plan == Plan::Native && !ragged {
        let images = NativeWork::Images {
            prepare: &prepare,
            patches: longest,
        };
        if let Some(output) = R::native(&images) {
            return tensor(output);
        }
    }
    let plan = plan.or(|| Plan::vision(&prepare.qkv.client, true));
    prepare.pack_query = plan.is_packed();
    let client = prepare.qkv.client.clone();
    let rows = prepare.rows();
    let shape = [1, attention.num_key_value_heads, rows, attention.head_dim];
    let buffers = Buffers::empty(&client, shape, plan.is_packed());
    let query = prepare.launch(&buffers);
    let lengths = ragged.then(|| {
        let mut starts = vec![0_i32];
        for &length in image_lengths {
            starts.push(starts[starts.len() - 1] + length as i32);
        }
        client.create_from_slice(i32::as_bytes(&starts))
    });
    let launch = Launch {
        client: &client,
        device: prepare.qkv.device.clone(),
        problem: Problem {
            ragged,
            ..problem(attention, plan.is_packed())
        },
        query,
        prompt: buffers.with_entries_of(if ragged { 0 } else { longest }),
        suffix: None,
        own: None,
        lengths,
        entries: image_lengths.len(),
        samples: 1,
        tokens: longest,
        all_tokens: rows,
        prompt_length: longest,
        suffix_length: 0,
        own_length: 0,
        appended: 0,
    };
    tensor(launch.launch(plan))
}

/// See [`ModelBackend::prefill_attention`](crate::ModelBackend::prefill_attention).
pub fn prefill<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    qkv: Tensor<Cube<R, F, I, BT>, 2>,
    attention: &Attention,
    norms: &HeadNorms<Cube<R, F, I, BT>>,
    rotary: &Rotary<Cube<R, F, I, BT>>,
    prompt: &mut KeyValue<Cube<R, F, I, BT>>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    if !takes(attention) {
        return definition::prefill_attention(qkv, attention, norms, rotary, prompt);
    }
    let qkv_tensor = primitive(&qkv);
    let packed = prompt.key.dtype() == DType::BF16;
    let plan = plan(&qkv_tensor, packed, || Plan::whole(&qkv_tensor.client, packed));
    prefill_with(plan, qkv, attention, norms, rotary, prompt)
}

/// [`prefill`] by the given plan, which has to suit the cache's format.
pub fn prefill_with<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    plan: Plan,
    qkv: Tensor<Cube<R, F, I, BT>, 2>,
    attention: &Attention,
    norms: &HeadNorms<Cube<R, F, I, BT>>,
    rotary: &Rotary<Cube<R, F, I, BT>>,
    prompt: &mut KeyValue<Cube<R, F, I, BT>>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let clips = prompt.key.dims()[0];
    let buffers = Buffers::of_cache(primitive(&prompt.key), primitive(&prompt.value));
    let mut prepare = Prepare::new(qkv, attention, Some(norms), rotary);
    let common = plan.or(|| Plan::whole(&prepare.qkv.client, buffers.packed));
    prepare.pack_query = common.is_packed();
    prepare.tokens = prepare.rows() / clips;
    let query = prepare.launch(&buffers);
    let launch = Launch {
        client: &prepare.qkv.client,
        device: prepare.qkv.device.clone(),
        problem: Problem {
            causal: true,
            ..problem(attention, buffers.packed)
        },
        query,
        prompt: buffers,
        suffix: None,
        own: None,
        lengths: None,
        entries: clips,
        samples: 1,
        tokens: prepare.tokens,
        all_tokens: prepare.rows(),
        prompt_length: prepare.tokens,
        suffix_length: 0,
        own_length: 0,
        appended: 0,
    };
    if plan == Plan::Native && prepare.pack_query {
        let prompts = NativeWork::Prompts {
            prepare: &prepare,
            launch: &launch,
        };
        if let Some(output) = R::native(&prompts) {
            return tensor(output);
        }
    }
    tensor(launch.launch(common))
}

/// See [`ModelBackend::decode_attention`](crate::ModelBackend::decode_attention).
pub fn decode<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    qkv: Tensor<Cube<R, F, I, BT>, 2>,
    attention: &Attention,
    norms: &HeadNorms<Cube<R, F, I, BT>>,
    rotary: &Rotary<Cube<R, F, I, BT>>,
    cache: &mut LayerCache<Cube<R, F, I, BT>>,
    position: &SuffixPosition<Cube<R, F, I, BT>>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    if !takes(attention) {
        return definition::decode_attention(qkv, attention, norms, rotary, cache, position);
    }
    let qkv_tensor = primitive(&qkv);
    let packed = cache.prompt.key.dtype() == DType::BF16;
    let plan = plan(&qkv_tensor, packed, || {
        Plan::decode(&qkv_tensor.client, decode_queries(attention, cache, &qkv_tensor))
    });
    decode_with(plan, qkv, attention, norms, rotary, cache, position)
}

/// Queries per key-value head of a clip.
fn decode_queries<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    attention: &Attention,
    cache: &LayerCache<Cube<R, F, I, BT>>,
    qkv: &CubeTensor<R>,
) -> usize {
    qkv.meta.shape()[0] / cache.clips() * attention.num_heads / attention.num_key_value_heads
}

/// [`decode`] by the given plan, which has to suit the cache's format.
pub fn decode_with<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    plan: Plan,
    qkv: Tensor<Cube<R, F, I, BT>, 2>,
    attention: &Attention,
    norms: &HeadNorms<Cube<R, F, I, BT>>,
    rotary: &Rotary<Cube<R, F, I, BT>>,
    cache: &mut LayerCache<Cube<R, F, I, BT>>,
    position: &SuffixPosition<Cube<R, F, I, BT>>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let prompt = Buffers::of_cache(primitive(&cache.prompt.key), primitive(&cache.prompt.value));
    let suffix = Buffers::of_cache(primitive(&cache.suffix.key), primitive(&cache.suffix.value));
    let mut prepare = Prepare::new(qkv, attention, Some(norms), rotary);
    let common = plan.or(|| Plan::decode(&prepare.qkv.client, decode_queries(attention, cache, &prepare.qkv)));
    prepare.pack_query = common.is_packed();
    prepare.tokens = prepare.rows() / cache.rows();
    let start = position.device().clone().into_primitive().handle;
    prepare.start = Some(start.clone());
    let is_fresh = takes_fresh(&prepare, cache.samples());
    let launch = |query, appended| Launch {
        client: &prepare.qkv.client,
        device: prepare.qkv.device.clone(),
        problem: Problem {
            causal: prepare.tokens > 1,
            split: true,
            ..problem(attention, prompt.packed)
        },
        query,
        prompt: prompt.clone(),
        suffix: Some(suffix.clone()),
        own: None,
        lengths: Some(start.clone()),
        entries: cache.clips(),
        samples: cache.samples(),
        tokens: prepare.tokens,
        all_tokens: prepare.rows(),
        prompt_length: cache.prompt_length(),
        suffix_length: 0,
        own_length: 0,
        appended,
    };
    if plan == Plan::Native && prepare.tokens == 1 {
        let launch = launch(prepare.qkv.handle.clone(), 0);
        let tokens = NativeWork::Tokens {
            prepare: &prepare,
            launch: &launch,
        };
        if let Some(output) = R::native(&tokens) {
            return tensor(output);
        }
    }
    let fresh = is_fresh.then(|| launch(prepare.qkv.handle.clone(), 0).fresh(&prepare, common));
    tensor(match fresh.flatten() {
        Some(output) => output,
        None => launch(prepare.launch(&suffix), prepare.tokens).launch(common),
    })
}

/// See [`ModelBackend::expert_attention`](crate::ModelBackend::expert_attention).
pub fn expert<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    qkv: Tensor<Cube<R, F, I, BT>, 2>,
    attention: &Attention,
    norms: &HeadNorms<Cube<R, F, I, BT>>,
    rotary: &Rotary<Cube<R, F, I, BT>>,
    cache: &LayerCache<Cube<R, F, I, BT>>,
    suffix_lengths: &RowLengths<Cube<R, F, I, BT>>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    if !takes(attention) {
        return definition::expert_attention(qkv, attention, norms, rotary, cache, suffix_lengths);
    }
    let qkv_tensor = primitive(&qkv);
    let packed = cache.prompt.key.dtype() == DType::BF16;
    let plan = plan(&qkv_tensor, packed, || Plan::expert(&qkv_tensor.client, packed));
    expert_with(plan, qkv, attention, norms, rotary, cache, suffix_lengths)
}

/// [`expert`] by the given plan, which has to suit the cache's format.
pub fn expert_with<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    plan: Plan,
    qkv: Tensor<Cube<R, F, I, BT>, 2>,
    attention: &Attention,
    norms: &HeadNorms<Cube<R, F, I, BT>>,
    rotary: &Rotary<Cube<R, F, I, BT>>,
    cache: &LayerCache<Cube<R, F, I, BT>>,
    suffix_lengths: &RowLengths<Cube<R, F, I, BT>>,
) -> Tensor<Cube<R, F, I, BT>, 2> {
    let prompt = Buffers::of_cache(primitive(&cache.prompt.key), primitive(&cache.prompt.value));
    let suffix = Buffers::of_cache(primitive(&cache.suffix.key), primitive(&cache.suffix.value));
    let mut prepare = Prepare::new(qkv, attention, Some(norms), rotary);
    let common = plan.or(|| Plan::expert(&prepare.qkv.client, prompt.packed));
    prepare.pack_query = common.is_packed();
    prepare.tokens = prepare.rows() / cache.rows();
    let shape = [
        cache.rows(),
        attention.num_key_value_heads,
        prepare.tokens,
        attention.head_dim,
    ];
    let launch = |query, own| Launch {
        client: &prepare.qkv.client,
        device: prepare.qkv.device.clone(),
        problem: Problem {
            split: true,
            row_lengths: true,
            own: true,
            ..problem(attention, prompt.packed)
        },
        query,
        prompt: prompt.clone(),
        suffix: Some(suffix.clone()),
        own,
        lengths: Some(suffix_lengths.device().clone().into_primitive().handle),
        entries: cache.clips(),
        samples: cache.samples(),
        tokens: prepare.tokens,
        all_tokens: prepare.rows(),
        prompt_length: cache.prompt_length(),
        suffix_length: suffix_lengths.longest(),
        own_length: prepare.tokens,
        appended: 0,
    };
    if plan == Plan::Native {
        let tokens = NativeWork::Tokens {
            prepare: &prepare,
            launch: &launch(prepare.qkv.handle.clone(), None),
        };
        if let Some(output) = R::native(&tokens) {
            return tensor(output);
        }
    }
    let fresh = launch(prepare.qkv.handle.clone(), None);
    if let Some((config, cubes)) = fresh.fresh_config(&prepare, common) {
        return tensor(fresh.cooperative_fresh(&prepare, config, cubes));
    }
    let own = Buffers::empty(&prepare.qkv.client, shape, prompt.packed);
    let query = prepare.launch(&own);
    tensor(launch(query, Some(own)).launch(common))
}
