//! Attention of whole prompts and of images, by `attention.cu`; what images need before it, by `rotate.cu`.

use burn::tensor::{DType, Shape};
use cubecl::cuda::CudaRuntime;
use cubecl::server::Handle;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::tensor_map::bf16_map;
use super::{Queue, Tensor, processors, queue};
use crate::kernels::attention::launch::{Launch, Prepare};

/// Threads of a warpgroup, each with 64 queries.
const WARPGROUP: usize = 128;

/// Columns of a swizzled row of 128 bytes.
const CHUNK: usize = 64;

/// Threads of a block that rotates.
const ROTATING: usize = 288;

/// How an attention is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    head_dim: usize,
    causal: bool,
    /// Keys per step.
    keys: usize,
    /// Warpgroups of 64 queries.
    consumers: usize,
    /// Steps of keys and values in shared memory.
    stages: usize,
    /// Heads of a group whose queries a warpgroup takes together.
    pack: usize,
    /// Blocks that share keys and values.
    cluster: usize,
    /// Whether queries stay in registers.
    registers: bool,
}

impl Tile {
    /// What measured best on an H100, or `None` for heads that the kernel has no tile for.
    fn choose(head_dim: usize, group: usize, causal: bool) -> Option<Self> {
        let [keys, consumers, stages] = match head_dim {
            64 | 96 | 128 => [128, 2, 2],
            72 | 80 => [80, 3, 3],
            _ => return None,
        };
        let pack = [4, 2].into_iter().find(|&pack| group.is_multiple_of(pack)).unwrap_or(1);
        Some(Self {
            head_dim,
            causal,
            keys,
            consumers,
            stages,
            pack: if causal { pack } else { 1 },
            cluster: if causal { 1 } else { 2 },
            registers: !causal,
        })
    }

    /// Queries of a head in a block.
    fn queries(self) -> usize {
        64 / self.pack * self.consumers
    }

    /// Blocks that so many processors take, given heads of all entries and queries of each.
    fn blocks(self, heads: usize, queries: usize, processors: usize) -> usize {
        let items = heads / self.pack * queries.div_ceil(self.queries()).div_ceil(self.cluster);
        self.cluster * items.min(processors / self.cluster)
    }

    fn kernel(self) -> Kernel<8> {
        let chunks = self.head_dim.div_ceil(CHUNK);
        Kernel {
            source: include_str!("attention.cu"),
            entry: "attention",
            definitions: [
                ("HEAD_DIM", self.head_dim),
                ("CAUSAL", usize::from(self.causal)),
                ("KEYS", self.keys),
                ("CONSUMERS", self.consumers),
                ("STAGES", self.stages),
                ("PACK", self.pack),
                ("CLUSTER", self.cluster),
                ("REGISTERS", usize::from(self.registers)),
            ],
            shared: 2048 + 256 * chunks * (64 * self.consumers + self.stages * self.keys),
        }
    }
}

/// A bf16 tensor `[entries, heads, rows, head_dim]` in a buffer; strides and the place of the first element in elements.
#[derive(Clone)]
struct Heads {
    buffer: Handle,
    first: usize,
    /// Entries, heads, rows.
    extents: [usize; 3],
    strides: [usize; 3],
}

impl Heads {
    fn map(&self, queue: &Queue<'_>, tile: Tile, [rows_of_box, heads_of_box]: [usize; 2]) -> Option<Argument> {
        let [entries, heads, rows] = self.extents;
        let [entry_stride, head_stride, row_stride] = self.strides;
        let address = queue.address(&self.buffer)? + 2 * self.first as u64;
        let map = bf16_map(
            address,
            [tile.head_dim, rows, heads, entries],
            [1, row_stride, head_stride, entry_stride],
            [CHUNK, rows_of_box, heads_of_box, 1],
        )?;
        Some(Argument::map(map))
    }
}

/// Which queries meet which keys.
struct Problem {
    query: Heads,
    key: Heads,
    value: Heads,
    tile: Tile,
}

impl Problem {
    /// Launches the attention; returns `[rows of all entries, heads · head_dim]` in bf16.
    fn run(&self, like: &Tensor) -> Option<Tensor> {
        let client = &like.client;
        let tile = self.tile;
        let function = tile.kernel().function(&like.device)?;
        let [entries, heads, queries] = self.query.extents;
        let width = heads * tile.head_dim;
        let out = Heads {
            buffer: client.empty(2 * entries * queries * width),
            first: 0,
            strides: [queries * width, tile.head_dim, width],
            ..self.query.clone()
        };
        let inputs = [&self.query.buffer, &self.key.buffer, &self.value.buffer];
        let blocks = tile.blocks(entries * heads, queries, processors(client));
        let grid = Grid {
            blocks: [blocks, 1, 1],
            threads: WARPGROUP * (tile.consumers + 1),
        };
        queue(client, &like.device, &inputs, |queue| {
            let arguments = [
                self.query.map(queue, tile, [64 / tile.pack, tile.pack])?,
                self.key.map(queue, tile, [tile.keys / tile.cluster, 1])?,
                self.value.map(queue, tile, [tile.keys / tile.cluster, 1])?,
                out.map(queue, tile, [(64 / tile.pack).min(16), 1])?,
                Argument::int(queries)?,
                Argument::int(self.key.extents[2])?,
                Argument::int(heads)?,
                Argument::int(self.key.extents[1])?,
                Argument::int(entries)?,
            ];
            // SAFETY: the arguments are those that the source documents; the maps end where the buffers do.
            unsafe { launch(queue.stream, function, grid, &arguments) }
        })?;
        Some(Tensor::new_contiguous(
            client.clone(),
            like.device.clone(),
            Shape::new([entries * queries, width]),
            out.buffer,
            DType::BF16,
        ))
    }
}

/// See [`NativeWork::Prompts`](crate::kernels::native::NativeWork::Prompts).
pub fn prompts(request: &Launch<'_, CudaRuntime>, like: &Tensor) -> Option<Tensor> {
    let problem = request.problem;
    let tile = Tile::choose(problem.head_dim, problem.heads / problem.key_value_heads, true)?;
    let (tokens, width) = (request.tokens, problem.heads * problem.head_dim);
    let cache = |buffer: &Handle| Heads {
        buffer: buffer.clone(),
        first: 0,
        extents: [request.entries, problem.key_value_heads, tokens],
        strides: [
            request.prompt.entry_stride,
            request.prompt.head_stride,
            request.prompt.row_stride,
        ],
    };
    let problem = Problem {
        query: Heads {
            buffer: request.query.clone(),
            first: 0,
            extents: [request.entries, problem.heads, tokens],
            strides: [tokens * width, problem.head_dim, width],
        },
        key: cache(&request.prompt.key),
        value: cache(&request.prompt.value),
        tile,
    };
    problem.run(like)
}

/// See [`NativeWork::Images`](crate::kernels::native::NativeWork::Images).
pub fn images(prepare: &Prepare<'_, CudaRuntime>, patches: usize) -> Option<Tensor> {
    let (heads, head_dim) = (prepare.attention.num_heads, prepare.attention.head_dim);
    let tile = Tile::choose(head_dim, 1, false)?;
    let (rows, width) = (prepare.rows(), heads * head_dim);
    let in_place = prepare.qkv.dtype == DType::BF16
        && prepare.attention.num_key_value_heads == heads
        && prepare.norms.is_none()
        && prepare.qkv.meta.strides()[0] == 3 * width
        && prepare.cos.meta.strides()[0] == prepare.sin.meta.strides()[0]
        && prepare.cos.meta.strides()[0].is_multiple_of(4)
        && patches > 0
        && rows.is_multiple_of(patches);
    if !in_place {
        return None;
    }
    let [query, key] = rotate(prepare)?;
    let extents = [rows / patches, heads, patches];
    let rotated = |buffer| Heads {
        buffer,
        first: 0,
        extents,
        strides: [patches * width, head_dim, width],
    };
    let problem = Problem {
        query: rotated(query),
        key: rotated(key),
        // Values are read where the projection left them.
        value: Heads {
            buffer: prepare.qkv.handle.clone(),
            first: 2 * width,
            extents,
            strides: [3 * patches * width, head_dim, 3 * width],
        },
        tile,
    };
    problem.run(&prepare.qkv)
}

/// Queries, scaled, and keys of a fused projection, rotated.
fn rotate(prepare: &Prepare<'_, CudaRuntime>) -> Option<[Handle; 2]> {
    let client = &prepare.qkv.client;
    let (heads, head_dim) = (prepare.attention.num_heads, prepare.attention.head_dim);
    let elements = prepare.rows() * heads * head_dim;
    let function = rotation(head_dim).function(&prepare.qkv.device)?;
    let rotated = [client.empty(2 * elements), client.empty(2 * elements)];
    let inputs = [&prepare.qkv.handle, &prepare.cos.handle, &prepare.sin.handle];
    let grid = Grid {
        blocks: [(elements / 8).div_ceil(ROTATING), 1, 1],
        threads: ROTATING,
    };
    queue(client, &prepare.qkv.device, &inputs, |queue| {
        let arguments = [
            Argument::Address(queue.address(inputs[0])?),
            Argument::Address(queue.address(inputs[1])?),
            Argument::Address(queue.address(inputs[2])?),
            Argument::Address(queue.address(&rotated[0])?),
            Argument::Address(queue.address(&rotated[1])?),
            Argument::int(prepare.rows())?,
            Argument::int(heads)?,
            Argument::int(prepare.cos.meta.strides()[0])?,
        ];
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(rotated)
}

fn rotation(head_dim: usize) -> Kernel<1> {
    Kernel {
        source: include_str!("rotate.cu"),
        entry: "rotate",
        definitions: [("HEAD_DIM", head_dim)],
        shared: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn every_tile_compiles() {
        for head_dim in [64, 72, 80, 96, 128] {
            for (group, causal) in [(1, false), (1, true), (4, true), (6, true)] {
                assert_compiles(&Tile::choose(head_dim, group, causal).unwrap().kernel());
            }
            assert_compiles(&rotation(head_dim));
        }
        assert_eq!(Tile::choose(40, 1, true), None);
    }

    #[test]
    fn no_more_blocks_than_there_is_work() {
        let tile = Tile::choose(72, 1, false).unwrap();
        assert_eq!(tile.blocks(16 * 16, 720, 132), 132);
        assert_eq!(tile.blocks(2, 48, 132), 4);
        let tile = Tile::choose(128, 4, true).unwrap();
        assert_eq!(tile.blocks(32, 17, 132), 8);
    }
}
