//! Products of up to 64 rows with a bf16 weight, by `product.cu`.

use burn::tensor::DType;
use cubecl::cuda::CudaRuntime;

use super::launch::{Argument, Grid, launch};
use super::module::Kernel;
use super::tensor_map::bf16_map;
use super::{Tensor, queue};
use crate::kernels::linear::LibraryProduct;
use crate::kernels::product::{Element, Product};
use crate::kernels::round::round;
use crate::kernels::tensors::{empty, extents};
use crate::layers::Activation;

/// Most rows of `x` of a launch.
const MAX_TOKENS: usize = 64;

/// Fewest rows that this kernel is better for than those which read `x` in f32.
const MIN_TOKENS: usize = 9;

/// Columns of a stage: a row of 128 bytes.
const BLOCK: usize = 64;

/// How the work is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Cut {
    /// Groups of four warps, each with 64 rows of the weight.
    warpgroups: usize,
    /// Blocks over the columns of the same rows: a cluster.
    split: usize,
    /// Stages of the ring in shared memory.
    stages: usize,
}

impl Cut {
    /// What measured best on an H100 with 64 rows.
    fn choose(product: &Product<CudaRuntime>) -> Self {
        let (rows, columns) = (product.weight.rows, product.weight.columns);
        let [warpgroups, split, stages] = match (rows, columns) {
            (8192.., _) => [1, 1, 6],
            (3072.., ..=4095) => [2, 4, 4],
            _ => [2, 4, 8],
        };
        Self {
            warpgroups,
            split,
            stages,
        }
    }

    /// Weight rows of a block.
    fn rows(self) -> usize {
        64 * self.warpgroups
    }

    fn shared(self, tokens: usize) -> usize {
        1024 + self.stages * 128 * (self.rows() + tokens) + 16 * self.stages
    }
}

/// The product, or `None` where the kernel doesn't take it.
pub fn run(request: &LibraryProduct<'_, CudaRuntime>) -> Option<Tensor> {
    let product = request.product;
    let (tokens, columns) = extents(request.x);
    let rows = product.weight.rows;
    let takes = product.weight.element == Element::Bf16
        && product.norm.is_none()
        && (MIN_TOKENS..=MAX_TOKENS).contains(&tokens)
        && rows.is_multiple_of(16)
        && columns.is_multiple_of(8);
    if !takes {
        return None;
    }
    let cut = Cut::choose(product);
    let room = tokens.next_power_of_two().max(16);
    let function = kernel(request, cut, room)?.function(&request.x.device)?;
    let x = match request.x.dtype {
        DType::BF16 => request.x.clone(),
        DType::F32 => round(request.x),
        _ => return None,
    };
    let out = empty(&x, tokens, product.out_features(), request.dtype);
    let inputs: Vec<_> = [Some(&x), product.residual.as_ref()]
        .into_iter()
        .flatten()
        .map(|input| &input.handle)
        .collect();
    queue(&x.client, &x.device, &inputs, |queue| {
        let map = |tensor: &Tensor, height, box_height| {
            let address = queue.address(&tensor.handle)?;
            bf16_map(address, [columns, height], [1, columns], [BLOCK, box_height])
        };
        let box_height = if product.gated { cut.rows() / 2 } else { cut.rows() };
        let arguments = [
            Argument::Map(map(&product.weight.values, rows, box_height)?),
            Argument::Map(map(&x, tokens, room)?),
            Argument::Address(queue.optional(product.bias.as_ref())?),
            Argument::Address(queue.optional(product.residual.as_ref())?),
            queue.argument(&out.handle)?,
            Argument::int(tokens)?,
            Argument::int(rows)?,
            Argument::int(columns)?,
            Argument::Int(0),
        ];
        let grid = Grid {
            blocks: [cut.split * rows.div_ceil(cut.rows()), 1, 1],
            threads: 128 * cut.warpgroups + 32,
        };
        // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
        unsafe { launch(queue.stream, function, grid, &arguments) }
    })?;
    Some(out)
}

/// The compiled kernel for a product; `None` where it lacks the activation or the element type.
fn kernel(request: &LibraryProduct<'_, CudaRuntime>, cut: Cut, room: usize) -> Option<Kernel<7>> {
    let activation = match request.product.activation {
        Activation::None => 0,
        Activation::GeluTanh => 1,
        Activation::Silu => 2,
        _ => return None,
    };
    let bf16 = match request.dtype {
        DType::F32 => 0,
        DType::BF16 => 1,
        _ => return None,
    };
    Some(Kernel {
        source: include_str!("product.cu"),
        entry: "product",
        definitions: [
            ("TOKENS", room),
            ("WARPGROUPS", cut.warpgroups),
            ("SPLIT", cut.split),
            ("STAGES", cut.stages),
            ("GATED", usize::from(request.product.gated)),
            ("ACTIVATION", activation),
            ("OUT_BF16", bf16),
        ],
        shared: cut.shared(room),
    })
}
