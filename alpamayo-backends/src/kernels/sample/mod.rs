//! The next token of each row, drawn where the logits are.
//!
//! A platform may have a kernel of its own for it, which draws the same tokens: see [`NativeWork::Draw`]. The common ones are six
//! launches, none of which waits for the host: the maximum of the logits (`sample_maxima`); weights relative to it, and their sums
//! in bins by leading bits (`sample_weights`); twice the bin that holds the cut, and finer sums within it (`sample_narrow`); the cut,
//! and sums of what lies above (`sample_sums`); the token that the uniform number points at (`sample_pick`). Greedy decoding takes
//! the first, and one that reads its result. Tokens count as equally likely where their weights are the same in f32.
//!
//! Sums are of integers, see [`wide`]: they don't depend on the order of additions, and a draw is the same each time. A weight is
//! rounded down by less than 2⁻⁴⁰ of the largest, all of a vocabulary's together by less than 2.3e-7 of their sum: so far can a
//! probability be from the one that exact sums would give. Fractions have 32 bits.

mod histogram;
mod keys;
mod locate;
mod problem;
mod select;
mod stages;
mod wide;

use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::ir::features::AtomicUsage;
use cubecl::ir::{ElemType, StorageType, Type, UIntKind};
use cubecl::prelude::*;

use super::native::{DrawWork, NativeWork};
use super::tensors::{array, cubes, empty, extents, float};
use crate::instances::KernelRuntime;
use crate::sampling::{Drawn, TokenSampling};
use histogram::BINS;
use problem::{Plan, VocabularyLaunch};
use select::{sample_best, sample_pick};
use stages::{sample_maxima, sample_narrow, sample_sums, sample_weights};
use wide::UNITS;

/// See [`ModelBackend::sample_tokens`](crate::ModelBackend::sample_tokens). None where the vocabulary is larger than 245,760 tokens or
/// the device adds no integers atomically.
pub fn sample_tokens<R: KernelRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    logits: Tensor<CubeBackend<R, F, I, BT>, 2>,
    sampling: &TokenSampling,
) -> Option<Drawn<CubeBackend<R, F, I, BT>>> {
    let [clips, tokens] = logits.dims();
    let plan = Plan::new(tokens)?;
    let rows = sampling.uniforms.len();
    let is_shared_evenly = clips > 0 && rows > 0 && rows.is_multiple_of(clips);
    if logits.dtype() != DType::F32 || !is_shared_evenly {
        return None;
    }
    let logits = float(logits);
    let native = R::native(&NativeWork::Draw(&DrawWork {
        logits: &logits,
        sampling,
    }));
    let draw = Draw {
        logits,
        clips,
        tokens,
        plan,
        sampling,
    };
    let words = native.or_else(|| adds_atomically(&draw.logits.client).then(|| draw.run()))?;
    Some(Drawn {
        ids: Tensor::from_primitive(first_row(&words)),
        words: Tensor::from_primitive(words),
    })
}

fn adds_atomically<R: CubeRuntime>(client: &ComputeClient<R>) -> bool {
    let word = Type::new(StorageType::Atomic(ElemType::UInt(UIntKind::U32)));
    let properties = client.properties();
    let usage = properties.features.atomic_type_usage(word);
    usage.contains(AtomicUsage::Add) && properties.hardware.max_units_per_cube >= UNITS as u32
}

/// Most rows whose numbers one launch takes.
const PICKED: usize = 8;

/// One draw from all rows.
struct Draw<'a, R: CubeRuntime> {
    logits: CubeTensor<R>,
    clips: usize,
    tokens: usize,
    plan: Plan,
    sampling: &'a TokenSampling,
}

impl<R: CubeRuntime> Draw<'_, R> {
    /// Ids and faults `[2, rows]`.
    fn run(&self) -> CubeTensor<R> {
        let state = self.words(self.plan.words());
        let levels = BINS.map(|bins| self.words(2 * bins));
        let client = &self.logits.client;
        // SAFETY: ids are checked against the vocabulary, cubes against the rows; what a cube writes of the other buffers is its own.
        unsafe {
            sample_maxima::launch_unchecked::<R>(
                client,
                self.cubes(),
                CubeDim::new_1d(UNITS as u32),
                array(&self.logits),
                array(&state),
                array(&levels[0]),
                array(&levels[1]),
                array(&levels[2]),
                self.vocabulary(),
                self.plan.rounds,
            );
        }
        if self.sampling.greedy {
            return self.best(&state);
        }
        let weights = self.words(self.tokens);
        // SAFETY: as above.
        unsafe {
            sample_weights::launch_unchecked::<R>(
                client,
                self.cubes(),
                CubeDim::new_1d(UNITS as u32),
                array(&self.logits),
                array(&state),
                array(&weights),
                array(&levels[0]),
                self.vocabulary(),
                self.sampling.temperature,
                self.plan.rounds,
            );
        }
        self.cut(&weights, &levels, &state);
        self.pick(&weights, &state)
    }

    /// Leaves in the state where the cut falls, and what the cubes have above it.
    fn cut(&self, weights: &CubeTensor<R>, levels: &[CubeTensor<R>; 3], state: &CubeTensor<R>) {
        let client = &self.logits.client;
        // SAFETY: as above.
        unsafe {
            for level in 0..2 {
                sample_narrow::launch_unchecked::<R>(
                    client,
                    self.cubes(),
                    CubeDim::new_1d(UNITS as u32),
                    array(weights),
                    array(&levels[level]),
                    array(&levels[level + 1]),
                    array(state),
                    self.vocabulary(),
                    fraction(1.0 - self.sampling.top_p),
                    level,
                    self.plan.rounds,
                );
            }
            sample_sums::launch_unchecked::<R>(
                client,
                self.cubes(),
                CubeDim::new_1d(UNITS as u32),
                array(weights),
                array(&levels[2]),
                array(state),
                self.vocabulary(),
                self.plan.rounds,
            );
        }
    }

    fn best(&self, state: &CubeTensor<R>) -> CubeTensor<R> {
        let out = self.out();
        // SAFETY: a cube writes its own row.
        unsafe {
            sample_best::launch_unchecked::<R>(
                &self.logits.client,
                cubes(self.rows()),
                CubeDim::new_1d(UNITS as u32),
                array(state),
                array(&out),
                self.rows() as u32,
                self.repeats(),
                self.plan.cubes as u32,
            );
        }
        out
    }

    fn pick(&self, weights: &CubeTensor<R>, state: &CubeTensor<R>) -> CubeTensor<R> {
        let out = self.out();
        for (part, uniforms) in self.sampling.uniforms.chunks(PICKED).enumerate() {
            // SAFETY: as above; there is a number for every cube.
            unsafe {
                sample_pick::launch_unchecked::<R>(
                    &self.logits.client,
                    cubes(uniforms.len()),
                    CubeDim::new_1d(UNITS as u32),
                    array(weights),
                    array(state),
                    uniforms.iter().map(|&uniform| fraction(uniform)).collect(),
                    array(&out),
                    (part * PICKED) as u32,
                    self.rows() as u32,
                    self.repeats(),
                    self.vocabulary(),
                    self.sampling.temperature,
                    uniforms.len(),
                    self.plan.rounds,
                );
            }
        }
        out
    }

    fn rows(&self) -> usize {
        self.sampling.uniforms.len()
    }

    /// Rows that share a clip's logits.
    fn repeats(&self) -> u32 {
        (self.rows() / self.clips) as u32
    }

    fn cubes(&self) -> CubeCount {
        cubes(self.clips * self.plan.cubes)
    }

    /// So many words per clip.
    fn words(&self, count: usize) -> CubeTensor<R> {
        empty(&self.logits, self.clips, count, DType::U32)
    }

    fn out(&self) -> CubeTensor<R> {
        empty(&self.logits, 2, self.rows(), DType::I32)
    }

    fn vocabulary(&self) -> VocabularyLaunch<R> {
        let masked = &self.sampling.masked;
        VocabularyLaunch::new(
            extents(&self.logits).0 as u32,
            self.tokens as u32,
            masked.start,
            masked.end,
            self.plan.cubes as u32,
        )
    }
}

/// The first row of a matrix of two, where it lies.
fn first_row<R: CubeRuntime>(matrix: &CubeTensor<R>) -> CubeTensor<R> {
    let (_, columns) = extents(matrix);
    let second = (columns * matrix.dtype.size()) as u64;
    CubeTensor::new_contiguous(
        matrix.client.clone(),
        matrix.device.clone(),
        Shape::new([columns]),
        matrix.handle.clone().offset_end(second),
        matrix.dtype,
    )
}

/// A number in [0, 1] in 32 bits, at most 1 - 2⁻³².
pub(super) fn fraction(number: f64) -> u32 {
    (number * 4_294_967_296.0) as u32
}
