//! An import takes little host memory however large the checkpoint is.

mod sparse;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alpamayo_backends::instances::Flex;
use alpamayo_backends::layers::WeightFormat;
use alpamayo_core::ModelConfig;
use alpamayo_models::ParameterSource;
use alpamayo_models::import::{Checkpoint, CheckpointSource, ExpectedTensor, expected_tensors};
use sparse::{memory, small_config, write_zeros};

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

/// A model of many layers whose matrices are 2.5 MB each: 600 MB in all.
fn config() -> ModelConfig {
    let mut config = small_config();
    config.text.num_hidden_layers = 80;
    config.text.intermediate_size = 40_000;
    config
}

/// The tensors of each matrix.
fn matrices(tensors: &[ExpectedTensor]) -> BTreeMap<&str, Vec<&ExpectedTensor>> {
    let mut fields: BTreeMap<&str, Vec<&ExpectedTensor>> = BTreeMap::new();
    for tensor in tensors
        .iter()
        .filter(|tensor| tensor.shape.len() > 1 && !tensor.optional)
    {
        fields.entry(&tensor.field).or_default().push(tensor);
    }
    fields
}

/// Bytes of mapped files that are in memory, where the system tells.
fn mapped() -> usize {
    memory("RssFile:")
}

#[test]
fn host_memory_does_not_grow_with_the_checkpoint() {
    let config = config();
    let tensors = expected_tensors(&config);
    let total: usize = tensors.iter().map(|tensor| 2 * tensor.elements()).sum();
    assert!(total > 600_000_000, "{total}");
    let directory = tempfile::tempdir().unwrap();
    write_zeros(directory.path(), &tensors);
    let mapped_before = mapped();

    let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
    let mut mapped_most = 0;
    let mut progress = |_: alpamayo_models::import::Progress<'_>| mapped_most = mapped_most.max(mapped());
    let device = Default::default();
    let mut source =
        CheckpointSource::<Flex>::new(checkpoint, &config, WeightFormat::Bf16, &device, Some(&mut progress)).unwrap();
    PEAK.store(ALLOCATED.load(Ordering::Relaxed), Ordering::Relaxed);
    let before = PEAK.load(Ordering::Relaxed);
    for (field, pieces) in matrices(&tensors) {
        let rows: Vec<usize> = pieces.iter().map(|tensor| tensor.shape[0]).collect();
        let columns = pieces[0].shape[1..].iter().product();
        // Dropped at once: what the backend holds is not the import's.
        drop(source.linear(field, columns, &rows, false).unwrap());
    }
    source.finish().unwrap();

    // Two pieces of 2.5 MB become one matrix of the backend.
    let peak = PEAK.load(Ordering::Relaxed) - before;
    assert!(peak < 32 << 20, "{peak} bytes were allocated at once");
    // The reader is 256 MiB ahead at most, and what was imported is given back.
    let mapped = mapped_most.saturating_sub(mapped_before);
    assert!(mapped < 384 << 20, "{mapped} bytes of the file were mapped in at once");
}
