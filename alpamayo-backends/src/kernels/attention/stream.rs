//! Launches of the attention that streams keys past a few queries.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::buffers::array;
use super::decode::DecodeConfig;
use super::decode_fresh::decode_fresh;
use super::launch::{Launch, Parts, Prepare};
use super::plan::Plan;
use crate::instances::KernelRuntime;

/// How keys and queries are shared by cubes.
pub(super) struct Stream {
    pub config: DecodeConfig,
    pub parts: Parts,
    pub count: CubeCount,
    pub dim: CubeDim,
}

impl Stream {
    /// A share with so many planes per cube, keys in flight per lane, and cubes per processor.
    pub fn new<R: CubeRuntime>(
        launch: &Launch<'_, R>,
        planes: usize,
        unroll: usize,
        cubes_per_processor: usize,
    ) -> Self {
        let queries = launch.samples * launch.tokens * launch.problem.group();
        let plane = launch.client.properties().hardware.plane_size_max as usize;
        let config = DecodeConfig {
            planes,
            unroll,
            ..DecodeConfig::new(launch.problem, plane, queries)
        };
        let blocks = queries.div_ceil(config.queries);
        let cubes = launch.entries * launch.problem.key_value_heads;
        let parts = launch.parts(cubes, 32, cubes_per_processor);
        Self {
            config,
            count: CubeCount::Static(
                blocks as u32,
                cubes as u32,
                (parts.count + parts.tails * launch.samples) as u32,
            ),
            dim: CubeDim::new_2d(plane as u32, planes as u32),
            parts,
        }
    }
}

/// Queries that a cube prepares for itself; with more, preparing them once for all cubes costs less.
const MAX_FRESH: usize = 8;

/// Whether one token per row is prepared where it is attended to: rows are f32 and whole quads apart.
pub(super) fn takes_fresh<R: CubeRuntime>(prepare: &Prepare<'_, R>, samples: usize) -> bool {
    let group = prepare.attention.num_heads / prepare.attention.num_key_value_heads;
    prepare.tokens == 1
        && samples * group <= MAX_FRESH
        && prepare.norms.is_some()
        && prepare.qkv.dtype == DType::F32
        && prepare.qkv.meta.strides()[0].is_multiple_of(4)
}

impl<R: KernelRuntime> Launch<'_, R> {
    /// One token per row: prepares it, appends its key and value to the suffix behind the others, and attends. `None` where the plan does
    /// not do that.
    pub(super) fn fresh(&self, prepare: &Prepare<'_, R>, plan: Plan) -> Option<CubeTensor<R>> {
        let tiles = match plan {
            Plan::Tiles { planes, keys } => self.tiles(prepare, planes, keys),
            _ => None,
        };
        tiles.or_else(|| match plan.without_tiles() {
            Plan::Stream { planes, unroll, cubes } => Some(self.fresh_stream(prepare, planes, unroll, cubes)),
            _ => None,
        })
    }

    fn fresh_stream(
        &self,
        prepare: &Prepare<'_, R>,
        planes: usize,
        unroll: usize,
        cubes_per_processor: usize,
    ) -> CubeTensor<R> {
        let stream = Stream::new(self, planes, unroll, cubes_per_processor);
        let [sums, statistics] = self.results(&stream.parts, false);
        // SAFETY: the kernel stays within the extents; only one cube writes a row's new key, and none reads it from the suffix.
        unsafe {
            decode_fresh::launch_unchecked::<R>(
                self.client,
                stream.count,
                stream.dim,
                array(&prepare.qkv.handle, 16),
                prepare.tables(),
                self.sources(),
                self.extents(&stream.parts),
                array(&sums, 16),
                array(&statistics, 4),
                (prepare.qkv.meta.strides()[0] / 4) as u32,
                stream.config,
            );
        }
        self.finish(sums, statistics, &stream.parts, false)
    }
}
