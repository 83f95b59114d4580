//! The cache is read where it lies: no token and no flow step copies it, however many rows share a prompt.
#![cfg(feature = "flex")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use alpamayo_backends::ModelBackend;
use alpamayo_backends::instances::Flex;
use alpamayo_backends::layers::{
    Attention, CacheConfig, CacheFormat, HeadNorms, LayerCache, RmsNorm, Rotary, RowLengths, SuffixPosition,
};
use burn::tensor::Tensor;

/// The system's allocator, counting.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged; counting touches nothing but atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised us.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ATTENTION: Attention = Attention {
    num_heads: 8,
    num_key_value_heads: 8,
    head_dim: 64,
};
const SAMPLES: usize = 3;
const LENGTH: usize = 4096;
/// Keys of the prompt, or of one row's suffix.
const KEYS: usize = ATTENTION.num_key_value_heads * LENGTH * ATTENTION.head_dim * size_of::<f32>();

fn ones<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::ones(shape, &Default::default())
}

fn qkv(tokens: usize) -> Tensor<Flex, 2> {
    ones([tokens, ATTENTION.qkv_features()])
}

fn rotary(tokens: usize) -> Rotary<Flex> {
    let table = || ones([tokens, ATTENTION.head_dim / 2]);
    Rotary {
        cos: table(),
        sin: table(),
    }
}

/// Bytes that `work` holds at most at once.
fn peak(work: impl FnOnce()) -> usize {
    let before = ALLOCATED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed) - before
}

// One test: another one's allocations would be counted, too.
#[test]
fn neither_a_token_nor_a_flow_step_copies_the_cache() {
    let device = Default::default();
    let norm = || RmsNorm::new(ones([ATTENTION.head_dim]), 1e-6);
    let norms = HeadNorms {
        query: norm(),
        key: norm(),
    };
    let config = CacheConfig {
        clips: 1,
        samples: SAMPLES,
        prompt_length: LENGTH,
        suffix_capacity: LENGTH,
        num_key_value_heads: ATTENTION.num_key_value_heads,
        head_dim: ATTENTION.head_dim,
        format: CacheFormat::F32,
    };
    let mut cache = LayerCache::<Flex>::new(&config, &device);
    for position in 0..2 {
        let (x, rotary) = (qkv(SAMPLES), rotary(SAMPLES));
        let position = SuffixPosition::new(position, &device);
        let bytes = peak(|| {
            drop(Flex::decode_attention(
                x, &ATTENTION, &norms, &rotary, &mut cache, &position,
            ))
        });
        assert!(
            bytes < KEYS,
            "token {} took {bytes} bytes, the prompt's keys alone are {KEYS}",
            position.host(),
        );
    }
    let waypoints = 2;
    let (x, rotary) = (qkv(SAMPLES * waypoints), rotary(SAMPLES * waypoints));
    let lengths = RowLengths::new(vec![2, 1, 0], &device);
    let bytes = peak(|| drop(Flex::expert_attention(x, &ATTENTION, &norms, &rotary, &cache, &lengths)));
    assert!(
        bytes < KEYS,
        "a flow step took {bytes} bytes, the prompt's keys alone are {KEYS}"
    );
}
