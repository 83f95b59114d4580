//! Products of up to 64 rows with a bf16 weight, and pairs of them with a norm between, by `product.cu`.

use burn::tensor::{DType, Shape};
use burn_cuda::CudaDevice;
use cubecl::cuda::CudaRuntime;

use super::launch::{Argument, Grid, launch};
use super::module::{Function, Kernel};
use super::tensor_map::bf16_map;
use super::{Queue, Tensor, queue};
use crate::kernels::linear::LibraryProduct;
use crate::kernels::native::NormBetween;
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

/// Blocks that fill the chip.
const BLOCKS: usize = 132;

/// Rows of the weight of a group of four warps.
const GROUP_ROWS: usize = 64;

/// Stages of `x` in shared memory.
const X_STAGES: usize = 6;

/// How the work is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cut {
    /// Groups of four warps, each with 64 rows of the weight.
    warpgroups: usize,
    /// Blocks over the columns of the same rows.
    split: usize,
    /// Stages of the weight in shared memory.
    stages: usize,
}

impl Cut {
    /// What measured best on an H100 with 64 rows: where there are too few rows for all processors, blocks share columns.
    fn choose(rows: usize) -> Self {
        let tiles = rows.div_ceil(GROUP_ROWS);
        if tiles >= BLOCKS {
            return Self {
                warpgroups: 2,
                split: 1,
                stages: 8,
            };
        }
        let split = (BLOCKS / tiles).clamp(1, 8);
        Self {
            warpgroups: 1,
            split: 1 << split.ilog2(),
            stages: 12,
        }
    }

    /// Weight rows of a block.
    fn rows(self) -> usize {
        GROUP_ROWS * self.warpgroups
    }

    /// Blocks that take different rows of the weight.
    fn tiles(self, rows: usize) -> usize {
        rows.div_ceil(self.rows())
    }

    fn shared(self, tokens: usize) -> usize {
        let rings = self.stages * (128 * self.rows() + 16) + X_STAGES * (128 * tokens + 16);
        rings + 4 * tokens + 16 * self.warpgroups * tokens.max(32)
    }

    /// Bytes by which the blocks of the same rows exchange their sums.
    fn exchange(self, tokens: usize, rows: usize) -> usize {
        4 * self.split * tokens * self.rows() * self.tiles(rows)
    }
}

/// The weight as the copy engine reads it: of a gated product eight rows of the gate, then the same ones of the up projection.
fn weight_map(queue: &Queue<'_>, product: &Product<CudaRuntime>, cut: Cut) -> Option<Argument> {
    let (rows, columns) = (product.weight.rows, product.weight.columns);
    let address = queue.address(&product.weight.values.handle)?;
    let map = if product.gated {
        let extents = [columns, 8, 2, rows / 16];
        let strides = [1, columns, rows / 2 * columns, 8 * columns];
        bf16_map(address, extents, strides, [BLOCK, 8, 2, cut.rows() / 16])?
    } else {
        bf16_map(address, [columns, rows], [1, columns], [BLOCK, cut.rows()])?
    };
    Some(Argument::Map(map))
}

/// The product, or `None` where the kernel doesn't take it.
pub fn run(request: &LibraryProduct<'_, CudaRuntime>) -> Option<Tensor> {
    let x = request.x;
    let work = Work::new(request.product, extents(x), request.dtype, &x.device)?;
    work.launch(&rows(x)?, &Norms::default())
}

/// Both products of a pair in two launches: the first one leaves its rows as the second one reads them. `None` where the kernel
/// takes only one of them.
pub fn pair(request: &NormBetween<'_, CudaRuntime>) -> Option<[Tensor; 2]> {
    let x = request.x;
    let (tokens, columns) = extents(x);
    let width = request.first.out_features();
    let first = Work::new(request.first, (tokens, columns), DType::F32, &x.device)?;
    let second = Work::new(request.second, (tokens, width), request.dtype, &x.device)?;
    let between = Between::new(x, &first, (tokens, width));
    let behind = Norms {
        behind: Some((request.weight, &between)),
        before: None,
    };
    let sum = first.launch(&rows(x)?, &behind)?;
    let before = Norms {
        before: Some((&between, request.epsilon)),
        behind: None,
    };
    Some([sum, second.launch(&between.rows, &before)?])
}

/// Rows as the kernel reads them.
fn rows(x: &Tensor) -> Option<Tensor> {
    match x.dtype {
        DType::BF16 => Some(x.clone()),
        DType::F32 => Some(round(x)),
        _ => None,
    }
}

/// What one product leaves to another for the norm between them.
struct Between {
    /// Its results times the norm's weight, bf16. Behind them, in the same buffer, lie the sums of its results' squares, f32
    /// `[parts, room]`: as a small buffer of their own they could share their memory with the flow's state, and a recorded graph goes on
    /// writing to it.
    rows: Tensor,
    parts: usize,
}

impl Between {
    fn new(beside: &Tensor, first: &Work<'_>, (tokens, width): (usize, usize)) -> Self {
        let parts = first.cut.tiles(first.product.weight.rows);
        let bytes = 2 * tokens * width + 4 * parts * first.variant.room;
        let (client, device) = (beside.client.clone(), beside.device.clone());
        let handle = client.empty(bytes);
        Self {
            rows: Tensor::new_contiguous(client, device, Shape::new([tokens, width]), handle, DType::BF16),
            parts,
        }
    }

    /// The addresses of the rows and of the sums.
    fn addresses(&self, queue: &Queue<'_>) -> Option<[Argument; 2]> {
        let rows = queue.address(&self.rows.handle)?;
        let squares = rows + 2 * self.rows.meta.num_elements() as u64;
        Some([rows, squares].map(Argument::Address))
    }
}

/// What stands for the norms in front of a product and behind it.
#[derive(Default)]
struct Norms<'a> {
    /// What the product in front left, and what the norm adds to the mean square.
    before: Option<(&'a Between, f64)>,
    /// The norm's weight, and what this product leaves.
    behind: Option<(&'a Tensor, &'a Between)>,
}

impl Norms<'_> {
    /// The last arguments of a launch.
    fn arguments(&self, queue: &Queue<'_>) -> Option<[Argument; 6]> {
        let none = Argument::Address(0);
        let [squares, parts, epsilon] = match self.before {
            Some((between, epsilon)) => [
                between.addresses(queue)?[1],
                Argument::int(between.parts)?,
                Argument::Float(epsilon as f32),
            ],
            None => [none, Argument::Int(0), Argument::Float(0.0)],
        };
        let [weight, rows, sums] = match self.behind {
            Some((weight, between)) => {
                let [rows, sums] = between.addresses(queue)?;
                [queue.argument(&weight.handle)?, rows, sums]
            }
            None => [none; 3],
        };
        Some([squares, parts, epsilon, weight, rows, sums])
    }
}

/// A product that the kernel takes.
struct Work<'a> {
    product: &'a Product<CudaRuntime>,
    cut: Cut,
    variant: Variant,
    function: Function,
}

impl<'a> Work<'a> {
    /// `None` where the kernel doesn't take the product of so many rows and columns.
    fn new(
        product: &'a Product<CudaRuntime>,
        (tokens, columns): (usize, usize),
        dtype: DType,
        device: &CudaDevice,
    ) -> Option<Self> {
        let rows = product.weight.rows;
        let takes = product.weight.element == Element::Bf16
            && product.norm.is_none()
            && (MIN_TOKENS..=MAX_TOKENS).contains(&tokens)
            && product.weight.columns == columns
            && rows.is_multiple_of(if product.gated { 16 } else { 1 })
            && columns.is_multiple_of(8);
        if !takes {
            return None;
        }
        let cut = Cut::choose(rows);
        let variant = Variant::of(product, tokens, dtype)?;
        Some(Self {
            product,
            cut,
            variant,
            function: variant.kernel(cut).function(device)?,
        })
    }

    /// The product of rows in bf16.
    fn launch(&self, x: &Tensor, norms: &Norms<'_>) -> Option<Tensor> {
        let (product, cut, room) = (self.product, self.cut, self.variant.room);
        let ((tokens, columns), rows) = (extents(x), product.weight.rows);
        let out = empty(x, tokens, product.out_features(), self.variant.dtype());
        let inputs = [Some(x), product.residual.as_ref()];
        let inputs: Vec<_> = inputs.into_iter().flatten().map(|input| &input.handle).collect();
        queue(&x.client, &x.device, &inputs, |queue| {
            let x_map = bf16_map(
                queue.address(&x.handle)?,
                [columns, tokens],
                [1, columns],
                [BLOCK, room],
            )?;
            let mut arguments = vec![
                weight_map(queue, product, cut)?,
                Argument::Map(x_map),
                queue.optional(product.bias.as_ref())?,
                queue.optional(product.residual.as_ref())?,
                queue.argument(&out.handle)?,
                Argument::int(tokens)?,
                Argument::int(rows)?,
                Argument::int(columns)?,
                queue.exchange(cut.exchange(room, rows))?,
            ];
            arguments.extend(norms.arguments(queue)?);
            let grid = Grid {
                blocks: [cut.split * cut.tiles(rows), 1, 1],
                threads: 128 * cut.warpgroups + 64,
            };
            // SAFETY: the arguments are those that the source documents, over buffers of the extents it is told.
            unsafe { launch(queue.stream, self.function, grid, &arguments) }
        })?;
        Some(out)
    }
}

/// What is compiled for a product besides its cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    gated: bool,
    activation: usize,
    bf16: bool,
    /// Most rows of `x`.
    room: usize,
}

impl Variant {
    /// `None` where the kernel lacks the activation or the element type.
    fn of(product: &Product<CudaRuntime>, tokens: usize, dtype: DType) -> Option<Self> {
        Some(Self {
            gated: product.gated,
            activation: match product.activation {
                Activation::None => 0,
                Activation::GeluTanh => 1,
                Activation::Silu => 2,
                Activation::GeluErf => return None,
            },
            bf16: match dtype {
                DType::F32 => false,
                DType::BF16 => true,
                _ => return None,
            },
            room: tokens.next_power_of_two().max(16),
        })
    }

    fn dtype(self) -> DType {
        if self.bf16 { DType::BF16 } else { DType::F32 }
    }

    pub(super) fn kernel(self, cut: Cut) -> Kernel<8> {
        Kernel {
            source: include_str!("product.cu"),
            entry: "product",
            definitions: [
                ("TOKENS", self.room),
                ("WARPGROUPS", cut.warpgroups),
                ("SPLIT", cut.split),
                ("STAGES", cut.stages),
                ("X_STAGES", X_STAGES),
                ("GATED", usize::from(self.gated)),
                ("ACTIVATION", self.activation),
                ("OUT_BF16", usize::from(self.bf16)),
            ],
            shared: cut.shared(self.room),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cuda::hopper::module::assert_compiles;

    #[test]
    fn every_cut_compiles() {
        for (rows, gated, activation) in [(16_512, true, 0), (4096, false, 2), (2048, false, 1), (256, false, 0)] {
            for (room, bf16) in [(16, false), (32, true), (64, false)] {
                let variant = Variant {
                    gated,
                    activation,
                    bf16,
                    room,
                };
                assert_compiles(&variant.kernel(Cut::choose(rows)));
            }
        }
    }

    #[test]
    fn blocks_fill_the_chip_without_too_many_waiting_for_each_other() {
        for rows in [16, 256, 2048, 4096, 6144, 8256, 16_512, 155_696] {
            let cut = Cut::choose(rows);
            let blocks = cut.split * rows.div_ceil(cut.rows());
            assert!(cut.split == 1 || blocks <= BLOCKS, "{rows}: {cut:?}");
            assert!(cut.shared(MAX_TOKENS) <= 227 << 10, "{rows}: {cut:?}");
        }
    }
}
