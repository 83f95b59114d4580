//! Frames to patches: 16 frames of 1080x1920, the model's full input.

use std::hint::black_box;

use alpamayo_core::{Frame, ImageProcessor};
use criterion::{Criterion, criterion_group, criterion_main};

const FRAMES: usize = 16;
const HEIGHT: usize = 1080;
const WIDTH: usize = 1920;

/// The released model's processor.
const PROCESSOR: ImageProcessor = ImageProcessor {
    patch_size: 16,
    merge_size: 2,
    temporal_patch_size: 2,
    min_pixels: 163_840,
    max_pixels: 196_608,
};

fn frame(seed: usize) -> Frame {
    let pixels = (0..WIDTH * HEIGHT * 3).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed as u8);
    Frame::new(WIDTH, HEIGHT, pixels.collect()).expect("a frame of these sizes")
}

fn preprocess(criterion: &mut Criterion) {
    let frames: Vec<Frame> = (0..FRAMES).map(frame).collect();
    let mut group = criterion.benchmark_group("preprocess");
    group.bench_function("16 frames of 1080x1920 to patches", |bencher| {
        bencher.iter(|| {
            PROCESSOR
                .process(black_box(&frames))
                .expect("frames of a possible shape")
        });
    });
    let patches = PROCESSOR.process(&frames).expect("frames of a possible shape");
    group.bench_function("normalise 11,520 patches", |bencher| {
        bencher.iter(|| black_box(&patches).normalized())
    });
    group.finish();
}

criterion_group!(benches, preprocess);
criterion_main!(benches);
