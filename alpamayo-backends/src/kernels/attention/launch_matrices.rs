//! Launches of the attentions on matrix units: a cube serves one query head.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;
use half::bf16;

use super::buffers::array;
use super::cooperative::{CooperativeConfig, HEAD_DIM, cooperative, cooperative_fresh};
use super::launch::{Launch, Parts, Prepare};
use super::plan::Plan;
use super::tensor_core::{TensorCoreConfig, tensor_core};

impl<R: CubeRuntime> Launch<'_, R> {
    pub(super) fn tensor_core(&self, config: TensorCoreConfig, cubes_per_processor: usize) -> CubeTensor<R> {
        let config = config.fitted(self.client.properties().hardware.max_shared_memory_size);
        let (parts, count) = self.blocks(1, config.queries(), config.keys, None, cubes_per_processor);
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
        let (parts, count) = self.blocks(
            config.heads,
            config.queries(),
            config.keys,
            Some(config.keys),
            cubes_per_processor,
        );
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

    /// As [`Self::cooperative`] of rows that are prepared where they are attended to.
    pub(super) fn cooperative_fresh(
        &self,
        prepare: &Prepare<'_, R>,
        config: CooperativeConfig,
        cubes_per_processor: usize,
    ) -> CubeTensor<R> {
        match prepare.qkv.dtype {
            DType::BF16 => self.cooperative_fresh_as::<bf16>(prepare, config, cubes_per_processor),
            _ => self.cooperative_fresh_as::<f32>(prepare, config, cubes_per_processor),
        }
    }

    fn cooperative_fresh_as<E: Float + CubeElement>(
        &self,
        prepare: &Prepare<'_, R>,
        config: CooperativeConfig,
        cubes_per_processor: usize,
    ) -> CubeTensor<R> {
        let (parts, count) = self.blocks(
            config.heads,
            config.queries(),
            config.keys,
            Some(config.keys),
            cubes_per_processor,
        );
        let [sums, statistics] = self.results(&parts, false);
        // SAFETY: the kernel stays within the extents.
        unsafe {
            cooperative_fresh::launch_unchecked::<E, R>(
                self.client,
                count,
                CubeDim::new_2d(32, config.planes as u32),
                array(&prepare.qkv.handle, 4 * size_of::<E>()),
                prepare.tables(),
                self.sources(),
                self.extents(&parts),
                array(&sums, 16),
                array(&statistics, 4),
                (prepare.qkv.meta.strides()[0] / 4) as u32,
                config,
            );
        }
        self.finish(sums, statistics, &parts, true)
    }

    /// The tile of a plan for action tokens that are prepared where they are attended to, which takes rows a few quads apart, heads of
    /// one size, a prompt, and a suffix that has room for a token.
    pub(super) fn fresh_config(&self, prepare: &Prepare<'_, R>, plan: Plan) -> Option<(CooperativeConfig, usize)> {
        let Plan::Cooperative {
            heads,
            planes,
            tiles,
            keys,
            cubes,
        } = plan
        else {
            return None;
        };
        let config = CooperativeConfig {
            problem: self.problem,
            heads,
            planes,
            tiles,
            keys,
            pack_output: false,
        };
        let fits = config.shared_bytes() <= self.client.properties().hardware.max_shared_memory_size;
        let takes = fits
            && self.prompt_length > 0
            && self.problem.head_dim == HEAD_DIM
            && [2, 4, 8].contains(&planes)
            && prepare.norms.is_some()
            && matches!(prepare.qkv.dtype, DType::BF16 | DType::F32)
            && prepare.qkv.meta.strides()[0].is_multiple_of(4)
            && self.suffix.as_ref().is_some_and(|suffix| suffix.entry_stride > 0);
        takes.then_some((config, cubes))
    }

    /// The split of the keys and the cubes for so many heads per cube and queries of each; tails in parts of so many keys, or whole.
    fn blocks(
        &self,
        heads: usize,
        queries: usize,
        keys: usize,
        tail_keys: Option<usize>,
        cubes_per_processor: usize,
    ) -> (Parts, CubeCount) {
        let blocks = self.tokens.div_ceil(queries);
        let cubes = self.entries * self.samples * self.problem.heads / heads;
        let mut parts = self.parts(cubes * blocks, keys, cubes_per_processor);
        if let Some(keys) = tail_keys.filter(|_| parts.tails > 0) {
            (parts.tails, parts.tail_keys) = (self.tail_length().div_ceil(keys).max(1), keys);
        }
        let slots = parts.count + parts.tails;
        (parts, CubeCount::Static(cubes as u32, blocks as u32, slots as u32))
    }
}
