//! Attention of one token whose planes take a tile of keys each: everything that a plane reads is on its way at once, scores are summed
//! for all queries of a key-value head together, and no sum is corrected for a maximum before the planes are merged.

mod fresh;
mod kernel;
mod sums;
mod tile;

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::buffers::{Buffers, array};
use super::launch::{Launch, Prepare};
use super::problem::Problem;
use crate::instances::KernelRuntime;
use crate::kernels::signals;
use kernel::{ExtentsLaunch, attend};
use tile::CacheLaunch;

/// Queries of a key-value head: lanes by fours hold the scores of one each.
const QUERIES: usize = 4;

/// Parts of a result that are merged, at most: a unit that merges them has an eighth on their way at once.
const SLOTS: usize = 128;

/// How a cube's planes share the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TilesConfig {
    problem: Problem,
    /// Lanes of a plane: as many as a head has quads.
    plane: usize,
    /// Planes per cube, a power of two of at least [`ROWS`](fresh::ROWS): each prepares a row.
    planes: usize,
    /// Keys of a tile, a multiple of four.
    keys: usize,
}

impl TilesConfig {
    /// Lanes that share a key, eight features each.
    fn lanes(&self) -> usize {
        self.plane / 2
    }

    /// Chunks of keys per lane.
    fn loads(&self) -> usize {
        self.keys / 2
    }

    /// Quads of a head.
    fn columns(&self) -> usize {
        self.plane
    }

    /// Whether lanes by fours differ in the key whose score they end with; there may be too few of them.
    fn pairs(&self) -> bool {
        self.lanes() >= 8
    }

    /// Loads of keys that lanes share a score of.
    fn loads_of_score(&self) -> usize {
        if self.pairs() { 2 } else { 1 }
    }

    /// Scores that a lane ends with.
    fn scores(&self) -> usize {
        self.loads() / self.loads_of_score()
    }
}

/// A share of planes and keys for the problem, or `None` where tiles don't take it: heads of as many quads as a plane has lanes, groups of
/// [`QUERIES`], bf16, one token of one sample per clip.
///
/// Planes have one width where a plan says tiles.
fn config<R: CubeRuntime>(
    launch: &Launch<'_, R>,
    prepare: &Prepare<'_, R>,
    planes: usize,
    keys: usize,
) -> Option<TilesConfig> {
    let (problem, plane) = (
        launch.problem,
        launch.client.properties().hardware.plane_size_max as usize,
    );
    let fits = problem.packed
        && problem.group() == QUERIES
        && problem.head_dim == 4 * plane
        && plane >= 8
        && launch.samples == 1
        && launch.tokens == 1
        && launch.prompt_length >= keys
        && prepare.norms.is_some();
    let planes_fit = planes.is_power_of_two() && (fresh::ROWS..=plane).contains(&planes);
    (fits && planes_fit && keys.is_multiple_of(4) && keys > 0).then_some(TilesConfig {
        problem,
        plane,
        planes,
        keys,
    })
}

impl<R: KernelRuntime> Launch<'_, R> {
    /// One token per clip: prepares it, appends its key and value to the suffix, and attends, by so many planes per cube with so many keys
    /// each. `None` where tiles don't take the problem.
    pub(super) fn tiles(&self, prepare: &Prepare<'_, R>, planes: usize, keys: usize) -> Option<CubeTensor<R>> {
        let config = config(self, prepare, planes, keys)?;
        let suffix = self.suffix.as_ref()?;
        let [prompt_tiles, suffix_tiles] =
            [self.prompt_length, suffix.head_stride / suffix.row_stride].map(|keys| keys.div_ceil(config.keys));
        // The new token has a tile of its own.
        let slots = (prompt_tiles + suffix_tiles + 1).div_ceil(config.planes);
        let rows = [&self.prompt, suffix].map(|keys| keys.row_stride);
        if slots > SLOTS || rows != [self.problem.head_dim; 2] {
            return None;
        }
        let signals = R::signals(&self.device);
        let buffer = |bytes| signals::output(self.client, signals.as_ref(), bytes);
        let [sums, statistics] = self.results_in(slots, size_of::<f32>(), buffer);
        let heads = self.entries * self.problem.key_value_heads;
        // SAFETY: the kernel stays within the extents; only one plane writes a row's new key, and none reads it from the suffix.
        unsafe {
            attend::launch_unchecked::<R>(
                self.client,
                CubeCount::Static(heads as u32, slots as u32, 1),
                CubeDim::new_2d(config.plane as u32, config.planes as u32),
                array(&prepare.qkv.handle, 8),
                prepare.tables(),
                cache(&self.prompt, suffix),
                array(self.lengths.as_ref()?, 4),
                ExtentsLaunch::new(
                    self.prompt_length as u32,
                    prompt_tiles as u32,
                    suffix_tiles as u32,
                    slots as u32,
                    (prepare.qkv.meta.strides()[0] / 2) as u32,
                ),
                array(&sums, 16),
                array(&statistics, 4),
                signals::argument(signals.as_ref()),
                config,
            );
        }
        let result = self.combine([&sums, &statistics], slots, false, signals.as_ref());
        Some(self.output(result, false))
    }
}

fn cache<R: CubeRuntime>(prompt: &Buffers, suffix: &Buffers) -> CacheLaunch<R> {
    let chunks = |elements: usize| (elements / 8) as u32;
    CacheLaunch::new(
        array(&prompt.key, 16),
        array(&prompt.value, 8),
        array(&suffix.key, 16),
        array(&suffix.value, 8),
        chunks(prompt.entry_stride),
        chunks(prompt.head_stride),
        chunks(suffix.entry_stride),
        chunks(suffix.head_stride),
    )
}
