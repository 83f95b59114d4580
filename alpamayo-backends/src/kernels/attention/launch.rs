//! From tensors to launches: buffers, extents, and which kernel takes a problem.

use burn::tensor::{DType, Shape, Tensor, TensorPrimitive};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, kernel::into_contiguous, tensor::CubeTensor,
};
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::{bf16, f16};

use super::buffers::{Buffers, array};
use super::combine::{CombineConfig, GROUPS, combine};
use super::cooperative::CooperativeConfig;
use super::decode::decode;
use super::exact::{ExactConfig, exact};
use super::head_norm_rope_append::{DestinationLaunch, PrepareConfig, TablesLaunch, head_norm_rope_append};
use super::plan::{Plan, plane_size};
use super::problem::{ExtentsLaunch, Problem, SourcesLaunch};
use super::stream::Stream;
use super::tensor_core::TensorCoreConfig;
use crate::kernels::apart;
use crate::kernels::signals;
use crate::kernels::tensors::{cubes, split};
use crate::layers::{Attention, HeadNorms, Rotary};

/// The backend of a runtime.
pub(super) type Cube<R, F, I, BT> = CubeBackend<R, F, I, BT>;

/// The tensor of the runtime behind a float tensor.
pub(super) fn primitive<R, F, I, BT, const D: usize>(tensor: &Tensor<Cube<R, F, I, BT>, D>) -> CubeTensor<R>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    tensor.clone().into_primitive().tensor()
}

/// The parameters of one head_norm_rope_append.
pub struct Prepare<'a, R: CubeRuntime> {
    pub qkv: CubeTensor<R>,
    pub attention: &'a Attention,
    /// Weights and epsilons of queries and keys.
    pub norms: Option<[(CubeTensor<R>, f64); 2]>,
    pub cos: CubeTensor<R>,
    pub sin: CubeTensor<R>,
    pub pack_query: bool,
    /// Tokens per entry of the destination.
    pub tokens: usize,
    /// The position of the first one, in device memory; zero if there is none.
    pub start: Option<Handle>,
}

impl<'a, R: CubeRuntime> Prepare<'a, R> {
    /// Rows to be prepared whole and in order: one entry, from position zero on.
    pub fn new<F: FloatElement, I: IntElement, BT: BoolElement>(
        qkv: Tensor<Cube<R, F, I, BT>, 2>,
        attention: &'a Attention,
        norms: Option<&HeadNorms<Cube<R, F, I, BT>>>,
        rotary: &Rotary<Cube<R, F, I, BT>>,
    ) -> Self {
        let tokens = qkv.dims()[0];
        Self {
            qkv: rows_contiguous(primitive(&qkv)),
            attention,
            norms: norms
                .map(|norms| [&norms.query, &norms.key].map(|norm| (primitive(&norm.weight.val()), norm.epsilon))),
            cos: rows_contiguous(primitive(&rotary.cos)),
            sin: rows_contiguous(primitive(&rotary.sin)),
            pack_query: false,
            tokens,
            start: None,
        }
    }

    /// Tokens of all rows.
    pub fn rows(&self) -> usize {
        self.qkv.meta.shape()[0]
    }

    /// Launches the kernel; returns the queries `[tokens, heads, head_dim]`.
    pub fn launch(&self, target: &Buffers) -> Handle {
        let Attention {
            num_heads,
            num_key_value_heads,
            head_dim,
        } = *self.attention;
        let client = &self.qkv.client;
        let rows = self.rows();
        let query = apart::empty(
            client,
            rows * num_heads * head_dim * if self.pack_query { 2 } else { 4 },
        );
        let lanes = plane_size(client).filter(|lanes| *lanes <= 32);
        let config = PrepareConfig {
            heads: num_heads,
            key_value_heads: num_key_value_heads,
            head_dim,
            norm: self.norms.is_some(),
            pack_query: self.pack_query,
            pack_key_value: target.packed,
            starts: self.start.is_some(),
            lanes: lanes.unwrap_or(16),
            planes: lanes.is_some(),
            rows: 4,
        };
        let blocks = (num_heads + 2 * num_key_value_heads).div_ceil(config.rows);
        let [first, second] = split(rows);
        let count = CubeCount::Static(first, blocks as u32, second);
        let dim = CubeDim::new_2d(config.lanes as u32, config.rows as u32);
        match self.qkv.dtype {
            DType::BF16 => self.launch_as::<bf16>(count, dim, &query, target, config),
            DType::F16 => self.launch_as::<f16>(count, dim, &query, target, config),
            _ => self.launch_as::<f32>(count, dim, &query, target, config),
        }
        query
    }

    /// The parameters of norms and rotation.
    pub(super) fn tables(&self) -> TablesLaunch<R> {
        let cos = &self.cos;
        let weight = |index: usize| match &self.norms {
            Some(norms) => array(&norms[index].0.handle, 8),
            None => array(&cos.handle, 8),
        };
        let epsilon = |index: usize| self.norms.as_ref().map_or(0.0, |norms| norms[index].1 as f32);
        TablesLaunch::new(
            weight(0),
            weight(1),
            array(&cos.handle, 8),
            array(&self.sin.handle, 8),
            (cos.meta.strides()[0] / 2) as u32,
            epsilon(0),
            epsilon(1),
            (self.attention.head_dim as f64).powf(-0.5) as f32,
        )
    }

    fn launch_as<E: Float + CubeElement>(
        &self,
        count: CubeCount,
        dim: CubeDim,
        query: &Handle,
        target: &Buffers,
        config: PrepareConfig,
    ) {
        let destination = DestinationLaunch::new(
            self.rows() as u32,
            self.tokens as u32,
            array(self.start.as_ref().unwrap_or(&self.cos.handle), 4),
            target.entry_stride as u32,
            target.head_stride as u32,
            target.row_stride as u32,
        );
        // SAFETY: the kernel stays within the rows, heads and positions that the extents name.
        unsafe {
            head_norm_rope_append::launch_unchecked::<E, R>(
                &self.qkv.client,
                count,
                dim,
                array(&self.qkv.handle, 2 * size_of::<E>()),
                self.tables(),
                array(query, 4),
                array(&target.key, 4),
                array(&target.value, 4),
                destination,
                self.qkv.meta.strides()[0] as u32,
                config,
            );
        }
    }
}

/// A matrix whose rows are contiguous, however far apart.
fn rows_contiguous<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    if tensor.meta.strides()[1] == 1 {
        tensor
    } else {
        into_contiguous(tensor)
    }
}

/// A split of the keys: parts of a prompt and keys per part, parts of a row's tail, if there are tails, and keys per part.
pub(super) struct Parts {
    pub count: usize,
    pub keys: usize,
    pub tails: usize,
    pub tail_keys: usize,
}

/// An attention to be launched: queries, the three parts of the keys, extents.
pub struct Launch<'a, R: CubeRuntime> {
    pub client: &'a ComputeClient<R>,
    pub device: R::Device,
    pub problem: Problem,
    pub query: Handle,
    pub prompt: Buffers,
    pub suffix: Option<Buffers>,
    pub own: Option<Buffers>,
    /// See [`Sources`](super::problem::Sources).
    pub lengths: Option<Handle>,
    /// Clips or images.
    pub entries: usize,
    pub samples: usize,
    /// Queries per row and head (of the longest image).
    pub tokens: usize,
    /// Queries of all rows.
    pub all_tokens: usize,
    pub prompt_length: usize,
    /// Visible tokens of the longest suffix, without those that were appended.
    pub suffix_length: usize,
    pub own_length: usize,
    /// New tokens of every row that its suffix holds.
    pub appended: usize,
}

impl<R: CubeRuntime> Launch<'_, R> {
    pub(super) fn sources(&self) -> SourcesLaunch<R> {
        let part = |part: &Option<Buffers>| part.as_ref().unwrap_or(&self.prompt).launch();
        SourcesLaunch::new(
            self.prompt.launch(),
            part(&self.suffix),
            part(&self.own),
            array(self.lengths.as_ref().unwrap_or(&self.prompt.key), 4),
        )
    }

    pub(super) fn extents(&self, parts: &Parts) -> ExtentsLaunch<R> {
        ExtentsLaunch::new(
            self.samples as u32,
            self.tokens as u32,
            self.prompt_length as u32,
            self.appended as u32,
            self.own_length as u32,
            parts.count as u32,
            parts.keys as u32,
            parts.tail_keys as u32,
            (parts.count + parts.tails) as u32,
        )
    }

    /// Launches what the plan says; returns `[tokens, heads · head_dim]`, bf16 from matrix units, else f32.
    pub fn launch(&self, plan: Plan) -> CubeTensor<R> {
        match plan.without_tiles() {
            Plan::Exact { shared_bytes } => self.exact(shared_bytes),
            // Queries are not rounded for it either.
            Plan::Native | Plan::Tiles { .. } => self.exact(usize::MAX),
            Plan::Stream { planes, unroll, cubes } => self.stream(planes, unroll, cubes),
            Plan::TensorCore {
                planes,
                tiles,
                keys,
                keep_query,
                asynchronous,
                cubes,
            } => {
                let config = TensorCoreConfig {
                    problem: self.problem,
                    planes,
                    tiles,
                    keys,
                    keep_query,
                    pack_output: !self.problem.split,
                    asynchronous: asynchronous && self.client.properties().features.copy_async,
                };
                self.tensor_core(config, cubes)
            }
            Plan::Cooperative {
                heads,
                planes,
                tiles,
                keys,
                cubes,
            } => {
                let config = CooperativeConfig {
                    problem: self.problem,
                    heads,
                    planes,
                    tiles,
                    keys,
                    pack_output: !self.problem.split,
                };
                self.cooperative(config, cubes)
            }
        }
    }

    fn exact(&self, shared_bytes: usize) -> CubeTensor<R> {
        let queries = self.samples * self.tokens * self.problem.group();
        let shared_bytes = shared_bytes.min(self.client.properties().hardware.max_shared_memory_size);
        let config = ExactConfig::new(self.problem, queries, shared_bytes);
        let blocks = queries.div_ceil(config.queries);
        let cubes = self.entries * self.problem.key_value_heads;
        let parts = self.parts(cubes * blocks, config.keys, 3);
        let [sums, statistics] = self.results(&parts, false);
        // SAFETY: the kernel stays within the extents.
        unsafe {
            exact::launch_unchecked::<R>(
                self.client,
                CubeCount::Static(
                    blocks as u32,
                    cubes as u32,
                    (parts.count + parts.tails * self.samples) as u32,
                ),
                CubeDim::new_1d(config.units as u32),
                array(&self.query, 16),
                self.sources(),
                self.extents(&parts),
                array(&sums, 16),
                array(&statistics, 4),
                config,
            );
        }
        self.finish(sums, statistics, &parts, false)
    }

    fn stream(&self, planes: usize, unroll: usize, cubes_per_processor: usize) -> CubeTensor<R> {
        let stream = Stream::new(self, planes, unroll, cubes_per_processor);
        let [sums, statistics] = self.results(&stream.parts, false);
        // SAFETY: the kernel stays within the extents.
        unsafe {
            decode::launch_unchecked::<R>(
                self.client,
                stream.count,
                stream.dim,
                array(&self.query, 16),
                self.sources(),
                self.extents(&stream.parts),
                array(&sums, 16),
                array(&statistics, 4),
                stream.config,
            );
        }
        self.finish(sums, statistics, &stream.parts, false)
    }

    /// Keys of the longest tail.
    pub(super) fn tail_length(&self) -> usize {
        self.suffix_length + self.own_length
    }

    /// How many parts of how many keys keep the device busy, given the cubes of one part and a tile's keys.
    pub(super) fn parts(&self, cubes: usize, tile: usize, cubes_per_processor: usize) -> Parts {
        if !self.problem.split {
            return Parts {
                count: 1,
                keys: 0,
                tails: 0,
                tail_keys: 0,
            };
        }
        let processors = self
            .client
            .properties()
            .hardware
            .num_streaming_multiprocessors
            .unwrap_or(128) as usize;
        let wanted = (cubes_per_processor * processors).div_ceil(cubes.max(1));
        let keys = self
            .prompt_length
            .div_ceil(wanted.max(1))
            .next_multiple_of(tile)
            .max(tile);
        Parts {
            count: self.prompt_length.div_ceil(keys),
            keys,
            tails: 1,
            // All of them, and no more than a part's first key can be added to.
            tail_keys: u32::MAX as usize / 2,
        }
    }

    /// Buffers for sums (or the result itself) and statistics.
    pub(super) fn results(&self, parts: &Parts, packed: bool) -> [Handle; 2] {
        let element = if packed { 2 } else { 4 };
        self.results_in(parts.count + parts.tails, element, |bytes| {
            apart::empty(self.client, bytes)
        })
    }

    /// Buffers for so many parts of every head's sum, of elements of so many bytes, and for statistics.
    pub(super) fn results_in(&self, parts: usize, element: usize, buffer: impl Fn(usize) -> Handle) -> [Handle; 2] {
        let heads = self.all_tokens * self.problem.heads * parts;
        [heads * self.problem.head_dim * element, heads * 8].map(buffer)
    }

    /// Merges the parts, if there are several.
    pub(super) fn finish(&self, sums: Handle, statistics: Handle, parts: &Parts, packed: bool) -> CubeTensor<R> {
        if parts.tails == 0 {
            return self.output(sums, packed);
        }
        let result = self.combine([&sums, &statistics], parts.count + parts.tails, packed, None);
        self.output(result, packed)
    }

    /// Merges so many parts of every head's result, waiting for the launch in front by itself where it has [`signals`].
    pub(super) fn combine(
        &self,
        [sums, statistics]: [&Handle; 2],
        slots: usize,
        packed: bool,
        signals: Option<&Handle>,
    ) -> Handle {
        let Problem { heads, head_dim, .. } = self.problem;
        let heads = self.all_tokens * heads;
        let bytes = heads * head_dim * if packed { 2 } else { 4 };
        let output = signals::output(self.client, signals, bytes);
        let config = CombineConfig::new(head_dim, slots, packed);
        // SAFETY: a cube past the last head takes that one's place.
        unsafe {
            combine::launch_unchecked::<R>(
                self.client,
                cubes(heads),
                CubeDim::new_2d(config.columns() as u32, GROUPS as u32),
                array(sums, 16),
                array(statistics, 8),
                array(&output, 4),
                signals::argument(signals),
                heads as u32,
                slots as u32,
                config,
            );
        }
        output
    }

    pub(super) fn output(&self, handle: Handle, packed: bool) -> CubeTensor<R> {
        let Problem { heads, head_dim, .. } = self.problem;
        CubeTensor::new_contiguous(
            self.client.clone(),
            self.device.clone(),
            Shape::new([self.all_tokens, heads * head_dim]),
            handle,
            if packed { DType::BF16 } else { DType::F32 },
        )
    }
}

/// The tensor of a backend from the runtime's.
pub(super) fn tensor<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement, const D: usize>(
    primitive: CubeTensor<R>,
) -> Tensor<Cube<R, F, I, BT>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}
