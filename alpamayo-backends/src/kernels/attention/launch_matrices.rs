//! Launches of the attentions on matrix units: a cube serves one query head.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::cooperative::{CooperativeConfig, cooperative};
use super::launch::{Launch, Parts, array};
use super::tensor_core::{TensorCoreConfig, tensor_core};

impl<R: CubeRuntime> Launch<'_, R> {
    pub(super) fn tensor_core(&self, config: TensorCoreConfig, cubes_per_processor: usize) -> CubeTensor<R> {
        let config = config.fitted(self.client.properties().hardware.max_shared_memory_size);
        let (parts, count) = self.blocks(config.queries(), config.keys, cubes_per_processor);
        let [sums, statistics] = self.results(&parts, config.pack_output);
        // SAFETY: the kernel stays within the extents.
        unsafe {
            tensor_core::launch_unchecked::<R>(
                self.client,
                count,
                CubeDim::new_2d(32, config.planes as u32),
                array(&self.query, 16),
                self.sources(),
                self.extents(&parts),
                array(&sums, 4),
                array(&statistics, 4),
                config,
            );
        }
        self.finish(sums, statistics, &parts, true)
    }

    pub(super) fn cooperative(&self, config: CooperativeConfig, cubes_per_processor: usize) -> CubeTensor<R> {
        let config = config.fitted(self.client.properties().hardware.max_shared_memory_size);
        let (parts, count) = self.blocks(config.queries(), config.keys, cubes_per_processor);
        let [sums, statistics] = self.results(&parts, config.pack_output);
        // SAFETY: the kernel stays within the extents.
        unsafe {
            cooperative::launch_unchecked::<R>(
                self.client,
                count,
                CubeDim::new_2d(32, config.planes as u32),
                array(&self.query, 16),
                self.sources(),
                self.extents(&parts),
                array(&sums, 16),
                array(&statistics, 4),
                config,
            );
        }
        self.finish(sums, statistics, &parts, true)
    }

    /// The split of the keys and the cubes for blocks of so many queries of one head.
    fn blocks(&self, queries: usize, keys: usize, cubes_per_processor: usize) -> (Parts, CubeCount) {
        let blocks = self.tokens.div_ceil(queries);
        let cubes = self.entries * self.samples * self.problem.heads;
        let parts = self.parts(cubes * blocks, keys, cubes_per_processor);
        let slots = parts.count + parts.tails;
        (parts, CubeCount::Static(cubes as u32, blocks as u32, slots as u32))
    }
}
